"""The thresholds of all categories and trials of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import add
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.levels import UNIT, Scales
from fade.metrics import PixelHistogram
from fade.types import Trial
from pipeline.config.schema import Params
from pipeline.dataset.images import references_of
from pipeline.evaluation.blocks import EvaluationBlock, evaluate_block
from pipeline.evaluation.groups import parts_of
from pipeline.evaluation.normal_thresholds import OVERRIDES, from_normal, overridden
from pipeline.evaluation.planner import BLOCK_IMAGES, Planner, read_blocks
from pipeline.evaluation.results import score_rows
from pipeline.evaluation.thresholds import Threshold, from_labels, undecided
from pipeline.scoring.calibration import trial_images

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CalibrationPart:
    """The normal images that one category and trial has its threshold from.

    Attributes:
        images: rows of the calibration images; none where there is a reason.
        is_held_out: whether they are references, each compared with the others.
        held_out: what each was compared with then.
        reason: why there are none, should there be none.
    """

    category: str
    trial: Trial
    images: pd.DataFrame
    is_held_out: bool
    held_out: Mapping[str, str] | None
    reason: str

    def blocks(self, planner: Planner | None, scales: Scales) -> Iterator[EvaluationBlock]:
        """The images in blocks, see :meth:`Planner.blocks`."""
        if planner is not None:
            yield from planner.blocks(
                self.images, [self.trial], held_out=self.held_out, scales=scales
            )


def calibration_parts(
    planner: Planner | None,
    calibration: pd.DataFrame,
    selection: pd.DataFrame,
    categories: list[str],
    params: Params,
) -> list[CalibrationPart]:
    """The normal images that thresholds come from, trial by trial."""
    images = calibration.assign(is_anomaly=False, mask=None, mask_hash=None)
    by_category = dict(tuple(images.groupby("category", sort=False)))
    chosen_by_category = dict(tuple(selection.groupby("category", sort=False)))
    reason = (
        "threshold.images is 0"
        if not params.threshold.images
        else "there are no training images to calibrate on"
    )
    parts = []
    for trial in params.trials():
        for category in categories:
            own = by_category.get(category, images.iloc[:0])
            rows = chosen_by_category.get(category, selection.iloc[:0])
            chosen = trial_images(own["hash"].tolist(), references_of(rows, trial))
            held_out, why = None, reason
            part = own[own["hash"].isin(chosen.keys)]
            if len(own) and part.empty:
                why = "the bank uses the only image that there is to calibrate on: add training images"
            if chosen.held_out and params.needs_vision and planner:
                held_out = planner.held_out.get(category, {}).get(trial.label)
                if held_out is None:
                    why = (
                        "the bank uses all training images, and none can be left out of it: set "
                        "vision.index to flat, vision.coreset to 1 and vision.thinning to greedy, or add "
                        "training images"
                    )
                    part = part.iloc[:0]
            parts.append(CalibrationPart(category, trial, part, chosen.held_out, held_out, why))
    return parts


def normal_thresholds(
    planner: Planner | None, parts: Sequence[CalibrationPart], params: Params, scales: Scales
) -> list[Threshold]:
    """The thresholds of all trials from normal images; without any, why there are none."""
    total = sum(len(part.images) for part in parts) if planner else 0
    blocks = (block for part in parts for block in part.blocks(planner, scales))
    work = read_blocks(evaluate_block, blocks, total, params, "calibrate")
    outcomes = work if total else iter(())
    thresholds = []
    for part in parts:
        pieces = -(-len(part.images) // BLOCK_IMAGES) if planner else 0
        mine = list(islice(outcomes, pieces))
        scores = [outcome.scores[0] for outcome in mine]
        # of a test set among itself: no other image has such scores
        if params.evaluate.smooth_similar:
            scores = [np.full_like(one, np.nan) for one in scores]
        of_images = np.concatenate(scores) if scores else np.zeros(0)
        place, paths = (part.category, part.trial), part.images["path"].tolist()
        parts_shown = parts_of(paths, params.evaluate.group)
        histograms = [one.histograms[place] for one in mine if place in one.histograms]
        thresholds.append(
            from_normal(
                part.category,
                part.trial,
                of_images,
                reduce(add, histograms) if histograms else None,
                params.threshold.quantile,
                factor=params.threshold.factor,
                held_out=part.is_held_out,
                reason=part.reason,
                paths=paths,
                scale=scales.get(place, UNIT),
                bounded=params.vision.bounded(part.trial.shots),
                false_alarms=params.threshold.false_alarms,
                parts=parts_shown,
            )
        )
        given = params.threshold.overrides.get(part.category)
        if given is not None:
            thresholds[-1] = overridden(thresholds[-1], given, of_images, OVERRIDES, parts_shown)
    return thresholds


def label_thresholds(
    scores: pd.DataFrame,
    histograms: Mapping[tuple[str, Trial], PixelHistogram],
    categories: list[str],
    trials: list[Trial],
    scales: Scales,
    given: Mapping[str, float] = MappingProxyType({}),
) -> list[Threshold]:
    """The thresholds of all trials from the labels of the test images, or ``given`` by category."""
    found = []
    rows_of = score_rows(scores)
    for trial in trials:
        for category in categories:
            part = scores.iloc[rows_of.get((category, trial), [])]
            scale = scales.get((category, trial), UNIT)
            found.append(
                from_labels(
                    category, trial, part["score"].to_numpy(), part["is_anomaly"].to_numpy(),
                    histograms.get((category, trial)), scale,
                )
                if len(part)
                else undecided(category, trial, "there are no test images with a label", scale)
            )  # fmt: skip
            if category in given:
                found[-1] = overridden(found[-1], given[category], (), OVERRIDES)
    return found


def unknown_overrides(params: Params, categories: Collection[str]) -> list[str]:
    """A line for each name in ``threshold.overrides`` that is no category of the run."""
    return [
        f"{OVERRIDES} names {name!r}, which is no category of this run"
        for name in sorted(params.threshold.overrides)
        if name not in categories
    ]


def fusion_settings(params: Params) -> dict[str, Any]:
    """The parameters that thresholds hold for."""
    fusion = params.fusion
    return {
        "classification_mode": fusion.classification_mode,
        "segmentation_mode": fusion.segmentation_mode,
        "normalize": fusion.normalize,
        "trials": {
            trial.label: [params.vision_weight(trial), params.vision_multiplier(trial)]
            for trial in params.trials()
        },
    }
