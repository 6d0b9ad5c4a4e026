"""The report's decisions, and its section of each category: figures, plots and pictures."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fade.errors import counted
from fade.levels import UNIT
from fade.types import Trial
from pipeline.evaluation.decisions import Decisions, decide
from pipeline.evaluation.groups import grouped_scores
from pipeline.evaluation.guarantee import limit_text
from pipeline.evaluation.results import labelled_images, score_rows
from pipeline.evaluation.score_text import score_text
from pipeline.evaluation.thresholds import Threshold
from pipeline.evaluation.trials import trial_words
from pipeline.report.cards import CALLED, WRONG, Item, draw_cards, of_trial
from pipeline.report.category_plots import Plot, pixel_plots, score_plots
from pipeline.report.defect_kinds import DefectKind, defect_kinds
from pipeline.report.gallery import draw_tiles
from pipeline.report.input import ReportInput
from pipeline.report.plots import UNDEFINED
from pipeline.report.selection import select_gallery
from pipeline.report.verdicts import ANOMALOUS, GOOD, UNKNOWN, VerdictCounts, count, labels_of

if TYPE_CHECKING:
    import pandas as pd


_SOURCES = {
    "training": "training images",
    "references": "references, each left out once",
    "labels": "test labels",
    "given": "threshold.overrides",
    "none": UNDEFINED,
}


_HEADLINE = (
    ("image AUROC", "full_image_auroc"),
    ("pixel AUROC", "full_pixel_auroc"),
    ("AUPRO", "full_pixel_au_pro"),
)


_KINDS: tuple[tuple[str, str, str], ...] = (
    ("misses", "Worst misses", "anomalous images with the lowest scores"),
    ("alarms", "False alarms", "good images with the highest scores"),
    ("hits", "Best hits", "anomalous images with the highest scores"),
    ("unlabelled", "Without a label", "highest scores first"),
    ("unranked", "Images", "without image scores there is no ranking: the first ones"),
)


_DECIDED: tuple[tuple[str, str, str], ...] = (
    ("misses", "Missed", "anomalous images that are called normal, lowest scores first"),
    ("alarms", "False alarms", "good images that are called anomalous, highest scores first"),
    ("close", "Close calls", "judged rightly, nearest to the threshold first"),
    ("hits", "Found", "anomalous images, highest scores first"),
    ("unlabelled", "Without a label", "highest scores first"),
    ("unranked", "Images", "without image scores there is no ranking: the first ones"),
)


WORST = 4
"""Largest number of pictures of a category on the first screen."""

PICTURED = 40
"""Largest number of categories whose pictures and plots are shown, a few hundred KB each."""

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
        good, anomalous, unlabelled: how many test images of each kind there are.
        scored: whether they have image scores.
        figures: its main metrics in the trial that is shown, name and value.
        plots: title and ``data:`` address of each.
        counts: how its threshold divides its images, None without one.
        decisions: how many images the threshold puts on the wrong side, empty without one.
        threshold: scores above it are anomalous; None without one.
        set_by: the image that sets the threshold, from the category's folder on; empty without one.
        promise: what the threshold keeps, empty where nothing is known.
        kinds: a line for each kind of defect.
        groups: heading, explanation and items of each gallery.
        noun: what ``decisions`` and ``kinds`` count, ``image`` or ``part``.
        pictured: whether the page has room for its galleries and plots.
    """

    anchor: str
    name: str
    good: int
    anomalous: int
    unlabelled: int
    scored: bool
    figures: tuple[tuple[str, str], ...]
    plots: tuple[tuple[str, str], ...]
    counts: VerdictCounts | None
    decisions: str
    threshold: float | None
    set_by: str
    promise: str
    kinds: tuple[DefectKind, ...]
    groups: tuple[tuple[str, str, tuple[Item, ...]], ...]
    noun: str = "image"
    pictured: bool = True

    @property
    def worst(self) -> tuple[Item, ...]:
        """The pictures of the first screen: missed images and false alarms in turn, then what is called
        anomalous.
        """
        items = [item for _, _, group in self.groups for item in group]
        kinds = ([item for item in items if item.verdict == kind] for kind in WRONG)
        wrong = [item for pair in zip_longest(*kinds) for item in pair if item]
        called = sorted((i for i in items if i.verdict in CALLED), key=lambda item: -item.score)
        others = [item for item in items if item.verdict not in {*WRONG, *CALLED}]
        return tuple((wrong + called + others)[:WORST])


