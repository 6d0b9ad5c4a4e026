"""What decisions are worth against labels, and how many images each possible threshold would judge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

GOOD, ANOMALOUS, UNKNOWN = 0, 1, -1
"""Labels of images as numbers; unknown where nobody labelled the image."""

CUTS = 100
"""Largest number of thresholds that a slider offers, besides the one that decides."""

Labels = NDArray[np.int8]


def labels_of(scores: pd.DataFrame) -> Labels:
    """The label of each row (n,) of a table with ``is_anomaly``, which is empty where there is none."""
    column = scores["is_anomaly"]
    known = column.notna().to_numpy()
    labels = np.full(len(column), UNKNOWN, np.int8)
    labels[known] = column[known].to_numpy(dtype=bool)
    return labels


def verdict(label: int, score: float, threshold: float | None) -> str:
    """What a threshold makes of one image, in a word or two; empty without a decision.

    >>> [verdict(label, 0.5, 0.4) for label in (ANOMALOUS, GOOD, UNKNOWN)]
    ['found', 'false alarm', 'anomalous']
    >>> [verdict(label, 0.4, 0.4) for label in (ANOMALOUS, GOOD, UNKNOWN)]
    ['missed', 'normal', 'normal']
    """
    if threshold is None or not math.isfinite(score):
        return ""
    if score > threshold:
        return {ANOMALOUS: "found", GOOD: "false alarm"}.get(label, "anomalous")
    return "missed" if label == ANOMALOUS else "normal"


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """How a threshold divides the images of one category.

    Attributes:
        images, good, anomalous: how many there are, those without a label in ``images`` alone.
        called: images above the threshold.
        alarms: good ones above it.
        missed: anomalous ones that are not above it.
    """

    images: int
    good: int
    anomalous: int
    called: int
    alarms: int
    missed: int

    @property
    def f1(self) -> float | None:
        """F1 of the decisions on labelled images; None unless there are both kinds."""
        if not self.good or not self.anomalous:
            return None
        found = self.anomalous - self.missed
        return 2 * found / (2 * found + self.missed + self.alarms)


def count(labels: Labels, scores: NDArray[np.float64], threshold: float) -> VerdictCounts:
    """Count the decisions on images with labels (n,) and finite scores (n,)."""
    above, good, anomalous = scores > threshold, labels == GOOD, labels == ANOMALOUS
    return VerdictCounts(
        len(labels), int(good.sum()), int(anomalous.sum()), int(above.sum()),
        int((above & good).sum()), int((~above & anomalous).sum()),
    )  # fmt: skip


def cuts(scores: NDArray[np.float64], threshold: float | None, most: int = CUTS) -> list[float]:
    """Thresholds worth a look on scores (n,), ascending: between neighbours, and the one that decides.

    Each is the shortest number between two different scores, so that one step judges one image
    anew; of more than ``most`` they are spread evenly over the images. The last one is the highest score.

    >>> cuts(np.array([0.1, 0.25, 0.25, 0.9]), 0.3)
    [0.05, 0.2, 0.3, 0.6, 0.9]
    """
    values = np.unique(scores)
    places = np.unique(
        np.linspace(0, len(values), min(most, len(values)), endpoint=False).astype(int)
    )
    found = {float(values[-1])} if len(values) else set()
    for place in places.tolist():
        high = float(values[place])
        low = float(values[place - 1]) if place else (0.0 if high > 0 else high - 1)
        found.add(_shortest(low, high))
    if threshold is not None:
        found.add(threshold)
    return sorted(found)


def _shortest(low: float, high: float) -> float:
    """The number with the fewest digits from ``low`` to below ``high``, near their middle."""
    middle = (low + high) / 2
    for digits in range(1, 17):
        near = float(f"{middle:.{digits}g}")
        if low <= near < high:
            return near
    return low
