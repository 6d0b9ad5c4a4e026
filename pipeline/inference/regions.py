"""Regions of a mask: connected pixels with their box, area, highest level and outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
"""(x, y): a corner of pixels, from (0, 0) to (width, height)."""
Ring = list[Point]
"""Corners of a closed polygon; the first is not repeated."""


@dataclass(frozen=True, slots=True)
class MaskRegion:
    """A connected group of pixels.

    Attributes:
        box: (left, top, width, height) in pixels.
        area: how many pixels.
        level: the highest of them.
        polygons: outlines along the edges of pixels, without holes; several where parts touch at
            corners alone.
    """

    box: tuple[int, int, int, int]
    area: int
    level: int
    polygons: list[Ring]


def mask_regions(mask: NDArray[np.bool_], levels: NDArray[np.unsignedinteger]) -> list[MaskRegion]:
    """The 8-connected regions of a mask, the one with the highest level first.

    Args:
        mask: (height, width).
        levels: of the same pixels.
    """
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    found = []
    for number in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[number])
        window = np.s_[top : top + height, left : left + width]
        inside = labels[window] == number
        rings = [[(x + left, y + top) for x, y in ring] for ring in outlines(inside)]
        region = (left, top, width, height), area, int(levels[window][inside].max()), rings
        found.append(MaskRegion(*region))
    return sorted(found, key=lambda region: (-region.level, -region.area, region.box))


def outlines(mask: NDArray[np.bool_]) -> list[Ring]:
    """The outer outlines of a mask along the edges of its pixels, clockwise; holes have none.

    Pixels that touch at a corner alone get outlines of their own, so that no outline crosses itself.

    Args:
        mask: (height, width).

    Examples:
        >>> outlines(np.array([[True, True], [True, False]]))
        [[(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]]
    """
    padded = np.pad(mask, 1)
    core = padded[1:-1, 1:-1]
    ends: dict[Point, list[Point]] = {}
    # with the inside on the right hand: (outside beyond that edge, start, end) of each edge of a pixel
    edges = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for beyond, (x0, y0), (x1, y1) in edges:
        for y, x in np.argwhere(core & ~beyond).tolist():
            ends.setdefault((x + x0, y + y0), []).append((x + x1, y + y1))
    rings = []
    for start in sorted(ends, key=lambda point: (point[1], point[0])):
        while ends.get(start):
            ring = _ring(ends, start)
            if _signed_area(ring) > 0:
                rings.append(ring)
    return rings


def _ring(ends: dict[Point, list[Point]], start: Point) -> Ring:
    """Follow edges, which are used up, from a corner back to it; only corners where it turns are kept."""
    ring, here = [start], ends[start].pop()
    while here != start:
        ring.append(here)
        here = _next(ends[here], ring[-2], here)
    return [
        point
        for before, point, after in zip([ring[-1], *ring], ring, [*ring[1:], ring[0]], strict=False)
        if not (before[0] == point[0] == after[0] or before[1] == point[1] == after[1])
    ]


def _next(choices: list[Point], before: Point, here: Point) -> Point:
    """The end of the next edge; of two the one to the right, which stays with the same pixel."""
    if len(choices) == 1:
        return choices.pop()
    dx, dy = here[0] - before[0], here[1] - before[1]
    right = (here[0] - dy, here[1] + dx)
    return choices.pop(choices.index(right))


def _signed_area(ring: Ring) -> float:
    """By the shoelace formula; above 0 where it goes clockwise, with y downwards."""
    after = [*ring[1:], ring[0]]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, after, strict=True)) / 2
