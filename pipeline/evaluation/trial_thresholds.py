"""The thresholds of all categories and trials of a run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.metrics import PixelHistogram
from fade.types import Trial
from pipeline.config.schema import Params
from pipeline.evaluation.blocks import merge_histograms
from pipeline.evaluation.planner import BLOCK_IMAGES, Planner, evaluate_blocks
from pipeline.evaluation.results import score_rows
from pipeline.evaluation.thresholds import Threshold, from_labels, from_normal, undecided
from pipeline.scoring.calibration import trial_images

if TYPE_CHECKING:
    import pandas as pd


def normal_thresholds(
    planner: Planner | None,
    calibration: pd.DataFrame,
    selection: pd.DataFrame,
    categories: list[str],
    params: Params,
) -> list[Threshold]:
    """The thresholds of all trials from normal images; without any, why there are none."""
    images = calibration.assign(is_anomaly=False, mask=None, mask_hash=None)
    by_category = dict(tuple(images.groupby("category", sort=False)))
    chosen_by_category = dict(tuple(selection.groupby("category", sort=False)))
    reason = (
        "threshold.images is 0"
        if not params.threshold.images
        else "there are no training images to calibrate on"
    )
    parts: list[tuple[str, Trial, bool, pd.DataFrame, Mapping[str, str] | None]] = []
    reasons: dict[tuple[str, Trial], str] = {}
    for trial in params.trials():
        for category in categories:
            own = by_category.get(category, images.iloc[:0])
            rows = chosen_by_category.get(category, selection.iloc[:0])
            rows = rows[(rows["seed"] == trial.seed) & (rows["rank"] < trial.shots)]
            chosen = trial_images(own["hash"].tolist(), set(rows["hash"]))
            held_out = None
            part = own[own["hash"].isin(chosen.keys)]
            if len(own) and part.empty:
                reasons[category, trial] = (
                    "the bank uses the only image that there is to calibrate on: add training images"
                )
            if chosen.held_out and params.needs_vision and planner:
                held_out = planner.held_out.get(category, {}).get(trial.label)
                if held_out is None:
                    reasons[category, trial] = (
                        "the bank uses all training images, and none can be left out of it: set "
                        "vision.index to flat and vision.coreset to 1, or add training images"
                    )
                    part = part.iloc[:0]
            parts.append((category, trial, chosen.held_out, part, held_out))
    total = sum(len(part) for _, _, _, part, _ in parts) if planner else 0
    blocks = (
        block
        for _, trial, _, part, held_out in parts
        for block in (planner.blocks(part, [trial], held_out=held_out) if planner else ())
    )
    outcomes = evaluate_blocks(blocks, total, params, "calibrate") if total else iter(())
    thresholds = []
    for category, trial, is_held_out, part, _ in parts:
        pieces = -(-len(part) // BLOCK_IMAGES) if planner else 0
        mine = list(islice(outcomes, pieces))
        scores = [outcome.scores[0] for outcome in mine]
        thresholds.append(
            from_normal(
                category,
                trial,
                np.concatenate(scores) if scores else np.zeros(0),
                merge_histograms(mine).get((category, trial)),
                params.threshold.quantile,
                factor=params.threshold.factor,
                held_out=is_held_out,
                reason=reasons.get((category, trial), reason),
                paths=part["path"].tolist(),
            )
        )
    return thresholds


def label_thresholds(
    scores: pd.DataFrame,
    histograms: Mapping[tuple[str, Trial], PixelHistogram],
    categories: list[str],
    trials: list[Trial],
) -> list[Threshold]:
    """The thresholds of all trials from the labels of the test images."""
    found = []
    rows_of = score_rows(scores)
    for trial in trials:
        for category in categories:
            part = scores.iloc[rows_of.get((category, trial), [])]
            found.append(
                from_labels(
                    category, trial, part["score"].to_numpy(), part["is_anomaly"].to_numpy(),
                    histograms.get((category, trial)),
                )
                if len(part)
                else undecided(category, trial, "there are no test images")
            )  # fmt: skip
    return found


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
