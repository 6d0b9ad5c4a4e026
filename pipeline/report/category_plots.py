"""Plots of one category as SVG for the page: scores, curves, pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fade.levels import UNIT, Scale
from fade.metrics import LEVELS, PixelHistogram, pro_curve, recall_curve, roc_curve
from fade.uncertainty import roc_band
from pipeline.report.drawing import ANOMALOUS, FAINT, GOOD, INK
from pipeline.report.svg import DASHED, Axes, round_ticks
from pipeline.report.thinning import along_way, thinned

_BINS = 30
_RATES = np.linspace(0, 1, 51)
_BANDED = 5000
"""Largest number of images of which a band is drawn: of more it is hardly wider than the line."""
_SHARES = ((0.0, "0.0"), (0.5, "0.5"), (1.0, "1.0"))


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing of a category as SVG text."""

    title: str
    svg: str

    @classmethod
    def of(cls, axes: Axes) -> Plot:
        """The plot that axes with their marks have become."""
        return cls(axes.title, axes.svg())


def score_plots(
    scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_], threshold: float | None = None
) -> tuple[Plot, ...]:
    """Draw the scores (N,) of one category against labels (N,), True where anomalous.

    A histogram of good and anomalous images with the threshold as a line, the ROC curve, and the
    curve of precision over recall. A curve that the images leave undefined is replaced by the
    reason. Scores must be finite. Equal scores give equal text.
    """
    return (
        Plot.of(_histogram(scores, is_anomaly, threshold)),
        Plot.of(_roc(scores, is_anomaly)),
        Plot.of(_recall(scores, is_anomaly)),
    )


def pixel_plots(
    histogram: PixelHistogram, pro_limit: float, level: int | None = None, scale: Scale = UNIT
) -> tuple[Plot, ...]:
    """Draw the pixels of one category: how often each level occurs, and the PRO curve.

    Args:
        histogram: of the images whose mask is known.
        pro_limit: false positive rate up to which AUPRO integrates; the curve is drawn up to it.
        level: pixel threshold, a line in the first plot.
        scale: what levels stand for; FADE's are shown as they are.
    """
    return Plot.of(_levels(histogram, level, scale)), Plot.of(_pro(histogram, pro_limit))


def _histogram(
    scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_], threshold: float | None
) -> Axes:
    shown = scores if threshold is None else np.append(scores, threshold)
    low, high = float(shown.min()), float(shown.max())
    largest = max(abs(low), abs(high))
    margin = 0.02 * (high - low)
    if margin <= 1e-9 * largest:  # equal, as far as a plot can tell
        margin = 0.01 * (largest or 1)
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    parts = (("good", GOOD, ~is_anomaly), ("anomalous", ANOMALOUS, is_anomaly))
    counts = [np.histogram(scores[chosen], edges)[0] for _, _, chosen in parts]
    # room above the bars for the legend
    top = 1.25 * max(1, *(int(each.max()) for each in counts))
    beside = 0.05 * (high - low + 2 * margin)
    ends = (low - margin - beside, high + margin + beside)
    ticks, power = round_ticks(*ends, 5)
    axes = Axes("Image scores", f"score{power}", "images", ends, (0, top))
    axes.x_ticks(ticks)
    axes.y_ticks([(at, f"{at:.0f}") for at, _ in round_ticks(0, top, 5, whole=True)[0]])
    for (name, colour, chosen), each in zip(parts, counts, strict=True):
        axes.stairs(each, edges, colour, f"{name} ({np.count_nonzero(chosen)})")
    if threshold is not None:
        axes.rule(threshold)
    return axes


def _levels(histogram: PixelHistogram, level: int | None, scale: Scale) -> Axes:
    bins, count = LEVELS // 4, len(histogram.normal)
    # shares, since there are far more normal pixels; logarithmic, since tails decide
    title, up, shares = "Pixel levels", "pixels, %", (1e-3, 1e3)
    if scale == UNIT:
        low, high = 0.0, float(LEVELS)
        axes = Axes(title, "level", up, (low, high), shares, log=True)
        axes.x_ticks([(at, str(at)) for at in (0, 64, 128, 192, 255)])
    else:
        low, high = scale.offset, scale.offset + count * scale.step
        ticks, power = round_ticks(low, high, 5)
        axes = Axes(title, f"distance{power}", up, (low, high), shares, log=True)
        axes.x_ticks(ticks)
    axes.y_ticks([(1e-2, "0.01"), (1, "1"), (100, "100")])
    edges = np.linspace(low, high, bins + 1)
    for name, colour, counts in (
        ("normal", GOOD, histogram.normal),
        ("defect", ANOMALOUS, histogram.anomalous),
    ):
        share = counts.reshape(bins, -1).sum(axis=1) / max(int(counts.sum()), 1)
        axes.stairs(100 * share, edges, colour, name)
    if level is not None:
        axes.rule(level if scale == UNIT else scale.offset + level * scale.step)
    return axes


def _roc(scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> Axes:
    axes = Axes("ROC of images", "false positive rate", "true positive rate")
    axes.x_ticks(_SHARES)
    axes.y_ticks(_SHARES)
    curve = roc_curve(scores, is_anomaly)
    if curve is None:
        axes.say("needs good and\nanomalous images")
        return axes
    axes.line((0, 1), (0, 1), FAINT, 1, DASHED)
    band = roc_band(scores, is_anomaly, _RATES) if len(scores) <= _BANDED else None
    if band is not None:
        axes.band(_RATES, *band, GOOD)
    return _with_curve(axes, *thinned(curve))


def _recall(scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> Axes:
    axes = Axes("Precision and recall", "recall", "precision")
    axes.x_ticks(_SHARES)
    axes.y_ticks(_SHARES)
    curve = recall_curve(scores, is_anomaly)
    if curve is None:
        axes.say("needs anomalous images")
        return axes
    axes.level(float(is_anomaly.mean()))
    return _with_curve(axes, *thinned(curve))


def _pro(histogram: PixelHistogram, limit: float) -> Axes:
    axes = Axes("PRO", "false positive rate of pixels", "mean overlap of regions", (0, limit))
    axes.x_ticks([(at, f"{at:g}") for at in (0, limit / 2, limit)])
    axes.y_ticks(_SHARES)
    curve = pro_curve(histogram)
    if curve is None:
        axes.say("needs defects with masks\nand normal pixels")
        return axes
    return _with_curve(axes, *along_way(curve, limit))


def _with_curve(axes: Axes, across: NDArray[np.float64], up: NDArray[np.float64]) -> Axes:
    axes.area(across, up, GOOD)
    axes.line(across, up, INK)
    return axes
