"""The report's decisions, and its section of each category: figures, plots and pictures."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fade.levels import UNIT
from fade.types import Trial
from pipeline.evaluation.decisions import decide
from pipeline.evaluation.results import labelled_images
from pipeline.evaluation.thresholds import Threshold
from pipeline.evaluation.trials import trial_words
from pipeline.report.category_plots import Plot, pixel_plots, score_plots
from pipeline.report.gallery import Gallery, Item, draw_tiles, select_gallery
from pipeline.report.input import ReportInput
from pipeline.report.plots import UNDEFINED

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
    ("unlabelled", "Without a label", "images that nobody labelled, the highest scores first"),
    ("unranked", "Images", "without image scores there is no ranking: the first ones"),
)


SETTERS = 24
"""Largest number of images that set thresholds which are shown, those with a warning first."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The thresholds of one category, what they rest on, and how they divide its test images.

    ``alarms`` and ``missed`` are empty where there is no threshold, no score or no such image;
    ``limit`` where nothing is known of the false alarms to come. ``warning`` is why not to rely on it.
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
    limit: str
    set_by: str
    warning: str


@dataclass(frozen=True, slots=True)
class ReportSection:
    """What the page shows of one category.

    Attributes:
        anchor: of its links.
        name: the category.
        good, anomalous, unlabelled: how many test images of each kind there are.
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
    unlabelled: int
    scored: bool
    figures: tuple[tuple[str, str], ...]
    plots: tuple[tuple[str, str], ...]
    decisions: str
    groups: tuple[tuple[str, str, tuple[Item, ...]], ...]


def sections(report: ReportInput, trial: Trial) -> list[ReportSection]:
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
) -> ReportSection:
    gallery = select_gallery(chosen, name, report.gallery_size)
    own = chosen[chosen["category"].astype(str) == name]
    scored = bool(np.isfinite(own["score"].to_numpy(dtype=np.float64)).all())
    unlabelled, own = len(own), labelled_images(own)
    unlabelled -= len(own)
    values, is_anomaly = own["score"].to_numpy(dtype=np.float64), own["is_anomaly"].to_numpy()
    found = [t for t in report.thresholds if t.category == name and t.trial == trial]
    threshold = found[0] if found else None
    groups = tuple(
        (heading, text, items)
        for kind, heading, text in _KINDS
        if (items := _items(report, trial, chosen, gallery, kind, threshold))
    )
    plots: tuple[Plot, ...] = ()
    if scored and len(own):
        plots += score_plots(values, is_anomaly, threshold.image if threshold else None)
    if (name, trial) in report.pixels:
        level = threshold.pixel if threshold else None
        scale = threshold.map_scale if threshold else UNIT
        plots += pixel_plots(report.pixels[name, trial], report.pro_limit, level, scale)
    anomalous = int(np.count_nonzero(is_anomaly))
    good = len(own) - anomalous
    decisions = ""
    if threshold is not None and threshold.image is not None and scored and len(own):
        decisions = (
            f"At the threshold {threshold.image:.3f} ({trial_words(trial)}): "
            f"{decide(threshold, values, is_anomaly)}."
        )
    return ReportSection(
        anchor, name, good, anomalous, unlabelled, scored, _figures(report, trial, name),
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


def decisions(report: ReportInput, trial: Trial | None) -> list[Decision]:
    """The lines of the table of thresholds, of the trial that is shown."""
    return [_decision(report, item) for item in report.thresholds if item.trial == trial]


def setters(report: ReportInput, trial: Trial | None) -> list[Item]:
    """The images whose scores are the thresholds of the trial that is shown, warned ones first."""
    named = [item for item in report.thresholds if item.trial == trial and item.set_by is not None]
    items = []
    for threshold in sorted(named, key=lambda item: not item.warning)[:SETTERS]:
        path = str(threshold.set_by)
        # a test image's mask and map are of no use here: the image alone
        tile = draw_tiles(partial(report.load_image, path), _nothing, _nothing, False)[0]
        score = math.nan if threshold.image is None else threshold.image
        items.append(Item(path, threshold.category, bool(threshold.warning), score, (tile,)))
    return items


def _nothing() -> None:
    """In place of a mask or a map that is not shown."""


def _decision(report: ReportInput, threshold: Threshold) -> Decision:
    alarms = missed = ""
    if threshold.image is not None and not report.scores.empty:
        scores = report.scores
        own = labelled_images(
            scores[
                (scores["category"].astype(str) == threshold.category)
                & (scores["shots"] == threshold.shots)
                & (scores["seed"] == threshold.seed)
            ]
        )
        found = decide(
            threshold,
            own["score"].to_numpy(dtype=np.float64),
            own["is_anomaly"].to_numpy(dtype=bool),
        )
        if found:
            alarms = f"{found.false_alarms} of {found.good}" if found.good else ""
            missed = f"{found.missed} of {found.anomalous}" if found.anomalous else ""
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
        limit=""
        if threshold.false_alarm_limit is None
        else f"{100 * threshold.false_alarm_limit:.1f} %",
        set_by=threshold.set_by or "",
        warning=threshold.warning,
    )


def _items(
    report: ReportInput,
    trial: Trial,
    chosen: pd.DataFrame,
    gallery: Gallery,
    kind: str,
    threshold: Threshold | None,
) -> tuple[Item, ...]:
    items, shade = [], None
    if threshold and threshold.pixel is not None:
        shade = int(threshold.map_scale.shades(np.array([threshold.pixel]))[0])
    for position in getattr(gallery, kind):
        row = chosen.iloc[position]
        path, label = str(row["path"]), row["is_anomaly"]
        is_anomaly = None if label is None or label != label else bool(label)
        tiles = draw_tiles(
            partial(report.load_image, path),
            partial(report.load_mask, path),
            partial(report.load_map, trial.label, position),
            is_anomaly,
            shade,
            report.load_above and partial(report.load_above, trial.label, position),
        )
        name, defect = str(row["image"]), str(row["defect"])
        items.append(Item(name, defect, is_anomaly, float(row["score"]), tiles))
    return tuple(items)
