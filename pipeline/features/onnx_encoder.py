"""An encoder that was taken along as ONNX graphs: what the run's model gives, without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isqrt
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from cache.layout import fingerprint
from fade.aspect import AspectRatio, Shape
from fade.errors import ParameterError, StoreError
from fade.portable.numbers import Numbers
from fade.portable.session import GraphSession
from fade.tiles import Tile, plan_tiles
from fade.types import Feature
from pipeline.config.values import clause
from pipeline.features.pair import of_vision
from pipeline.features.tiling import encode_tiles

CLIP = "encoder"
"""The graph of CLIP, which takes images of any shape."""
MAX_SIDE = 1 << 14
"""Most pixels a side of images that a graph is given."""
_Side = Annotated[int, Field(gt=0, strict=True)]
_Pixels = Annotated[_Side, Field(le=MAX_SIDE)]


@dataclass(frozen=True, slots=True)
class GraphFeature:
    """How a graph gives a feature.

    Attributes:
        pixels: (height, width) that an image is resized to.
        shape: of the feature of one image.
        description: all that the numbers of the run's model depend on.
        output: what the graph calls it.
        position: which of the position embeddings the graph is given; none in graphs of one shape,
            which take one image at a time.
        graph: which of the model's graphs it is of.
    """

    pixels: tuple[_Pixels, _Pixels]
    shape: Annotated[tuple[_Side, ...], Field(min_length=1, max_length=2)]
    description: Mapping[str, Any]
    output: str
    position: str = ""
    graph: str = CLIP

    @property
    def stride(self) -> int:
        """Pixels a side of a patch."""
        return isqrt(self.pixels[0] * self.pixels[1] // self.shape[0])


@dataclass(frozen=True, slots=True)
class GraphTiles:
    """Tiles that images are cut into.

    Attributes:
        cell: pixels a side of a cell of the coarsest layer.
        side, overlap: of a tile, in cells.
    """

    cell: _Pixels
    side: _Pixels
    overlap: Annotated[int, Field(ge=0, le=MAX_SIDE, strict=True)]

    def plan(self, pixels: Shape) -> list[Tile]:
        """The tiles of an image."""
        rows, columns = pixels[0] // self.cell, pixels[1] // self.cell
        return plan_tiles((rows, columns), self.side, self.overlap)


@dataclass(frozen=True, slots=True)
class GraphModel:
    """What is known of an exported model besides its weights.

    Attributes:
        name: of the run's model.
        numbers: of its linear layers.
        dim: width of the joint embedding of images and texts; 0 where texts have no part.
        features: by label.
        digests: SHA-256 of its files, by name.
        compared: how it differs from the run's model, see docs/formats.md.
        tiles: that images are cut into, if they are.
    """

    name: str
    numbers: Numbers
    dim: Annotated[int, Field(strict=True)]
    features: Mapping[str, GraphFeature]
    digests: Mapping[str, str]
    compared: Mapping[str, Any]
    tiles: GraphTiles | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> GraphModel:
        """From what :meth:`as_json` gave; ValueError for anything else."""
        try:
            found = _MODEL.validate_python(content)
        except ValidationError as error:
            raise ValueError(clause(error.errors()[0])) from None
        for feature in found.features.values():
            fingerprint(feature.description)  # which NaN and infinity have none of
        return found

    def as_json(self) -> dict[str, Any]:
        """The same as a file holds it."""
        return asdict(self)


_MODEL = TypeAdapter(GraphModel)


class OnnxEncoder:
    """The features of a run's model by onnxruntime on the CPU.

    Args:
        model: what is known of it.
        sessions: of its graphs, by name.
        positions: by name, float32 (1 + patches, width).

    Attributes:
        model: what is known of it.
    """

    def __init__(
        self,
        model: GraphModel,
        sessions: Mapping[str, GraphSession],
        positions: Mapping[str, np.ndarray],
    ) -> None:
        self.model, self._sessions, self._positions = model, sessions, positions
        self.device, self.name, self.dim = "cpu", model.name, model.dim

    def _of(self, feature: Feature) -> GraphFeature:
        try:
            return self.model.features[feature.label]
        except KeyError:
            raise StoreError(
                f"the ONNX model gives no {feature.label}: write the bundle again with `fade bundle`"
            ) from None

    def pixels(self, feature: Feature, aspect: AspectRatio | None = None) -> Shape:
        """(height, width) in pixels that an image is resized to for a feature."""
        return self._of(feature).pixels

    def shape(self, feature: Feature, aspect: AspectRatio | None = None) -> tuple[int, ...]:
        """Shape of one image's feature."""
        return self._of(feature).shape

    def describe(self, feature: Feature, aspect: AspectRatio | None = None) -> dict[str, Any]:
        """What the run's own model says of a feature."""
        return dict(self._of(feature).description)

    def encode_texts(self, prompts: Sequence[str]) -> np.ndarray:
        """No texts are embedded here (ParameterError)."""
        raise ParameterError("a bundle that runs on ONNX embeds no texts")

    def encode(
        self, images: np.ndarray, features: Collection[Feature], dtype: str
    ) -> dict[Feature, np.ndarray]:
        """Features of a batch.

        Args:
            images: (B, height, width, 3) uint8 RGB, of one size.
            features: what is wanted of them.
            dtype: that the run's store keeps.

        Returns:
            For each feature (B, dim) or (B, patches, dim).

        Raises:
            StoreError: the graph fails, or gives something else.
        """
        wanted = {feature: self._of(feature) for feature in features}
        try:
            found = self._arrays(images, wanted)
        except (ValueError, KeyError, ParameterError) as error:
            raise StoreError(
                f"the bundle's ONNX model cannot be used ({error}): write it again with `fade bundle`"
            ) from None
        with np.errstate(over="ignore"):
            return {feature: array.astype(dtype, copy=False) for feature, array in found.items()}

    def _arrays(
        self, images: np.ndarray, wanted: Mapping[Feature, GraphFeature]
    ) -> dict[Feature, np.ndarray]:
        """Features in float32, tile by tile where there are tiles."""
        tiles = self.model.tiles if all(map(of_vision, wanted)) else None
        if tiles is None:
            found = self._run(images, wanted)
        else:
            found = encode_tiles(
                images, tiles.plan((images.shape[1], images.shape[2])), tiles.cell,
                {feature: one.stride for feature, one in wanted.items()},
                lambda batch: self._run(batch, wanted),
            )  # fmt: skip
        for feature, one in wanted.items():
            # a grid of patches comes row by row
            array = found[feature].reshape(len(images), -1, found[feature].shape[-1])
            array = array if len(one.shape) == 2 else array[:, 0]
            if array.shape != (len(images), *one.shape) or array.dtype != np.float32:
                raise ValueError(f"{feature.label} has shape {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{feature.label} is not finite")
            found[feature] = array
        return found

    def _run(
        self, images: np.ndarray, wanted: Mapping[Feature, GraphFeature]
    ) -> dict[Feature, np.ndarray]:
        """What the graph of these features gives, as it is."""
        ((graph, position),) = {(one.graph, one.position) for one in wanted.values()}
        names = list(dict.fromkeys(one.output for one in wanted.values()))
        given = {"position": self._positions[position]} if position else {}
        # eight-bit numbers have one scale for all that is computed at once
        together = position and self.model.numbers == "fp32"
        size = len(images) if together else 1
        parts = [
            self._sessions[graph].run(given | {"pixels": images[first : first + size]}, names)
            for first in range(0, len(images), size)
        ]
        found = dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))
        return {feature: found[one.output] for feature, one in wanted.items()}
