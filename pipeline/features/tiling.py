"""Encodes images tile by tile, where a network is given tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from fade.tiles import Tile, cut_tiles, stitch

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
    found: dict[Name, list[np.ndarray]] = {name: [] for name in strides}
    for image in images:
        encoded = [encode(np.stack(batch)) for batch in _batches(cut_tiles(image, tiles, whole))]
        for name, stride in strides.items():
            cells = (part for one in encoded for part in one[name])
            scaled = [tile.scaled(whole // stride) for tile in tiles]
            grid = image.shape[0] // stride, image.shape[1] // stride
            found[name].append(stitch(cells, scaled, grid))
    return {name: np.stack(rows) for name, rows in found.items()}


def _batches(tiles: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    """Tiles of equal shape, so many at once as have :data:`TILE_PIXELS`."""
    height, width = tiles[0].shape[:2]
    count = max(1, TILE_PIXELS // (height * width))
    for start in range(0, len(tiles), count):
        yield tiles[start : start + count]
