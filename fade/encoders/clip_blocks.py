"""Blocks of CLIP's own vision tower before the projection, as MuSc compares them (arXiv 2401.16753)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, BinaryIO

import numpy as np

from fade.aspect import Shape
from fade.encoder import Encoder
from fade.encoders.protocol import (
    TRANSFORMER_PIXELS,
    Output,
    checked_grid,
    checked_layers,
    checked_pixels,
)
from fade.types import Token

VERSION = 1
"""Raised by hand when the code below gives other numbers; part of every address."""


class ClipBlocks:
    """The vision tower of a CLIP model as an encoder for vision: raw tokens of its blocks.

    Attributes:
        encoder: the model.
        depth: number of blocks.

    Examples:
        >>> from fade.encoder import Encoder
        >>> from importlib.resources import files
        >>> demo = files("pipeline.demo")
        >>> model = Encoder.load(str(demo / "fade-demo.json"), str(demo / "fade-demo.safetensors"))
        >>> blocks = ClipBlocks(model)
        >>> output = blocks.output([3, -1])
        >>> output.label, blocks.encode(np.zeros((1, 64, 32, 3), np.uint8), [output])[output].shape
        ('patch-3+7', (1, 8, 4, 128))
    """

    cpu_pixels = TRANSFORMER_PIXELS

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.name, self.depth = encoder, encoder.name, encoder.depth
        self.mean, self.std, self.precision = encoder.mean, encoder.std, encoder.precision
        self.digest, self.config = encoder.vision_digest, dict[str, Any]()  # it is open_clip's

    def save_weights(self, file: BinaryIO) -> None:
        """Write all weights of the model as the bytes of a safetensors file."""
        self.encoder.save_weights(file)

    def output(
        self, layers: Collection[int], *, norm: bool = False, token: Token = "patch"
    ) -> Output:
        """The output of these blocks, their mean where there are several; ``norm`` is the last one.

        Raises:
            ParameterError: there is no such block.
        """
        return Output(checked_layers(layers, self.depth, self.name, "block"), norm, token)

    def stride(self, output: Output) -> int:
        """Pixels a side of one patch."""
        return self.encoder.patch_size

    def dim(self, output: Output) -> int:
        """Width of the transformer."""
        return self.encoder.width

    def grid(self, pixels: Shape, output: Output) -> Shape:
        """(rows, columns) of patches of an image of (height, width) pixels.

        Raises:
            ParameterError: a side is no multiple of the patch size.
        """
        return checked_grid(pixels, self.encoder.patch_size, self.name)

    def describe(self, output: Output, pixels: Shape) -> dict[str, Any]:
        """All that an output's numbers depend on, besides the image."""
        return {
            "kind": "clip-blocks",
            "version": VERSION,
            "weights": self.digest,
            "architecture": self.encoder.architecture,
            "precision": self.precision,
            **({"attention": "fused"} if self.precision == "bf16" else {}),  # once in panels
            "grid": list(self.grid(pixels, output)),
            "blocks": list(output.layers),
            "norm": output.norm,
            "token": output.token,
        }

    def encode(self, pixels: np.ndarray, outputs: Collection[Output]) -> dict[Output, np.ndarray]:
        """Raw tokens of a batch; blocks behind the last one asked for are not computed.

        Args:
            pixels: (B, H, W, 3) uint8 RGB, H and W multiples of the patch size.
            outputs: what is wanted.

        Returns:
            For each output float32, (B, rows, columns, dim) for patches, (B, dim) for ``cls``.

        Raises:
            ParameterError: other shapes or types of pixels.
        """
        images = checked_pixels(pixels)
        grid = checked_grid((images.shape[1], images.shape[2]), self.encoder.patch_size, self.name)
        wanted = sorted({layer for output in outputs for layer in output.layers})
        normed = {output.norm for output in outputs}
        found = {norm: self.encoder.encode_blocks(images, wanted, norm=norm) for norm in normed}
        arrays: dict[Output, np.ndarray] = {}
        for output in outputs:
            tokens = np.mean([found[output.norm][layer] for layer in output.layers], axis=0)
            arrays[output] = (
                tokens[:, 0]
                if output.token == "cls"
                else tokens[:, 1:].reshape(len(images), *grid, -1)
            )
        return arrays
