"""The pixels of one map by level, at the levels that occur: what sums over many images are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError
from fade.regions import Regions

LEVELS = 256
"""Levels of a uint8 map."""
LEVELS_OF: Mapping[np.dtype, int] = {np.dtype(np.uint8): LEVELS, np.dtype(np.uint16): 1 << 16}
"""Levels of a map by its type."""

_PIECE = 1 << 18
"""Pixels that are counted at once, since counting casts to int64."""


@dataclass(frozen=True, eq=False, slots=True)
class LevelCounts:
    """The pixels of one map against the regions of its mask.

    Attributes:
        size: levels that a map of its type can have, 256 or 65,536.
        levels: those that occur, (n,) ascending.
        normal: pixels outside regions at each of them, (n,).
        anomalous: pixels inside regions, (n,).
        pro: the sum over regions of the share of the region's pixels, (n,).
        regions: how many there are.

    Examples:
        >>> from fade.regions import label_regions
        >>> regions = label_regions(np.array([[True, False, False]]))
        >>> image = LevelCounts.of_image(np.array([[255, 0, 0]], np.uint8), regions)
        >>> image.levels.tolist(), image.normal.tolist(), image.anomalous.tolist()
        ([0, 255], [2, 0], [0, 1])
    """

    size: int
    levels: NDArray[np.intp]
    normal: NDArray[np.int64]
    anomalous: NDArray[np.int64]
    pro: NDArray[np.float64]
    regions: int

    @classmethod
    def of_image(
        cls, levels: NDArray[np.uint8] | NDArray[np.uint16], regions: Regions
    ) -> LevelCounts:
        """Count the pixels of a map (H, W), uint8 or uint16.

        Raises:
            DataError: the map is of another type, or not of the mask's shape.

        Examples:
            >>> from fade.regions import label_regions
            >>> levels = np.array([[7, 200, 7]], np.uint8)
            >>> one = LevelCounts.of_image(levels, label_regions(levels > 100))
            >>> one.levels.tolist(), one.normal.tolist(), one.anomalous.tolist()
            ([7, 200], [2, 0], [0, 1])
        """
        size = LEVELS_OF.get(levels.dtype)
        if size is None or levels.shape != regions.shape:
            raise DataError(
                f"a map of dtype {levels.dtype} and shape {levels.shape} cannot be evaluated: "
                f"it must be uint8 or uint16, and of its mask's shape {regions.shape}; resize it first"
            )
        flat = levels.ravel()
        found, counts = occurring(flat)
        places = np.searchsorted(found, flat[regions.pixels])
        anomalous = np.bincount(places, minlength=found.size)
        pro = np.asarray(np.bincount(places, regions.weights, found.size), np.float64)
        return cls(size, found, counts - anomalous, anomalous, pro, regions.count)


def occurring(
    levels: NDArray[np.unsignedinteger],
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The levels that occur in a uint8 or uint16 map, ascending, and how often each does.

    Examples:
        >>> [found.tolist() for found in occurring(np.array([[3, 9], [9, 9]], np.uint16))]
        [[3, 9], [1, 3]]
    """
    flat, size = levels.ravel(), LEVELS_OF[levels.dtype]
    if flat.size < size // 4:  # then sorting is faster than a look at all levels
        flat = np.sort(flat)
        starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
        return flat[starts].astype(np.intp), np.diff(starts, append=flat.size)
    pieces = (flat[at : at + _PIECE] for at in range(0, flat.size, _PIECE))
    counts = sum((_counts(piece, size) for piece in pieces), np.zeros(size, int))
    found = np.flatnonzero(counts)
    return found, counts[found]


def _counts(piece: NDArray[np.unsignedinteger], size: int) -> NDArray[np.int64]:
    """How often each level occurs in at most :data:`_PIECE` pixels."""
    if size > LEVELS:
        return np.bincount(piece, minlength=size)
    import cv2

    # four times as fast; float32 counts so few pixels exactly
    found = cv2.calcHist([piece], [0], None, [size], [0, size])
    return found.ravel().astype(np.int64)
