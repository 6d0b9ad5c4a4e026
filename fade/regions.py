"""The defect regions of a mask: which pixels they have, and what each pixel weighs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError


@dataclass(frozen=True, eq=False, slots=True)
class Regions:
    """The defect regions of one mask, ready to be held against any number of maps.

    ``pixels`` (n,) are the defect pixels as positions in the flattened mask, ``weights`` (n,) one
    over the area of the region that each belongs to; a region's weights sum to 1.
    """

    shape: tuple[int, int]
    count: int
    pixels: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Regions:
        """Return the regions of a mask of this shape (H, W) without a defect pixel.

        Examples:
            >>> Regions.none((4, 4)).count
            0
        """
        return cls(shape, 0, np.zeros(0, np.int64), np.zeros(0))


def label_regions(mask: NDArray[np.bool_]) -> Regions:
    """Find the 8-connected regions of a bool mask (H, W), True where defect.

    Raises:
        DataError: the mask is not bool, not two-dimensional, or empty.

    Examples:
        >>> import numpy as np
        >>> regions = label_regions(np.array([[True, False, True], [True, False, False]]))
        >>> regions.count, regions.pixels.tolist(), regions.weights.tolist()
        (2, [0, 2, 3], [0.5, 1.0, 0.5])
    """
    import cv2

    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise DataError(
            f"a mask of dtype {mask.dtype} and shape {mask.shape} cannot be evaluated: "
            "give a bool array of shape (height, width), True where defect"
        )
    part = mask[occupied(mask)]
    found, labels = cv2.connectedComponents(part.astype(np.uint8), connectivity=8)
    own = labels[part]
    areas = np.bincount(own, minlength=found)
    height, width = mask.shape
    return Regions((height, width), found - 1, np.flatnonzero(mask), 1.0 / areas[own])


def occupied(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the smallest rectangle that holds all that is True in a mask (H, W).

    Where nothing is, one pixel: work on the rectangle alone then still has something to work on.

    Examples:
        >>> occupied(np.array([[False, False, False], [False, True, False]]))
        (slice(1, 2, None), slice(1, 2, None))
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return slice(0, 1), slice(0, 1)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
