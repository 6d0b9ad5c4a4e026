"""Cards of the report: one image each, with its label, its decision and its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fade.types import Trial
from pipeline.evaluation.thresholds import Threshold
from pipeline.report.gallery import Picture, draw_all, draw_small, draw_tiles
from pipeline.report.input import ReportInput
from pipeline.report.nearest import NearestPatch
from pipeline.report.patches import draw_nearest
from pipeline.report.pull import Pull
from pipeline.report.verdicts import ANOMALOUS, UNKNOWN, labels_of, verdict

if TYPE_CHECKING:
    import pandas as pd

NO_LABEL = "no label"
"""In place of the defect of an image that nobody labelled."""

WRONG = ("missed", "false alarm")
"""Verdicts of decisions that the label contradicts."""

CALLED = frozenset({"found", "anomalous"})
"""Other verdicts of images that are called anomalous."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a gallery.

    Attributes:
        defect: its kind, or that there is no label.
        is_anomaly: its label; None without one.
        score: NaN where there is none.
        position: row in the trial's scores; -1 for an image that is not among them.
        verdict: what the decision is worth, empty without one.
        pulls: the sentences nearest to it and to its worst patch, as far as they are known.
    """

    name: str
    defect: str
    is_anomaly: bool | None
    score: float
    tiles: tuple[Picture, ...]
    position: int = -1
    verdict: str = ""
    pulls: tuple[Pull, ...] = ()

    @property
    def overlay(self) -> Picture:
        """The picture that says most: the overlay; of a missed image, where its defect is."""
        shown = [tile for tile in self.tiles if tile.source]
        wanted = ("Overlay", "Mask") if self.verdict == "missed" else ("Overlay",)
        found = [tile for label in wanted for tile in shown if tile.label == label]
        return (found or shown or list(self.tiles))[-1]


def of_trial(scores: pd.DataFrame, trial: Trial) -> pd.DataFrame:
    """The rows of one trial, numbered from 0."""
    chosen = (scores["shots"] == trial.shots) & (scores["seed"] == trial.seed)
    return scores if chosen.all() else scores[chosen].reset_index(drop=True)


def shade_of(threshold: Threshold | None) -> int | None:
    """The shade (0 to 255) of a pixel threshold, as maps are drawn; None without one."""
    if threshold is None or threshold.pixel is None:
        return None
    return int(threshold.map_scale.shades(np.array([threshold.pixel]))[0])


def draw_cards(
    report: ReportInput,
    trial: Trial,
    chosen: pd.DataFrame,
    positions: Iterable[int],
    threshold: Threshold | None,
) -> tuple[Item, ...]:
    """The cards of some rows of one trial's scores, all of a category.

    Args:
        report: loads images, masks and maps.
        chosen: the trial's scores.
    """
    places = list(positions)
    labels = dict(zip(places, labels_of(chosen.iloc[places]).tolist(), strict=True))
    nearest: Mapping[int, NearestPatch] = {}
    pulls: Mapping[int, tuple[Pull, ...]] = {}
    if places:
        category = str(chosen["category"].iloc[places[0]])
        nearest = report.load_nearest(category, places) if report.load_nearest else {}
        pulls = report.load_pull(category, places) if report.load_pull else {}
    limit = threshold.image if threshold else None

    def card(position: int) -> Item:
        row, label = chosen.iloc[position], labels[position]
        path, known = str(row["path"]), None if label == UNKNOWN else label == ANOMALOUS
        tiles = draw_tiles(
            partial(report.load_image, path),
            partial(report.load_mask, path),
            partial(report.load_map, trial.label, position),
            known,
            shade_of(threshold),
            report.load_above and partial(report.load_above, trial.label, position),
        )
        if position in nearest:
            tiles += (draw_nearest(report.load_image, nearest[position]),)
        score = float(row["score"])
        defect = NO_LABEL if known is None else str(row["defect"])
        return Item(
            str(row["image"]), defect, known, score, tiles, position,
            verdict(label, score, limit), pulls.get(position, ()),
        )  # fmt: skip

    return tuple(draw_all(card, places))


def small_picture(
    report: ReportInput, trial: Trial, path: str, position: int, threshold: Threshold | None
) -> str:
    """The address of a small picture of one image; empty where it cannot be drawn."""
    return draw_small(
        partial(report.load_image, path),
        partial(report.load_map, trial.label, position),
        shade_of(threshold),
        report.load_above and partial(report.load_above, trial.label, position),
    ).source
