"""What an encoder gives and what a stage may ask of it, whatever the model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np

from fade.aspect import Shape, count_patches
from fade.types import Precision, Token

TRANSFORMER_PIXELS = 9 << 16
"""``cpu_pixels`` of a transformer: two images of 512."""


@dataclass(frozen=True, slots=True, order=True)
class Output:
    """One array that an encoder gives for each image.

    Attributes:
        layers: blocks of a transformer or levels of a convolutional network, counted from 0. Several
            are averaged, which is possible where they share a grid and a width.
        norm: whether the model's final layer norm is applied; transformers only.
        token: ``patch`` for a grid of patches, ``cls`` for one vector of the whole image. Models
            without a class token give the mean of their patches.

    Examples:
        >>> Output((1, 3, 5)).label, Output((11,), norm=True, token="cls").label
        ('patch-1+3+5', 'cls-11-norm')
    """

    layers: tuple[int, ...]
    norm: bool = False
    token: Token = "patch"

    @property
    def label(self) -> str:
        """Short readable name, e.g. ``patch-5``, ``patch-1+3+5`` or ``cls-11-norm``."""
        layers = "+".join(map(str, self.layers))
        return f"{self.token}-{layers}{'-norm' if self.norm else ''}"


class VisionEncoder(Protocol):
    """A frozen network that turns images into patch features, raw and in float32.

    Attributes:
        name: what people chose it by.
        depth: how many layers can be asked for.
        mean, std: of the channels, after pixels are divided by 255.
        digest: hash of the weights and of all settings that features depend on.
        precision: what matrix products are computed in.
        config: what the network is built from, as timm's config.json has it.
        cpu_pixels: of the images that a CPU encodes at once; more take more memory and no less time.
    """

    name: str
    depth: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    precision: Precision
    config: dict[str, Any]
    cpu_pixels: int

    def save_weights(self, file: BinaryIO) -> None:
        """Write the weights as the bytes of a safetensors file."""

    def output(
        self, layers: Collection[int], *, norm: bool = False, token: Token = "patch"
    ) -> Output:
        """The output of these layers; negative ones count from the last.

        Raises:
            ParameterError: there is no such layer, or they cannot be averaged or normed.
        """

    def stride(self, output: Output) -> int:
        """Pixels a side of one cell of an output's grid; 14 or 16 for most transformers."""

    def dim(self, output: Output) -> int:
        """Width of an output's vectors."""

    def grid(self, pixels: Shape, output: Output) -> Shape:
        """(rows, columns) of an output for images of (height, width) pixels.

        Raises:
            ParameterError: a side is no multiple of the output's stride.
        """

    def describe(self, output: Output, pixels: Shape) -> dict[str, Any]:
        """All that an output's numbers depend on, besides the image: the content of its address."""

    def encode(self, pixels: np.ndarray, outputs: Collection[Output]) -> dict[Output, np.ndarray]:
        """Raw features of a batch; layers behind the last one asked for are not computed.

        Args:
            pixels: (B, H, W, 3) uint8 RGB.
            outputs: what is wanted.

        Returns:
            For each output float32, (B, rows, columns, dim) for patches, (B, dim) for ``cls``.

        Raises:
            ParameterError: other shapes or types of pixels.
        """


def checked_pixels(pixels: np.ndarray) -> np.ndarray:
    """A batch of images as an encoder takes it.

    Raises:
        ParameterError: it is not (B, H, W, 3) uint8.
    """
    from fade.errors import ParameterError

    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
        raise ParameterError(
            f"images must be (B, H, W, 3) uint8, not {pixels.shape} {pixels.dtype}"
        )
    return np.require(pixels, requirements=["C", "W"])  # torch wants to be able to write


def checked_layers(layers: Collection[int], depth: int, name: str, kind: str) -> tuple[int, ...]:
    """Layers of a model, ascending and not negative.

    Args:
        layers: negative ones count from the last.
        depth: how many the model has.
        name: of the model, for the message.
        kind: what the model calls a layer: block or level.

    Raises:
        ParameterError: there is none, one is named twice, or one does not exist.
    """
    from fade.errors import ParameterError

    found = sorted(layer + depth if layer < 0 else layer for layer in layers)
    for layer in layers:
        if not -depth <= layer < depth:
            raise ParameterError(
                f"{kind} {layer} is not in {name}, which has {depth} {kind}s: choose 0 to "
                f"{depth - 1}, or -1 for the last"
            )
    if not found or len(set(found)) < len(found):
        raise ParameterError(f"{kind}s {list(layers)} of {name}: give at least one, each once")
    return tuple(found)


def checked_grid(pixels: Shape, stride: int, name: str) -> Shape:
    """(rows, columns) of cells of ``stride`` pixels.

    Raises:
        ParameterError: a side of the image is no multiple of the stride.
    """
    of = f"{stride}, the pixels a side of one patch of {name}"
    rows, columns = (count_patches(side, stride, "image size", of) for side in pixels)
    return rows, columns
