"""What it takes that test images score each other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cache.layout import Space
from fade.rules.mutual import comparable, facing, match
from fade.rules.pairs import count_pairs
from fade.types import Feature
from fade.views import unit_length
from pipeline.config.rules import partners_of
from pipeline.config.schema import Params
from pipeline.project.workload import Workload
from pipeline.scoring.pairs import SAMPLE
from pipeline.scoring.views import view_shapes


@dataclass(frozen=True)
class PairCost:
    """Work on pairs of images, over all views.

    Attributes:
        pairs: of test images, each compared once.
        multiply_adds: of these and of images to calibrate on with the sample of a batch.
        bytes: of the pairs' distances in the store.
        seconds: of all, one after the other, by one pair of each view that was timed.
    """

    pairs: int = 0
    multiply_adds: int = 0
    bytes: int = 0
    seconds: float = 0.0


def plan_pairs(params: Params, spaces: Mapping[Feature, Space], work: Workload) -> PairCost:
    """Count pairs, and time one of each view; nothing where no trial compares images of a batch."""
    vision = params.vision
    shots = {trial.shots for trial in params.trials()} if params.needs_vision else set()
    rules = {vision.rule_at(count) for count in shots if vision.has_batch(count)} - {"subspace"}
    if not rules:
        return PairCost()
    pairs = sum(
        count_pairs(images, partners=partners_of(vision, images), largest=vision.set_size)
        for images in work.batches.values()
    )
    largest = max(work.batches.values(), default=0)
    # images to calibrate on meet a sample, or as many images as a test image does
    others = min(SAMPLE, largest) if "mutual" in rules else 0
    if "nearest" in rules:
        others += partners_of(vision, largest) or largest
    compared = pairs + len(work.calibration) * others
    random = np.random.default_rng(0)
    multiply_adds = size = 0
    seconds = 0.0
    for patches, dim in view_shapes(params, spaces):
        vectors = random.standard_normal((patches, dim), dtype=np.float32)
        one = comparable(unit_length(vectors) if vision.unit else vectors, vision.metric)
        start = time.perf_counter()
        match(one, facing(one, vision.metric), vision.metric)
        seconds += compared * (time.perf_counter() - start)
        multiply_adds += compared * patches * patches * dim
        size += pairs * 2 * patches * 4
    return PairCost(pairs, multiply_adds, size, seconds)
