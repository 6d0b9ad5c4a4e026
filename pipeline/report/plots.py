"""Plots: of one category as SVG for the page, of metrics and curves as PNG for ``dvc plots``."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fade.files import whole
from fade.metrics import (
    LEVELS,
    METRICS,
    Curve,
    PixelHistogram,
    pro_curve,
    recall_curve,
    roc_curve,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LayoutName = Literal["constrained"] | None

MEAN = "mean"
"""The ``category`` of the rows that hold the mean over categories."""

UNDEFINED = "\u2013"
"""Text of a number that is undefined: a dash."""

LABELS: dict[str, str] = {
    "full_image_auroc": "Image AUROC",
    "full_image_aupr": "Image AUPR",
    "full_image_f1_max": "Image F1-max",
    "full_pixel_auroc": "Pixel AUROC",
    "full_pixel_f1_max": "Pixel F1-max",
    "full_pixel_au_pro": "Pixel AU-PRO",
    "anomaly_pixel_auroc": "Pixel AUROC, defect images",
    "anomaly_pixel_f1_max": "Pixel F1-max, defect images",
}

CURVES = (
    ("ROC of images", "false positive rate", "true positive rate"),
    ("Precision and recall", "recall", "precision"),
    ("PRO", "false positive rate of pixels", "mean overlap of regions"),
)
"""Title, abscissa and ordinate of the curves that one plot shows of all categories."""

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_GOOD, _ANOMALOUS, _INK, _FAINT = "#2a7fb8", "#d1495b", "#1f2933", "#c9d1d9"
_STYLE: dict[str, Any] = {
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "font.sans-serif": ["DejaVu Sans", "Arial"],
    "font.size": 9,
    "grid.color": "#edf0f3",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fade",
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
}
_TAG, _FINE = re.compile("<[^>]*>"), re.compile(r"(?<=\d\.\d)\d+")
_BINS = 30
_POINTS = 200


@contextmanager
def _style() -> Iterator[None]:
    """Draw in our style whatever the user's own settings are; glyphs a font lacks become boxes."""
    from matplotlib import style

    with warnings.catch_warnings(), style.context(["default", _STYLE]):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _figure(width: float, height: float, layout: LayoutName = "constrained") -> Figure:
    """Make a figure (inches) that never meets a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


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
    histogram: PixelHistogram, pro_limit: float, level: int | None = None
) -> tuple[Plot, ...]:
    """Draw the pixels of one category: how often each level occurs, and the PRO curve.

    Args:
        histogram: of the images whose mask is known.
        pro_limit: false positive rate up to which AUPRO integrates; the curve is drawn up to it.
        level: pixel threshold, a line in the first plot.
    """
    return (
        _plot("Pixel levels", lambda axes: _draw_levels(axes, histogram, level)),
        _plot("PRO", lambda axes: _draw_pro(axes, histogram, pro_limit)),
    )


def _plot(title: str, draw: Callable[[Axes], None]) -> Plot:
    with _style():
        figure = _figure(3.2, 2.7, layout=None)
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
        ("good", _GOOD, ~is_anomaly),
        ("anomalous", _ANOMALOUS, is_anomaly),
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


def _draw_levels(axes: Axes, histogram: PixelHistogram, level: int | None) -> None:
    edges = np.linspace(0, LEVELS, LEVELS // 4 + 1)
    for label, colour, counts in (
        ("normal", _GOOD, histogram.normal),
        ("defect", _ANOMALOUS, histogram.anomalous),
    ):
        share = counts.reshape(-1, 4).sum(axis=1) / max(int(counts.sum()), 1)
        axes.stairs(100 * share, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(100 * share, edges, color=colour, label=label)
    _mark(axes, level)
    # shares, since there are far more normal pixels; logarithmic, since tails decide
    axes.set(xlabel="level", ylabel="pixels, %", xlim=(0, LEVELS), ylim=(1e-3, 1e3), yscale="log")
    axes.minorticks_off()
    axes.set(xticks=(0, 64, 128, 192, 255), yticks=(1e-2, 1, 100), yticklabels=("0.01", "1", "100"))
    axes.legend(loc="upper center", ncols=2, fontsize=8, handlelength=1.2, columnspacing=1)


def _mark(axes: Axes, threshold: float | None) -> None:
    if threshold is not None:
        # below the legend
        axes.axvline(threshold, ymax=0.84, color=_INK, linewidth=1.2, linestyle="--")


def _draw_roc(axes: Axes, scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> None:
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    _unit_square(axes)
    curve = roc_curve(scores, is_anomaly)
    if curve is None:
        _say(axes, "needs good and\nanomalous images")
        return
    axes.plot((0, 1), (0, 1), color=_FAINT, linewidth=1, linestyle="--")
    _draw_curve(axes, *map(_thinned, curve))


def _draw_recall(axes: Axes, scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> None:
    axes.set(xlabel="recall", ylabel="precision")
    _unit_square(axes)
    curve = recall_curve(scores, is_anomaly)
    if curve is None:
        _say(axes, "needs anomalous images")
        return
    axes.axhline(is_anomaly.mean(), color=_FAINT, linewidth=1, linestyle="--")
    _draw_curve(axes, *map(_thinned, curve))


def _draw_pro(axes: Axes, histogram: PixelHistogram, limit: float) -> None:
    axes.set(xlabel="false positive rate of pixels", ylabel="mean overlap of regions")
    _unit_square(axes)
    axes.set(xlim=(0, limit), xticks=(0, limit / 2, limit))
    axes.set_xticklabels([f"{share:g}" for share in (0, limit / 2, limit)])
    curve = pro_curve(histogram)
    if curve is None:
        _say(axes, "needs defects with masks\nand normal pixels")
        return
    _draw_curve(axes, *curve)


def _draw_curve(axes: Axes, across: NDArray[np.float64], up: NDArray[np.float64]) -> None:
    axes.plot(across, up, color=_INK, linewidth=1.6)
    axes.fill_between(across, up, color=_GOOD, alpha=0.12, linewidth=0)


def _thinned(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a curve's points, or as many of them, ends included, as a plot can show."""
    if len(curve) <= _POINTS:
        return curve
    return curve[np.linspace(0, len(curve) - 1, _POINTS).round().astype(np.intp)]


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color="#7b8794", transform=axes.transAxes)