@dataclass(frozen=True, slots=True)
class _Category:
    """What is known of one category in the trial that is shown.

    Attributes:
        rows: where its images lie among the trial's scores.
        own: these rows of them.
        figures: its main metrics by name.
        counts: how its threshold divides its images, None without one.
    """

    name: str
    rows: NDArray[np.intp]
    own: pd.DataFrame
    threshold: Threshold | None
    figures: Mapping[str, float]
    counts: VerdictCounts | None

    @property
    def trouble(self) -> tuple[int, float]:
        """How much it asks to be looked at: wrong decisions, then a low AUROC."""
        wrong = self.counts.missed + self.counts.alarms if self.counts else 0
        return wrong, -self.figures.get(_HEADLINE[0][1], 1.0)


def sections(report: ReportInput, trial: Trial) -> list[ReportSection]:
    """The section of each category that has test images, in their order, in one trial.

    Pictures and plots are of :data:`PICTURED` categories at most, those with most wrong decisions.
    """
    chosen = of_trial(report.scores, trial)
    # all is looked up: a search for each would grow by the square of categories
    thresholds = {one.category: one for one in report.thresholds if one.trial == trial}
    figures, rows_of = _figures(report, trial), score_rows(chosen)
    known = [
        _category(name, rows_of[name, trial], chosen, thresholds.get(name), figures.get(name, {}))
        for name in chosen["category"].astype(str).unique()
    ]
    asking = sorted(known, key=lambda one: one.trouble, reverse=True)[:PICTURED]
    pictured = {one.name for one in asking}
    return [
        _section(report, trial, chosen, one, f"category-{i}", one.name in pictured)
        for i, one in enumerate(known, 1)
    ]


def _category(
    name: str,
    rows: NDArray[np.intp],
    chosen: pd.DataFrame,
    threshold: Threshold | None,
    figures: Mapping[str, float],
) -> _Category:
    own, counts = chosen.iloc[rows], None
    values = own["score"].to_numpy(dtype=np.float64)
    if threshold and threshold.image is not None and np.isfinite(values).all():
        counts = count(labels_of(own), values, threshold.image)
    return _Category(name, rows, own, threshold, figures, counts)


def _section(
    report: ReportInput,
    trial: Trial,
    chosen: pd.DataFrame,
    category: _Category,
    anchor: str,
    pictured: bool,
) -> ReportSection:
    name, own, threshold = category.name, category.own, category.threshold
    limit = threshold.image if threshold else None
    gallery = select_gallery(own, name, report.gallery_size if pictured else 0, limit)
    values, labels = own["score"].to_numpy(dtype=np.float64), labels_of(own)
    scored = bool(np.isfinite(values).all())
    groups = [
        (heading, text, category.rows[list(getattr(gallery, kind))].tolist())
        for kind, heading, text in (_KINDS if limit is None else _DECIDED)
    ]
    wanted = list(dict.fromkeys(place for _, _, positions in groups for place in positions))
    cards = {item.position: item for item in draw_cards(report, trial, chosen, wanted, threshold)}
    plots = _plots(report, trial, name, values, labels, threshold) if pictured else ()
    return ReportSection(
        anchor=anchor,
        name=name,
        good=int(np.count_nonzero(labels == GOOD)),
        anomalous=int(np.count_nonzero(labels == ANOMALOUS)),
        unlabelled=int(np.count_nonzero(labels == UNKNOWN)),
        scored=scored,
        pictured=pictured,
        figures=tuple(
            (label, f"{100 * category.figures[metric]:.1f}")
            for label, metric in _HEADLINE
            if metric in category.figures
        ),
        plots=tuple((plot.title, _svg_uri(plot)) for plot in plots),
        counts=category.counts,
        decisions=_sentence(threshold, trial, own),
        threshold=limit,
        set_by=((threshold and threshold.set_by) or "").removeprefix(f"{name}/"),
        promise=promise(threshold),
        kinds=defect_kinds(grouped_scores(own), limit) if scored else (),
        groups=tuple(
            (heading, text, tuple(cards[position] for position in positions))
            for heading, text, positions in groups
            if positions
        ),
        noun=_noun(own),
    )


