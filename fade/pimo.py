"""AUPIMO: how much of each defect is found where good images have next to no false alarm.

Source: J. Bertoldo, D. Ameln, A. Vaidya, S. Akcay, AUPIMO: Redefining Visual Anomaly Detection
Benchmarks with High Speed and Low Tolerance, BMVC 2024. The false positive rate of a threshold is shared:
the mean over good images of the share of their pixels that are detected. AUPIMO of an anomalous image is
the mean of its recall, the share of its defect pixels that are detected, over the logarithm of that rate
from 1e-5 to 1e-4.

Maps are cut to 65,536 levels. Between two levels recall rises, whatever lies there, so that the value of
the map itself is between the two sums by steps, :attr:`Pimo.low` and :attr:`Pimo.high`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, counted
from fade.level_counts import occurring
from fade.regions import Regions

LEVELS = 1 << 16
RATES = (1e-5, 1e-4)
"""False positive rates between which recall is averaged."""

_Floats = NDArray[np.float64]


@dataclass(eq=False, slots=True)
class SharedRate:
    """The pixels of good images by level; add two to join their images, or an image in place.

    Attributes:
        shares: the sum over images of the share of its pixels at each level, (65536,).
        images: how many.
        pixels: how many they have in all.

    Examples:
        >>> good = SharedRate.of_image(np.array([[0, 0], [1, 3]], np.uint16))
        >>> good.shares[:4].tolist(), (good + good).images
        ([0.5, 0.25, 0.0, 0.25], 2)
    """

    shares: _Floats
    images: int
    pixels: int

    @classmethod
    def empty(cls) -> SharedRate:
        """Of no image."""
        return cls(np.zeros(LEVELS), 0, 0)

    @classmethod
    def of_image(cls, levels: NDArray[np.uint16]) -> SharedRate:
        """Of the map (H, W) of one good image."""
        found = cls.empty()
        found.add(*occurring(levels))
        return found

    def add(self, levels: NDArray[np.intp], counts: NDArray[np.int64]) -> None:
        """Add a good image: the levels that occur in its map, each once, and its pixels at each."""
        pixels = int(counts.sum())
        self.shares[levels] += counts / pixels
        self.images += 1
        self.pixels += pixels

    def __add__(self, other: SharedRate) -> SharedRate:
        return SharedRate(
            self.shares + other.shares, self.images + other.images, self.pixels + other.pixels
        )

    def undefined(self) -> str:
        """Why no AUPIMO can be told; empty if one can."""
        if not self.images:
            return "no good test image with a map"
        if self.pixels * RATES[0] < 1:
            return (
                f"good test images have {counted(self.pixels, 'pixel')} at evaluation size: a false "
                f"positive rate of {RATES[0]:g} is less than one of them"
            )
        return ""


@dataclass(frozen=True, eq=False, slots=True)
class DefectLevels:
    """The defect pixels of one image by level: ``levels`` (n,), ascending, and ``counts`` (n,).

    Examples:
        >>> from fade.regions import label_regions
        >>> regions = label_regions(np.array([[True, True], [False, False]]))
        >>> defect = DefectLevels.of_image(np.array([[7, 9], [1, 1]], np.uint16), regions)
        >>> defect.recall(np.array([0, 8, 10])).tolist()
        [1.0, 0.5, 0.0]
    """

    levels: NDArray[np.uint16]
    counts: NDArray[np.int32]

    @classmethod
    def of_image(cls, levels: NDArray[np.uint16], regions: Regions) -> DefectLevels:
        """Of the map (H, W) of one image against the regions of its mask."""
        found, counts = np.unique(levels.ravel()[regions.pixels], return_counts=True)
        return cls(found, counts.astype(np.int32))  # kept for all images of a category

    def recall(self, thresholds: NDArray[np.int64]) -> _Floats:
        """The share of defect pixels at or above each threshold (n,)."""
        below = np.concatenate([[0], self.counts.cumsum()])
        return 1 - below[np.searchsorted(self.levels, thresholds)] / below[-1]


@dataclass(frozen=True, slots=True)
class Pimo:
    """AUPIMO of one image, and what it can be at most and at least without levels.

    Examples:
        >>> Pimo(value=0.8, low=0.7, high=0.9).value
        0.8
    """

    value: float
    low: float
    high: float


def aupimo(shared: SharedRate, images: Sequence[DefectLevels]) -> list[Pimo]:
    """AUPIMO of each anomalous image, with recall over the logarithm of the rate by trapezoids.

    Where the rate steps from 0, recall counts as it is at 0.

    Args:
        shared: of the good images.
        images: of anomalous images, each with a defect pixel.

    Raises:
        DataError: there are too few good pixels, see :meth:`SharedRate.undefined`.

    Examples:
        >>> good = SharedRate.of_image(np.zeros((400, 400), np.uint16))
        >>> bad = DefectLevels(np.array([7], np.uint16), np.array([5]))
        >>> aupimo(good, [bad])
        [Pimo(value=1.0, low=1.0, high=1.0)]
    """
    if reason := shared.undefined():
        raise DataError(f"AUPIMO is undefined: {reason}")
    thresholds, widths, middles = _pieces(shared)
    found = []
    for image in images:
        left, right = image.recall(thresholds[0]), image.recall(thresholds[1])
        found.append(
            Pimo(
                _mean(widths, left + middles * (right - left)),
                _mean(widths, left),
                _mean(widths, right),
            )
        )
    return found


def _mean(widths: _Floats, heights: _Floats) -> float:
    # rounding must not lead out of what a share can be
    return float(np.clip(widths @ heights / np.log(RATES[1] / RATES[0]), 0, 1))


def _pieces(shared: SharedRate) -> tuple[NDArray[np.int64], _Floats, _Floats]:
    """The pieces of the axis between the limits, each between two neighbouring levels.

    Returns:
        The thresholds at both ends of each (2, n), its width on the logarithmic axis, and where its
        middle lies between the ends, from 0 to 1.
    """
    # at threshold t lies what is at t or above; LEVELS is a threshold that nothing reaches
    rates = np.concatenate([[0.0], shared.shares[::-1].cumsum()]) / shared.images
    low, high = RATES
    start = np.flatnonzero((rates[1:] > low) & (rates[:-1] < high) & (rates[1:] > rates[:-1]))
    with np.errstate(divide="ignore"):
        ends = np.log(rates)[start], np.log(rates)[start + 1]
    left, right = np.maximum(ends[0], np.log(low)), np.minimum(ends[1], np.log(high))
    known = np.isfinite(ends[0])
    span = np.where(known, ends[1] - np.where(known, ends[0], 0), 1)
    middles = np.where(known, ((left + right) / 2 - np.where(known, ends[0], 0)) / span, 0)
    return np.stack([LEVELS - start, LEVELS - start - 1]), right - left, middles
