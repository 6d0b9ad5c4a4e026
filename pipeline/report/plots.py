"""Plots of metrics and curves over all categories, as PNG for ``dvc plots``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fade.files import atomic_write
from fade.metrics import METRIC_NAMES, Curve
from pipeline.report.drawing import (
    COLOURS,
    new_axes,
    new_figure,
    own_style,
    unit_square,
    write_in_middle,
    write_png,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


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


def mean_over_categories(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary's rows ``mean``, one for each number of shots, ascending."""
    rows = summary[summary["category"].astype(str) == MEAN]
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
    with own_style():
        if metrics.empty or summary.empty:
            figures = [_no_metrics() for _ in range(3)]
        else:
            figures = [
                _by_shots(mean_over_categories(summary)),
                _by_category(summary),
                _all_curves(curves or {}, pro_limit),
            ]
        names = ("metrics_by_shots.png", "metrics_by_category.png", "curves.png")
        paths = tuple(folder / name for name in names)
        for figure, path in zip(figures, paths, strict=True):
            with atomic_write(path) as part:
                write_png(figure, part)
    return paths


def _all_curves(curves: Mapping[str, Mapping[str, Curve]], pro_limit: float) -> Figure:
    rows = -(-len(curves) // 5)
    figure, panels = new_axes(9.6, 3.6 + 0.2 * rows, 3, left=0.51, bottom=0.56 + 0.167 * rows)
    for axes, (title, across, up) in zip(panels, CURVES, strict=True):
        unit_square(axes)
        if title == "PRO":
            axes.set(xlim=(0, pro_limit), xticks=(0, pro_limit / 2, pro_limit))
        axes.set(title=title, xlabel=across, ylabel=up)
        for number, (category, own) in enumerate(curves.items()):
            # colours repeat after five, lines then change their pattern
            axes.plot(
                *own.get(title, ([], [])),
                color=COLOURS[number % len(COLOURS)],
                linestyle=("-", "--", ":", "-.")[number // len(COLOURS) % 4],
                linewidth=1.5,
                label=_tick(category),
            )
    if curves:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=5, fontsize=8)
    return figure


def _no_metrics() -> Figure:
    figure = new_figure(6, 2)
    axes = figure.subplots()
    axes.axis("off")
    write_in_middle(axes, "no metrics: there are no test images")
    return figure


def _by_shots(means: pd.DataFrame) -> Figure:
    shots = [int(k) for k in means["shots"]]
    figure, panels = new_axes(9.6, 4.2, 2, left=0.55, bottom=1.04, shared=True)
    for axes, level in zip(panels, ("image", "pixel"), strict=True):
        names = [name for name in METRIC_NAMES if f"_{level}_" in name]
        for i, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
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
    values = 100 * rows[[f"{name}_mean" for name in METRIC_NAMES]].to_numpy(dtype=np.float64)
    figure = new_figure(9.6, 1.7 + 0.32 * len(categories), layout="constrained")
    axes = figure.subplots()
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    # the scale goes on beyond 100, so that dark ink can be read on the deepest colour in use
    axes.imshow(values, cmap="GnBu", vmin=20, vmax=170, aspect="auto")
    axes.set_xticks(
        range(len(METRIC_NAMES)),
        [LABELS[n].replace(" ", "\n", 1).replace(", ", ",\n") for n in METRIC_NAMES],
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