def _plots(
    report: ReportInput,
    trial: Trial,
    name: str,
    values: NDArray[np.float64],
    labels: NDArray[np.int8],
    threshold: Threshold | None,
) -> tuple[Plot, ...]:
    plots: tuple[Plot, ...] = ()
    known = labels != UNKNOWN
    if np.isfinite(values).all():
        limit = threshold.image if threshold else None
        plots += (
            score_plots(values[known], labels[known] == ANOMALOUS, limit) if known.any() else ()
        )
    if (name, trial) in report.pixels:
        level = threshold.pixel if threshold else None
        scale = threshold.map_scale if threshold else UNIT
        plots += pixel_plots(report.pixels[name, trial], report.pro_limit, level, scale)
    return plots


def _decided(threshold: Threshold, own: pd.DataFrame) -> Decisions | None:
    """What a threshold decides on the labelled images, or parts, of its category and trial."""
    labelled = labelled_images(own)
    scores = labelled["score"].to_numpy(dtype=np.float64)
    return decide(threshold, scores, labelled["is_anomaly"].to_numpy(dtype=bool))


def _noun(own: pd.DataFrame) -> str:
    """What is counted of rows of ``scores.parquet``: see :func:`labelled_images`."""
    return "part" if "group" in own else "image"


def _sentence(threshold: Threshold | None, trial: Trial, own: pd.DataFrame) -> str:
    found = _decided(threshold, own) if threshold else None
    if threshold is None or threshold.image is None or found is None:
        return ""
    said = found.sentence(_noun(own))
    return f"At the threshold {score_text(threshold.image)} ({trial_words(trial)}): {said}."


def promise(threshold: Threshold | None) -> str:
    """What a threshold keeps and from how many images, a sentence; empty where nothing is known."""
    if threshold is None or threshold.false_alarm_limit is None:
        return ""
    images = counted(threshold.images, "good image")
    if threshold.parts is not None:
        images = counted(threshold.parts, "good part")
    rate = limit_text(threshold.false_alarm_limit)
    return f"At most {rate} % false alarms with {threshold.confidence} confidence, from {images}."


def _svg_uri(plot: Plot) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(plot.svg.encode("utf-8")).decode()


def _figures(report: ReportInput, trial: Trial) -> dict[str, dict[str, float]]:
    """The main metrics of each category in one trial, those that are defined."""
    if report.metrics.empty:
        return {}
    return {
        str(values["category"]): {
            metric: values[metric] for _, metric in _HEADLINE if math.isfinite(values[metric])
        }
        for values in of_trial(report.metrics, trial).to_dict("records")
    }


def decisions(report: ReportInput, trial: Trial | None) -> list[Decision]:
    """The lines of the table of thresholds, of the trial that is shown."""
    scores = report.scores
    rows_of = {} if scores.empty else score_rows(scores)
    return [
        _decision(item, scores.iloc[rows_of.get((item.category, item.trial), [])])
        for item in report.thresholds
        if item.trial == trial
    ]


def setters(report: ReportInput, trial: Trial | None) -> list[Item]:
    """The images whose scores set the thresholds of the trial that is shown, warned ones first."""
    named = [item for item in report.thresholds if item.trial == trial and item.set_by is not None]
    items = []
    for threshold in sorted(named, key=lambda item: not item.warning)[:SETTERS]:
        path = str(threshold.set_by)
        # a test image's mask and map are of no use here: the image alone
        tile = draw_tiles(partial(report.load_image, path), _nothing, _nothing, False)[0]
        score = math.nan if threshold.image is None else threshold.image
        items.append(Item(path, promise(threshold), bool(threshold.warning), score, (tile,)))
    return items


def _nothing() -> None:
    """In place of a mask or a map that is not shown."""


def _decision(threshold: Threshold, own: pd.DataFrame) -> Decision:
    alarms = missed = ""
    if threshold.image is not None and not own.empty:
        found = _decided(threshold, own)
        if found:
            alarms = f"{found.false_alarms} of {found.good}" if found.good else ""
            missed = f"{found.missed} of {found.anomalous}" if found.anomalous else ""
    return Decision(
        category=threshold.category,
        score=UNDEFINED if threshold.image is None else score_text(threshold.image),
        level=UNDEFINED if threshold.pixel is None else str(threshold.pixel),
        source=_SOURCES[threshold.source],
        images=threshold.images,
        remark=threshold.remark,
        optimistic=threshold.source == "labels",
        alarms=alarms,
        missed=missed,
        limit=""
        if threshold.false_alarm_limit is None
        else f"{limit_text(threshold.false_alarm_limit)} %",
        set_by=threshold.set_by or "",
        warning=threshold.warning,
    )
