"""Plots of one category as SVG for the page: scores, curves, pixels."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fade.levels import UNIT, Scale
from fade.metrics import (
    LEVELS,
    Curve,
    PixelHistogram,
    pro_curve,
    recall_curve,
    roc_curve,
)
from pipeline.report.drawing import (
    ANOMALOUS,
    FAINT,
    GOOD,
    INK,
    new_figure,
    own_style,
    unit_square,
    write_in_middle,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TAG, _FINE = re.compile("<[^>]*>"), re.compile(r"(?<=\d\.\d)\d+")
_BINS = 30
_POINTS = 200


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing of a category as SVG text."""

    title: str
    svg: str


def score_plots(
    scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_], threshold: float | None = None
) -> tuple[Plot, ...]:
    """Draw the scores (N,) of one category against labels (N,), True where anomalous.

    A histogram of good and anomalous images with the threshold as a line, the ROC curve, and the
    curve of precision over recall. A curve that the images leave undefined is replaced by the
    reason. Scores must be finite. Equal scores give equal text.
    """
    return (
        _plot("Image scores", lambda axes: _draw_histogram(axes, scores, is_anomaly, threshold)),
        _plot("ROC of images", lambda axes: _draw_roc(axes, scores, is_anomaly)),
        _plot("Precision and recall", lambda axes: _draw_recall(axes, scores, is_anomaly)),
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
    return (
        _plot("Pixel levels", lambda axes: _draw_levels(axes, histogram, level, scale)),
        _plot("PRO", lambda axes: _draw_pro(axes, histogram, pro_limit)),
    )


def _plot(title: str, draw: Callable[[Axes], None]) -> Plot:
    with own_style():
        figure = new_figure(3.2, 2.7, layout=None)
        # one place for all, so that panels side by side line up
        axes = figure.add_axes((0.17, 0.17, 0.78, 0.72))
        axes.set_title(title)
        draw(axes)
        drawn = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(drawn, format="svg", transparent=True, metadata=nothing)
    # nobody sees a hundredth of a point or an indent, and they would be half of the bytes
    svg = _TAG.sub(lambda tag: _FINE.sub("", tag[0]), drawn.getvalue())
    return Plot(title, re.sub(r"(?<=\n) +| (?=\n)", "", svg))


def _draw_histogram(
    axes: Axes,
    scores: NDArray[np.float64],
    is_anomaly: NDArray[np.bool_],
    threshold: float | None,
) -> None:
    from matplotlib.ticker import MaxNLocator

    top = 1
    shown = scores if threshold is None else np.append(scores, threshold)
    low, high = float(shown.min()), float(shown.max())
    margin = 0.02 * (high - low) or 0.01
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    for label, colour, chosen in (
        ("good", GOOD, ~is_anomaly),
        ("anomalous", ANOMALOUS, is_anomaly),
    ):
        counts, _ = np.histogram(scores[chosen], edges)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(counts, edges, color=colour, label=f"{label} ({np.count_nonzero(chosen)})")
        top = max(top, int(counts.max()))
    _mark(axes, threshold)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    # room above the bars for the legend
    axes.set(xlabel="score", ylabel="images", ylim=(0, 1.25 * top))
    axes.legend(loc="upper center", ncols=2, fontsize=8, handlelength=1.2, columnspacing=1)


def _draw_levels(axes: Axes, histogram: PixelHistogram, level: int | None, scale: Scale) -> None:
    bins, count = LEVELS // 4, len(histogram.normal)
    low, high = (
        (0.0, LEVELS) if scale == UNIT else (scale.offset, scale.offset + count * scale.step)
    )
    edges = np.linspace(low, high, bins + 1)
    for label, colour, counts in (
        ("normal", GOOD, histogram.normal),
        ("defect", ANOMALOUS, histogram.anomalous),
    ):
        share = counts.reshape(bins, -1).sum(axis=1) / max(int(counts.sum()), 1)
        axes.stairs(100 * share, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(100 * share, edges, color=colour, label=label)
    _mark(axes, level if level is None or scale == UNIT else scale.offset + level * scale.step)
    # shares, since there are far more normal pixels; logarithmic, since tails decide
    axes.set(xlabel="level", ylabel="pixels, %", xlim=(low, high), ylim=(1e-3, 1e3), yscale="log")
    axes.minorticks_off()
    if scale == UNIT:
        axes.set(xticks=(0, 64, 128, 192, 255))
    else:
        axes.set(xlabel="distance")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    axes.set(yticks=(1e-2, 1, 100), yticklabels=("0.01", "1", "100"))
    axes.legend(loc="upper center", ncols=2, fontsize=8, handlelength=1.2, columnspacing=1)


def _mark(axes: Axes, threshold: float | None) -> None:
    if threshold is not None:
        # below the legend
        axes.axvline(threshold, ymax=0.84, color=INK, linewidth=1.2, linestyle="--")


def _draw_roc(axes: Axes, scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> None:
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    unit_square(axes)
    curve = roc_curve(scores, is_anomaly)
    if curve is None:
        write_in_middle(axes, "needs good and\nanomalous images")
        return
    axes.plot((0, 1), (0, 1), color=FAINT, linewidth=1, linestyle="--")
    _draw_curve(axes, *map(_thinned, curve))


def _draw_recall(axes: Axes, scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> None:
    axes.set(xlabel="recall", ylabel="precision")
    unit_square(axes)
    curve = recall_curve(scores, is_anomaly)
    if curve is None:
        write_in_middle(axes, "needs anomalous images")
        return
    axes.axhline(is_anomaly.mean(), color=FAINT, linewidth=1, linestyle="--")
    _draw_curve(axes, *map(_thinned, curve))


def _draw_pro(axes: Axes, histogram: PixelHistogram, limit: float) -> None:
    axes.set(xlabel="false positive rate of pixels", ylabel="mean overlap of regions")
    unit_square(axes)
    axes.set(xlim=(0, limit), xticks=(0, limit / 2, limit))
    axes.set_xticklabels([f"{share:g}" for share in (0, limit / 2, limit)])
    curve = pro_curve(histogram)
    if curve is None:
        write_in_middle(axes, "needs defects with masks\nand normal pixels")
        return
    _draw_curve(axes, *_sparse(curve, limit))


def _draw_curve(axes: Axes, across: NDArray[np.float64], up: NDArray[np.float64]) -> None:
    axes.plot(across, up, color=INK, linewidth=1.6)
    axes.fill_between(across, up, color=GOOD, alpha=0.12, linewidth=0)


def _sparse(curve: Curve, limit: float) -> Curve:
    """A curve of 65,536 levels by a few points, evenly along its way up to an abscissa."""
    across, up = curve
    if len(across) <= 2 * LEVELS:
        return curve
    upto = min(int(np.searchsorted(across, limit)) + 1, len(across))
    way = np.abs(np.diff(across[:upto], prepend=0)) / limit + np.abs(np.diff(up[:upto], prepend=0))
    way = np.cumsum(way)
    chosen = np.unique(np.searchsorted(way, np.linspace(0, way[-1], _POINTS)).clip(0, upto - 1))
    return across[chosen], up[chosen]


def _thinned(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a curve's points, or as many of them, ends included, as a plot can show."""
    if len(curve) <= _POINTS:
        return curve
    return curve[np.linspace(0, len(curve) - 1, _POINTS).round().astype(np.intp)]
