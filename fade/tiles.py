"""Overlapping tiles of large images: which are encoded, and which of their cells are kept.

Each tile is encoded alone, so that memory does not grow with the image; of two neighbours each keeps
its half of the overlap. Source: Roming et al., SuperADD, CVPR 2026 workshop, arXiv 2605.14808.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from fade.aspect import Shape
from fade.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Span:
    """Where a tile lies on one axis, in cells.

    Attributes:
        start, length: of the tile.
        first, last: the cells that it gives to the whole, counted on the whole axis.
    """

    start: int
    length: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: its span of rows and its span of columns."""

    rows: Span
    columns: Span

    @property
    def shape(self) -> Shape:
        """(rows, columns) of cells of the tile."""
        return self.rows.length, self.columns.length

    def scaled(self, factor: int) -> Tile:
        """The same tile on a grid that is so many times as fine.

        Examples:
            >>> span = Span(1, 2, 1, 3)
            >>> Tile(span, span).scaled(2).rows
            Span(start=2, length=4, first=2, last=6)
        """
        if factor == 1:
            return self
        rows, columns = (
            Span(s.start * factor, s.length * factor, s.first * factor, s.last * factor)
            for s in (self.rows, self.columns)
        )
        return Tile(rows, columns)

    def give(self, part: np.ndarray, whole: np.ndarray) -> None:
        """Write the cells that this tile gives into those of the whole.

        Args:
            part: (rows, columns, ...) of the tile.
            whole: (rows, columns, ...) of the whole image.

        Examples:
            >>> whole = np.zeros((1, 4), int)
            >>> Tile(Span(0, 1, 0, 1), Span(1, 3, 2, 4)).give(np.array([[7, 8, 9]]), whole)
            >>> whole.tolist()
            [[0, 0, 8, 9]]
        """
        rows, columns = (
            slice(s.first - s.start, s.last - s.start) for s in (self.rows, self.columns)
        )
        whole[self.rows.first : self.rows.last, self.columns.first : self.columns.last] = part[
            rows, columns
        ]


def axis_spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Spans that cover an axis.

    There are ``ceil((length - tile) / (tile - 2 overlap)) + 1`` of them, evenly spread; of an overlap
    the earlier one loses ``floor(half)``, the later one ``ceil(half)`` cells.

    Args:
        length: of the axis in cells; one that is shorter than a tile is covered by one short tile.
        tile: cells a side of a tile.
        overlap: cells that neighbours share at least; below half a tile.

    Raises:
        ParameterError: sizes that cover nothing.
    """
    if overlap < 0 or tile <= 2 * overlap or length < 1:
        raise ParameterError(
            f"tiles of {tile} cells with an overlap of {overlap} on {length} cells: a tile must be "
            "longer than twice the overlap"
        )
    tile = min(tile, length)
    step = max(tile - 2 * overlap, 1)
    count = -(-(length - tile) // step) + 1
    starts = [i * (length - tile) // max(1, count - 1) for i in range(count)]
    borders = [
        0,
        *(later + -(-(earlier + tile - later) // 2) for earlier, later in pairwise(starts)),
    ]
    return [
        Span(start, tile, first, last)
        for start, first, last in zip(starts, borders, [*borders[1:], length], strict=True)
    ]


def plan_tiles(grid: Shape, tile: int, overlap: int) -> list[Tile]:
    """Tiles of an image, row by row; each cell of the grid is kept from exactly one of them.

    Args:
        grid: (rows, columns) of cells of the whole image.
        tile, overlap: in cells, see :func:`axis_spans`.

    Raises:
        ParameterError: the tile is larger than the image, or not longer than twice the overlap.

    Examples:
        >>> tiles = plan_tiles((4, 10), tile=4, overlap=1)
        >>> [(tile.columns.start, tile.columns.first, tile.columns.last) for tile in tiles]
        [(0, 0, 3), (2, 3, 5), (4, 5, 7), (6, 7, 10)]
    """
    if tile > max(grid):
        raise ParameterError(
            f"tiles of {tile} x {tile} patches are larger than the image of {grid[0]} x {grid[1]}: "
            "use smaller tiles or larger sizes"
        )
    spans = (axis_spans(length, tile, overlap) for length in grid)
    return [Tile(rows, columns) for rows, columns in product(*spans)]


def cut_tiles(pixels: np.ndarray, tiles: Sequence[Tile], patch: int) -> list[np.ndarray]:
    """Views of an image's pixels for each tile.

    Args:
        pixels: (H, W, 3), whole cells.
        tiles: of :func:`plan_tiles`.
        patch: pixels a side of a cell.

    Examples:
        >>> tiles = plan_tiles((4, 10), tile=4, overlap=1)
        >>> [part.shape for part in cut_tiles(np.zeros((56, 140, 3), np.uint8), tiles, patch=14)]
        [(56, 56, 3), (56, 56, 3), (56, 56, 3), (56, 56, 3)]
    """
    return [
        pixels[
            t.rows.start * patch : (t.rows.start + t.rows.length) * patch,
            t.columns.start * patch : (t.columns.start + t.columns.length) * patch,
        ]
        for t in tiles
    ]


def stitch(parts: Iterable[np.ndarray], tiles: Sequence[Tile], grid: Shape) -> np.ndarray:
    """The whole grid from what was computed for each tile.

    Args:
        parts: (rows, columns, dim) of each tile, in the order of ``tiles``; one at a time is enough.
        tiles: of :func:`plan_tiles`.
        grid: (rows, columns) of the whole.

    Returns:
        (rows, columns, dim).

    Examples:
        >>> tiles = plan_tiles((1, 4), tile=2, overlap=0)
        >>> stitch([np.full((1, 2, 1), n) for n in (7, 8)], tiles, (1, 4)).ravel().tolist()
        [7, 7, 8, 8]
    """
    whole: np.ndarray | None = None
    for t, part in zip(tiles, parts, strict=True):
        if whole is None:
            whole = np.empty((*grid, *part.shape[2:]), part.dtype)
        t.give(part, whole)
    if whole is None:
        raise ParameterError("there is no tile to stitch")
    return whole