def mean_over_categories(summary: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per number of shots, ascending: ``shots``, ``<metric>_mean``, ``<metric>_std``.

    They are the summary's rows ``mean``; of a summary without any, mean and sample standard
    deviation over seeds of the metrics' rows ``mean``.
    """
    rows = summary[summary["category"].astype(str) == MEAN]
    if rows.empty:
        means = metrics[metrics["category"].astype(str) == MEAN]
        grouped = means.groupby("shots")[list(METRICS)]
        rows = grouped.mean().add_suffix("_mean").join(grouped.std().add_suffix("_std"))
        rows = rows.reset_index()
    return rows.sort_values("shots", kind="stable").reset_index(drop=True)


def write_plots(
    summary: pd.DataFrame,
    metrics: pd.DataFrame,
    folder: Path,
    curves: Mapping[str, Mapping[str, Curve]] | None = None,
    pro_limit: float = 0.3,
) -> tuple[Path, ...]:
    """Write ``metrics_by_shots.png``, ``metrics_by_category.png`` and ``curves.png`` into a folder.

    The first shows the mean over categories for each number of shots, with the standard deviation
    over seeds; the second every category's mean over seeds at the largest number of shots; the third
    the curves of each category in one trial. Without metrics all say so. The same tables give the
    same bytes.

    Args:
        summary: ``category``, ``shots``, ``<metric>_mean`` and ``<metric>_std``.
        metrics: ``category``, ``shots``, ``seed`` and the metrics, with rows ``mean``.
        folder: made if missing.
        curves: by category, those of :data:`CURVES` that it has.
        pro_limit: where PRO curves end.

    Returns:
        The paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _style():
        if metrics.empty or summary.empty:
            figures = [_no_metrics() for _ in range(3)]
        else:
            figures = [
                _by_shots(mean_over_categories(summary, metrics)),
                _by_category(summary),
                _all_curves(curves or {}, pro_limit),
            ]
        names = ("metrics_by_shots.png", "metrics_by_category.png", "curves.png")
        paths = tuple(folder / name for name in names)
        for figure, path in zip(figures, paths, strict=True):
            with whole(path) as part:
                figure.savefig(part, format="png", dpi=130, metadata={"Software": None})
    return paths


def _all_curves(curves: Mapping[str, Mapping[str, Curve]], pro_limit: float) -> Figure:
    figure = _figure(9.6, 3.6 + 0.2 * -(-len(curves) // 5))
    for axes, (title, across, up) in zip(figure.subplots(1, 3), CURVES, strict=True):
        _unit_square(axes)
        if title == "PRO":
            axes.set(xlim=(0, pro_limit), xticks=(0, pro_limit / 2, pro_limit))
        axes.set(title=title, xlabel=across, ylabel=up)
        for number, (category, own) in enumerate(curves.items()):
            # colours repeat after five, lines then change their pattern
            axes.plot(
                *own.get(title, ([], [])),
                color=_COLOURS[number % len(_COLOURS)],
                linestyle=("-", "--", ":", "-.")[number // len(_COLOURS) % 4],
                linewidth=1.5,
                label=_tick(category),
            )
    if curves:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _no_metrics() -> Figure:
    figure = _figure(6, 2)
    axes = figure.subplots()
    axes.axis("off")
    _say(axes, "no metrics: there are no test images")
    return figure


def _by_shots(means: pd.DataFrame) -> Figure:
    shots = [int(k) for k in means["shots"]]
    figure = _figure(9.6, 4.2)
    for axes, level in zip(figure.subplots(1, 2, sharey=True), ("image", "pixel"), strict=True):
        names = [name for name in METRICS if f"_{level}_" in name]
        for i, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
            at = np.arange(len(shots)) + (i - (len(names) - 1) / 2) * 0.06
            axes.errorbar(
                at,
                100 * means[f"{name}_mean"].to_numpy(dtype=np.float64),
                yerr=100 * means[f"{name}_std"].fillna(0).to_numpy(dtype=np.float64),
                color=colour,
                label=LABELS[name],
                marker="o",
                markersize=4.5,
                linewidth=1.6,
                elinewidth=1,
                capsize=2.5,
            )
        axes.set(title=f"{level.capitalize()} level", xlabel="shots")
        axes.set_xticks(range(len(shots)), [str(k) for k in shots])
        axes.set_xlim(-0.5, len(shots) - 0.5)
        axes.set_ylim(0, 102)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8)
    figure.axes[0].set_ylabel("mean over categories, %")
    return figure


def _by_category(summary: pd.DataFrame) -> Figure:
    shots = int(summary["shots"].max())
    rows = summary[summary["shots"] == shots]
    categories = [_tick(name) for name in rows["category"].astype(str)]
    values = 100 * rows[[f"{name}_mean" for name in METRICS]].to_numpy(dtype=np.float64)
    figure = _figure(9.6, 1.7 + 0.32 * len(categories))
    axes = figure.subplots()
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    # the scale goes on beyond 100, so that dark ink can be read on the deepest colour in use
    axes.imshow(values, cmap="GnBu", vmin=20, vmax=170, aspect="auto")
    axes.set_xticks(
        range(len(METRICS)), [LABELS[n].replace(" ", "\n", 1).replace(", ", ",\n") for n in METRICS]
    )
    axes.set_yticks(range(len(categories)), categories)
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.1f}" if np.isfinite(value) else UNDEFINED
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5)
    axes.set_title(f"Metrics in %, {shots} shots, mean over seeds", pad=10)
    return figure


def _tick(name: str) -> str:
    """Return a name that fits beside an axis, whatever characters it holds."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= 32 else f"{shown[:31]}…"
