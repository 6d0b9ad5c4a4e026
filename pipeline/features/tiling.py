"""Encodes images tile by tile, where a network is given tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from cache.layout import batched
from fade.tiles import Tile, cut_tiles

TILE_PIXELS = 1 << 22
"""Pixels of tiles that are encoded at once, which bounds the memory."""
Name = TypeVar("Name")


def encode_tiles(
    images: np.ndarray,
    tiles: Sequence[Tile],
    whole: int,
    strides: Mapping[Name, int],
    encode: Callable[[np.ndarray], Mapping[Name, np.ndarray]],
) -> dict[Name, np.ndarray]:
    """The outputs of whole images, stitched of those of their tiles.

    Args:
        images: (B, height, width, 3).
        tiles: in cells of ``whole`` pixels.
        whole: pixels a side of a cell of the coarsest output.
        strides: of each output, pixels a side of its cells.
        encode: of (n, height, width, 3) by output (n, rows, columns, dim).

    Returns:
        By output (B, rows, columns, dim).
    """
    rows, columns = tiles[0].shape
    at_once = max(1, TILE_PIXELS // (rows * columns * whole**2))
    found: dict[Name, np.ndarray] = {}
    for row, image in enumerate(images):
        for batch in batched(zip(tiles, cut_tiles(image, tiles, whole), strict=True), at_once):
            encoded = encode(np.stack([pixels for _, pixels in batch]))
            for position, (tile, _) in enumerate(batch):
                for name, stride in strides.items():
                    part = encoded[name][position]
                    if name not in found:
                        grid = image.shape[0] // stride, image.shape[1] // stride
                        found[name] = np.empty((len(images), *grid, *part.shape[2:]), part.dtype)
                    tile.scaled(whole // stride).give(part, found[name][row])
    return found
