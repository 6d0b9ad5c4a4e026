"""What the levels of a run's maps stand for where values have no upper limit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from cache.store import Store
from fade.levels import Scale, Scales
from fade.types import Trial
from pipeline.artefacts.catalogue import MAPS
from pipeline.config.schema import Params
from pipeline.evaluation.blocks import EvaluationBlock
from pipeline.evaluation.planner import BLOCK_IMAGES, Planner, read_blocks
from pipeline.evaluation.recipe import Recipe
from pipeline.evaluation.trial_thresholds import CalibrationPart

if TYPE_CHECKING:
    import pandas as pd

HEADROOM = 0.01
"""Share of the range that lies above the highest threshold there can be."""
Ranges = dict[tuple[str, Trial], tuple[float, float]]


def value_ranges(block: EvaluationBlock) -> Ranges:
    """The smallest and largest value of vision maps in a block, by category and trial.

    No filter leads out of this range: each pixel is a mean of patches.
    """
    store, found = Store(block.store), Ranges()
    for trial, component in zip(block.trials, block.vision_maps, strict=True):
        factor = np.float32(block.recipe.vision_multiplier[bool(trial.shots)])
        for image, values in zip(block.images, component.read(store), strict=True):
            scaled = np.asarray(values) * factor
            low = float(scaled.min())
            if block.foregrounds is not None:  # of which the background is 0
                low = float(np.minimum(low, 0))
            _widen(found, (image.category, trial), low, float(scaled.max()))
    return found


def _widen(found: Ranges, place: tuple[str, Trial], low: float, high: float) -> None:
    before = found.get(place, (low, high))
    # np.minimum keeps NaN, which the scale refuses
    found[place] = float(np.minimum(before[0], low)), float(np.maximum(before[1], high))


def map_scales(
    planner: Planner | None,
    tests: pd.DataFrame,
    parts: Sequence[CalibrationPart],
    trials: Sequence[Trial],
    params: Params,
) -> Scales:
    """The scale of each category and trial, over test and calibration images; none for FADE's maps.

    It reaches beyond what a threshold can be, which is ``threshold.factor`` times a value of an image
    to calibrate on: at the highest level nothing would be above it, whatever comes.

    Args:
        planner: None where there are no images at all.
        tests: the test images, see :meth:`Planner.blocks`.
        parts: the images to calibrate on.

    Raises:
        DataError: a value is not finite.
    """
    recipe = Recipe.of(params)
    fine = [trial for trial in trials if recipe.is_fine(trial.shots)]
    if planner is None or not fine:
        return {}
    parts = [part for part in parts if part.trial in fine]
    of_parts = (part.blocks(planner, {}) for part in parts)
    blocks = chain(planner.blocks(tests, fine, maps=MAPS.path), *of_parts)
    total = len(tests) + sum(len(part.images) for part in parts)
    found, of_tests = Ranges(), -(-len(tests) // BLOCK_IMAGES)
    highest: dict[tuple[str, Trial], float] = {}
    for number, ranges in enumerate(read_blocks(value_ranges, blocks, total, params, "scales")):
        for place, (low, high) in ranges.items():
            _widen(found, place, low, high)
            if number >= of_tests:
                highest[place] = max(high, highest.get(place, high))
    for place, high in highest.items():
        threshold, low = max(high, params.threshold.factor * high), found[place][0]
        _widen(found, place, low, threshold + HEADROOM * (threshold - low))
    return {place: Scale.fine(low, high) for place, (low, high) in found.items()}
