"""Plots: of one category's scores as SVG for the page, of the metrics as PNG for ``dvc plots``."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fade.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEAN = "mean"
"""The ``category`` of the rows that hold the mean over categories."""

UNDEFINED = "\u2013"
"""What stands for a number that there is none of: a dash."""

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
_BINS = 30
_POINTS = 300


@contextmanager
def _style() -> Iterator[None]:
    """Draw in our style whatever the user's own settings are; glyphs a font lacks become boxes."""
    from matplotlib import style

    with warnings.catch_warnings(), style.context(["default", _STYLE]):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _figure(width: float, height: float) -> Figure:
    """Make a figure (inches) that never meets a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def score_plots(
    scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_], threshold: float | None = None
) -> str:
    """Draw the scores (N,) of one category against labels (N,), True where anomalous, as SVG.

    Three panels: a histogram of good and anomalous images, the ROC curve, and the curve of
    precision over recall. A curve that the images leave undefined is replaced by the reason.
    Scores must be finite. Equal scores give equal text. A threshold is a line in the histogram.
    """
    with _style():
        figure = _figure(9.6, 2.7)
        histogram, roc, recall = figure.subplots(1, 3)
        _draw_histogram(histogram, scores, is_anomaly, threshold)
        _draw_roc(roc, scores, is_anomaly)
        _draw_recall(recall, scores, is_anomaly)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    # nobody sees a thousandth of a point, and they would be a third of the bytes
    return re.sub(r"(\d\.\d\d)\d+", r"\1", drawn.getvalue())


def _draw_histogram(
    axes: Axes,
    scores: NDArray[np.float64],
    is_anomaly: NDArray[np.bool_],
    threshold: float | None,
) -> None:
    from matplotlib.ticker import MaxNLocator

    top = 1
    low, high = float(scores.min()), float(scores.max())
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
    if threshold is not None:
        axes.axvline(threshold, color=_INK, linewidth=1.2, linestyle="--")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    # room above the bars for the legend
    axes.set(title="Image scores", xlabel="score", ylabel="images", ylim=(0, 1.25 * top))
    axes.legend(loc="upper center", ncols=2, fontsize=8, handlelength=1.2)


def _draw_roc(axes: Axes, scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> None:
    from sklearn.metrics import roc_curve

    axes.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    _unit_square(axes)
    if is_anomaly.all() or not is_anomaly.any():
        _say(axes, "needs good and\nanomalous images")
        return
    false, true = (_thinned(values) for values in roc_curve(is_anomaly, scores)[:2])
    axes.plot((0, 1), (0, 1), color=_FAINT, linewidth=1, linestyle="--")
    axes.plot(false, true, color=_INK, linewidth=1.6, clip_on=False)
    axes.fill_between(false, true, color=_GOOD, alpha=0.12, linewidth=0)


def _draw_recall(axes: Axes, scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> None:
    from sklearn.metrics import precision_recall_curve

    axes.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    _unit_square(axes)
    if not is_anomaly.any():
        _say(axes, "needs anomalous images")
        return
    curve = precision_recall_curve(is_anomaly, scores, drop_intermediate=True)
    precision, recall = (_thinned(values) for values in curve[:2])
    axes.axhline(is_anomaly.mean(), color=_FAINT, linewidth=1, linestyle="--")
    axes.plot(recall, precision, color=_INK, linewidth=1.6, clip_on=False)
    axes.fill_between(recall, precision, color=_GOOD, alpha=0.12, linewidth=0)


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


def write_plots(summary: pd.DataFrame, metrics: pd.DataFrame, folder: Path) -> tuple[Path, ...]:
    """Write ``metrics_by_shots.png`` and ``metrics_by_category.png`` into a folder.

    The first shows the mean over categories for each number of shots, with the standard deviation
    over seeds; the second every category's mean over seeds at the largest number of shots. Without
    metrics both say so. The same tables give the same bytes.

    Args:
        summary: ``category``, ``shots``, ``<metric>_mean`` and ``<metric>_std``.
        metrics: ``category``, ``shots``, ``seed`` and the metrics, with rows ``mean``.
        folder: made if missing.

    Returns:
        The paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _style():
        if metrics.empty or summary.empty:
            by_shots, by_category = _no_metrics(), _no_metrics()
        else:
            by_shots = _by_shots(mean_over_categories(summary, metrics))
            by_category = _by_category(summary)
        paths = (folder / "metrics_by_shots.png", folder / "metrics_by_category.png")
        for figure, path in zip((by_shots, by_category), paths, strict=True):
            figure.savefig(path, dpi=130, metadata={"Software": None})
    return paths


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
