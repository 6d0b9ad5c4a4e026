"""Encodes images tile by tile, where a network is given tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from cache.layout import batched
from fade.tiles import Tile, cut_tiles

TILE_PIXELS = 1 << 20
"""Pixels of tiles that are encoded at once, which bounds the memory; more take no less time."""
GPU_TILE_PIXELS = 1 << 22
"""The same for a GPU, which has more to fill."""
Name = TypeVar("Name")


def encode_tiles(
    images: np.ndarray,
    tiles: Sequence[Tile],
    whole: int,
    strides: Mapping[Name, int],
    encode: Callable[[np.ndarray], Mapping[Name, np.ndarray]],
    device: str = "cpu",
) -> dict[Name, np.ndarray]:
    """The outputs of whole images, stitched of those of their tiles.

    Args:
        images: (B, height, width, 3).
        tiles: in cells of ``whole`` pixels.
        whole: pixels a side of a cell of the coarsest output.
        strides: of each output, pixels a side of its cells.
        encode: of (n, height, width, 3) by output (n, rows, columns, dim).
        device: that it computes on.

    Returns:
        By output (B, rows, columns, dim).
    """
    rows, columns = tiles[0].shape
    pixels = GPU_TILE_PIXELS if device == "cuda" else TILE_PIXELS
    at_once = max(1, pixels // (rows * columns * whole**2))
    found: dict[Name, np.ndarray] = {}

    def add(row: int, batch: Sequence[tuple[Tile, np.ndarray]]) -> None:
        encoded = encode(np.stack([cut for _, cut in batch]))
        for name, stride in strides.items():
            if name not in found:
                grid = images.shape[1] // stride, images.shape[2] // stride
                first = encoded[name]
                found[name] = np.empty((len(images), *grid, *first.shape[3:]), first.dtype)
            for (tile, _), part in zip(batch, encoded[name], strict=True):
                tile.scaled(whole // stride).give(part, found[name][row])

    for row, image in enumerate(images):
        for batch in batched(zip(tiles, cut_tiles(image, tiles, whole), strict=True), at_once):
            add(row, batch)  # of which nothing is kept while the next ones are encoded
    return found
