"""The report's decisions, and its section of each category: figures, plots and pictures."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fade.types import Trial
from pipeline.evaluation.thresholds import Threshold
from pipeline.report.gallery import Gallery, Item, draw_tiles, select_gallery
from pipeline.report.input import ReportInput
from pipeline.report.plots import UNDEFINED, Plot, pixel_plots, score_plots

if TYPE_CHECKING:
    import pandas as pd


_SOURCES = {
    "training": "training images",
    "references": "references, each left out once",
    "labels": "test labels",
    "none": UNDEFINED,
}


_HEADLINE = (
    ("image AUROC", "full_image_auroc"),
    ("pixel AUROC", "full_pixel_auroc"),
    ("AU-PRO", "full_pixel_au_pro"),
)


_KINDS: tuple[tuple[str, str, str], ...] = (
    ("misses", "Worst misses", "anomalous images with the lowest scores"),
    ("alarms", "False alarms", "good images with the highest scores"),
    ("hits", "Best hits", "anomalous images with the highest scores"),
    ("unranked", "Images", "without image scores there is no ranking: the first ones"),
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The thresholds of one category, what they rest on, and how they divide its test images.

    ``alarms`` and ``missed`` are empty where there is no threshold, no score or no such image.
    """

    category: str
    score: str
    level: str
    source: str
    images: int
    remark: str
    optimistic: bool
    alarms: str
    missed: str


@dataclass(frozen=True, slots=True)
class Section:
    """What the page shows of one category.

    Attributes:
        anchor: of its links.
        name: the category.
        good, anomalous: how many test images of each kind there are.
        scored: whether they have image scores.
        figures: its main metrics in the trial that is shown, name and value.
        plots: title and ``data:`` address of each.
        decisions: how many images the threshold puts on the wrong side, empty without one.
        groups: heading, explanation and items of each gallery.
    """

    anchor: str
    name: str
    good: int
    anomalous: int
    scored: bool
    figures: tuple[tuple[str, str], ...]
    plots: tuple[tuple[str, str], ...]
    decisions: str
    groups: tuple[tuple[str, str, tuple[Item, ...]], ...]


def sections(report: ReportInput, trial: Trial) -> list[Section]:
    """The section of each category that has test images, in their order, in one trial."""
    chosen = report.scores
    of_trial = (chosen["shots"] == trial.shots) & (chosen["seed"] == trial.seed)
    if not of_trial.all():
        chosen = chosen[of_trial].reset_index(drop=True)
    names = chosen["category"].astype(str)
    return [
        _section(report, trial, chosen, name, f"category-{i}")
        for i, name in enumerate(names.unique(), 1)
    ]


def _section(
    report: ReportInput, trial: Trial, chosen: pd.DataFrame, name: str, anchor: str
) -> Section:
    gallery = select_gallery(chosen, name, report.gallery_size)
    own = chosen[chosen["category"].astype(str) == name]
    values = own["score"].to_numpy(dtype=np.float64)
    is_anomaly = own["is_anomaly"].to_numpy(dtype=bool)
    groups = tuple(
        (heading, text, items)
        for kind, heading, text in _KINDS
        if (items := _items(report, trial, chosen, gallery, kind))
    )
    found = [t for t in report.thresholds if t.category == name and t.trial == trial]
    threshold = found[0] if found else None
    scored = bool(np.isfinite(values).all())
    plots: tuple[Plot, ...] = ()
    if scored:
        plots += score_plots(values, is_anomaly, threshold.image if threshold else None)
    if (name, trial) in report.pixels:
        level = threshold.pixel if threshold else None
        plots += pixel_plots(report.pixels[name, trial], report.pro_limit, level)
    anomalous = int(np.count_nonzero(is_anomaly))
    good = len(own) - anomalous
    decisions = ""
    if threshold is not None and threshold.image is not None and scored:
        alarms, missed = _wrong(values, is_anomaly, threshold.image)
        decisions = (
            f"At the threshold {threshold.image:.3f}: {alarms} of {good} good images are called "
            f"anomalous, and {missed} of {anomalous} anomalous ones are missed."
        )
    return Section(
        anchor, name, good, anomalous, scored, _figures(report, trial, name),
        tuple((plot.title, _svg_uri(plot)) for plot in plots), decisions, groups,
    )  # fmt: skip


def _svg_uri(plot: Plot) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(plot.svg.encode("utf-8")).decode()


def _figures(report: ReportInput, trial: Trial, name: str) -> tuple[tuple[str, str], ...]:
    """The main metrics of a category in one trial, those that are defined."""
    if report.metrics.empty:
        return ()
    metrics = report.metrics
    own = metrics[
        (metrics["category"].astype(str) == name)
        & (metrics["shots"] == trial.shots)
        & (metrics["seed"] == trial.seed)
    ]
    values = next(iter(own.to_dict("records")), {})
    return tuple(
        (label, f"{100 * values[metric]:.1f}")
        for label, metric in _HEADLINE
        if math.isfinite(values.get(metric, math.nan))
    )


def _wrong(
    values: NDArray[np.float64], is_anomaly: NDArray[np.bool_], threshold: float
) -> tuple[int, int]:
    """How many good images are above a threshold, and how many anomalous ones are not."""
    above = values > threshold
    return int(np.count_nonzero(above & ~is_anomaly)), int(np.count_nonzero(~above & is_anomaly))


def decisions(report: ReportInput, trial: Trial | None) -> list[Decision]:
    """The lines of the table of thresholds; of a run without test images those of its first trial."""
    if not report.thresholds:
        return []
    shown = trial or report.thresholds[0].trial
    return [_decision(report, item) for item in report.thresholds if item.trial == shown]


def _decision(report: ReportInput, threshold: Threshold) -> Decision:
    alarms = missed = ""
    if threshold.image is not None and not report.scores.empty:
        scores = report.scores
        own = scores[
            (scores["category"].astype(str) == threshold.category)
            & (scores["shots"] == threshold.shots)
            & (scores["seed"] == threshold.seed)
        ]
        is_anomaly = own["is_anomaly"].to_numpy(dtype=bool)
        wrong = _wrong(own["score"].to_numpy(dtype=np.float64), is_anomaly, threshold.image)
        total = int(np.count_nonzero(~is_anomaly)), int(np.count_nonzero(is_anomaly))
        alarms, missed = (
            f"{part} of {whole}" if whole else "" for part, whole in zip(wrong, total, strict=True)
        )
    return Decision(
        category=threshold.category,
        score=UNDEFINED if threshold.image is None else f"{threshold.image:.3f}",
        level=UNDEFINED if threshold.pixel is None else str(threshold.pixel),
        source=_SOURCES[threshold.source],
        images=threshold.images,
        remark=threshold.remark,
        optimistic=threshold.source == "labels",
        alarms=alarms,
        missed=missed,
    )


def _items(
    report: ReportInput, trial: Trial, chosen: pd.DataFrame, gallery: Gallery, kind: str
) -> tuple[Item, ...]:
    items = []
    for position in getattr(gallery, kind):
        row = chosen.iloc[position]
        path, is_anomaly = str(row["path"]), bool(row["is_anomaly"])
        tiles = draw_tiles(
            partial(report.load_image, path),
            partial(report.load_mask, path),
            partial(report.load_map, trial.label, position),
            is_anomaly,
        )
        name, defect = str(row["image"]), str(row["defect"])
        items.append(Item(name, defect, is_anomaly, float(row["score"]), tiles))
    return tuple(items)
