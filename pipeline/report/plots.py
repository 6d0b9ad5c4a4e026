"""Plots of metrics and curves over all categories, as SVG for ``dvc plots``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fade.errors import counted
from fade.files import write_file
from fade.metrics import METRIC_NAMES, Curve
from pipeline.report.drawing import COLOURS, MUTED
from pipeline.report.svg import (
    HEIGHT,
    WIDTH,
    Axes,
    Dashes,
    drawing,
    line_key,
    text_width,
    write_text,
)
from pipeline.report.thinning import along_way, thinned

if TYPE_CHECKING:
    import pandas as pd


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
    "full_pixel_au_pro": "Pixel AUPRO",
    "anomaly_pixel_auroc": "Pixel AUROC, defect images",
    "anomaly_pixel_f1_max": "Pixel F1-max, defect images",
}

CURVES = (
    ("ROC of images", "false positive rate", "true positive rate"),
    ("Precision and recall", "recall", "precision"),
    ("PRO", "false positive rate of pixels", "mean overlap of regions"),
)
"""Title, abscissa and ordinate of the curves that one plot shows of all categories."""

_PATTERNS: tuple[Dashes, ...] = ((), (3.7, 1.6), (1, 1.6), (6.4, 1.6, 1, 1.6))
_DEPTHS = (20, 40, 60, 80, 100)
_SHADES = ((247, 252, 240), (224, 243, 219), (204, 235, 197), (168, 221, 181), (123, 204, 196))
"""Colours of a metric's cell at these percents: even the deepest lets dark ink be read."""
_CELL = (69.0, 23.0)
"""Width and height of a cell in points."""


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
    """Write ``metrics_by_shots.svg``, ``metrics_by_category.svg`` and ``curves.svg`` into a folder.

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
    if metrics.empty or summary.empty:
        drawn = [_no_metrics()] * 3
    else:
        drawn = [
            _by_shots(mean_over_categories(summary)),
            _by_category(summary),
            _all_curves(curves or {}, pro_limit),
        ]
    names = ("metrics_by_shots.svg", "metrics_by_category.svg", "curves.svg")
    paths = tuple(folder / name for name in names)
    for path, text in zip(paths, drawn, strict=True):
        write_file(path, text)
    return paths


def _no_metrics() -> str:
    said = "no metrics: there are no test images"
    return drawing(
        WIDTH, HEIGHT, write_text(WIDTH / 2, HEIGHT / 2, said, colour=MUTED, anchor="middle")
    )


def _all_curves(curves: Mapping[str, Mapping[str, Curve]], pro_limit: float) -> str:
    names = [_tick(category) for category in curves]
    # colours repeat after five, lines then change their pattern
    styles = [
        (COLOURS[n % len(COLOURS)], _PATTERNS[n // len(COLOURS) % len(_PATTERNS)])
        for n in range(len(names))
    ]
    panels = []
    for title, across, up in CURVES:
        end = pro_limit if title == "PRO" else 1.0
        axes = Axes(title, across, up, (0, end))
        axes.x_ticks([(share * end, f"{share * end:g}") for share in (0, 0.5, 1)])
        axes.y_ticks([(share, f"{share:g}") for share in (0, 0.5, 1)])
        for (colour, dashes), own in zip(styles, curves.values(), strict=True):
            if curve := own.get(title):
                shown = along_way(curve, end) if title == "PRO" else thinned(curve)
                axes.line(*shown, colour, 1.5, dashes)
        panels.append(axes)
    return _beside(panels, names, styles)


def _by_shots(means: pd.DataFrame) -> str:
    shots = [int(k) for k in means["shots"]]
    panels, names, styles = [], [], []
    for level in ("image", "pixel"):
        of_level = [name for name in METRIC_NAMES if f"_{level}_" in name]
        axes = Axes(
            f"{level.capitalize()} level", "shots", "mean over categories, %",
            (-0.5, len(shots) - 0.5), (0, 102),
        )  # fmt: skip
        axes.x_ticks([(at, str(k)) for at, k in enumerate(shots)])
        axes.y_ticks([(at, str(at)) for at in range(0, 101, 20)])
        for i, (name, colour) in enumerate(zip(of_level, COLOURS, strict=False)):
            at = np.arange(len(shots)) + (i - (len(of_level) - 1) / 2) * 0.06
            middle = 100 * means[f"{name}_mean"].to_numpy(dtype=np.float64)
            around = 100 * means[f"{name}_std"].fillna(0).to_numpy(dtype=np.float64)
            known = np.isfinite(middle)
            if known.any():
                axes.line(at[known], middle[known], colour)
            axes.dots(at[known], middle[known], around[known], colour)
            names.append(LABELS[name])
            styles.append((colour, ()))
        panels.append(axes)
    return _beside(panels, names, styles)


def _beside(
    panels: Sequence[Axes], names: Sequence[str], styles: Sequence[tuple[str, Dashes]]
) -> str:
    """Plots side by side above a legend of lines, each with its name, colour and dashes."""
    width = len(panels) * WIDTH
    marks, height = line_key(names, styles, width)
    placed = [axes.svg(number * WIDTH) for number, axes in enumerate(panels)]
    below = [f'<g transform="translate(0 {HEIGHT})">', *marks, "</g>"]
    return drawing(width, HEIGHT + height, *placed, *below)


def _by_category(summary: pd.DataFrame) -> str:
    shots = int(summary["shots"].max())
    rows = summary[summary["shots"] == shots]
    categories = [_tick(name) for name in rows["category"].astype(str)]
    values = 100 * rows[[f"{name}_mean" for name in METRIC_NAMES]].to_numpy(dtype=np.float64)
    (wide, high), top = _CELL, 54.0
    left = 14 + max(text_width(name, 9) for name in categories)
    title = f"Metrics in %, {counted(shots, 'shot')}, mean over seeds"
    marks = [f'<text x="8" y="15" font-size="10" font-weight="bold">{escape(title)}</text>']
    for column, name in enumerate(METRIC_NAMES):
        lines = LABELS[name].replace(" ", "\n", 1).replace(", ", ",\n").splitlines()
        for number, line in enumerate(lines):
            y = top - 5 - 11 * (len(lines) - 1 - number)
            marks.append(write_text(left + (column + 0.5) * wide, y, line, anchor="middle"))
    for row, category in enumerate(categories):
        marks.append(write_text(left - 6, top + (row + 0.5) * high + 3, category, anchor="end"))
    for (row, column), value in np.ndenumerate(values):
        x, y = left + column * wide, top + row * high
        shown = f"{value:.1f}" if np.isfinite(value) else UNDEFINED
        marks.append(f'<path d="M{x:.1f} {y:.1f}h{wide}v{high}h-{wide}z" fill="{_shade(value)}"/>')
        marks.append(write_text(x + wide / 2, y + high / 2 + 3, shown, anchor="middle"))
    return drawing(left + len(METRIC_NAMES) * wide + 8, top + len(categories) * high + 8, *marks)


def _shade(value: float) -> str:
    """The colour of a cell with so many percent; white where there is no number."""
    if not np.isfinite(value):
        return "#ffffff"
    levels = [np.interp(value, _DEPTHS, part) for part in zip(*_SHADES, strict=True)]
    return "#" + "".join(f"{round(float(level)):02x}" for level in levels)


def _tick(name: str) -> str:
    """Return a name that fits beside an axis, whatever characters it holds."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= 32 else f"{shown[:31]}…"
