"""What it takes that test images score each other, counted from parameters and numbers of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cache.keys import Keys
from cache.layout import Space
from pipeline.config.load import parse_params
from pipeline.project.batches import PairCost, plan_pairs
from pipeline.project.workload import Workload
from pipeline.scoring.pairs import SAMPLE
from tests.stages.test_mutual import VIEWS, mutual_params

PATCHES, DIM, PAIRS = 16, 64, 40 * 39 // 2 + 6 * 5 // 2


def cost(folder: Path, **leaves: Any) -> PairCost:
    """Of a category of 40 test images and one of 6, and three images to calibrate on."""
    params = parse_params(mutual_params(folder, **leaves))
    spaces = {
        feature: Space(feature.label, {"grid": [4, 4]}, (PATCHES, DIM), "float16")
        for feature in params.vision_features()
    }
    work = Workload(Keys.of([]), {"nut": 40, "pin": 6}, {}, ("a", "b", "c"), (), True)
    return plan_pairs(params, spaces, work)


@pytest.mark.parametrize(
    ("leaves", "others"),
    [
        ({}, SAMPLE),
        (
            {
                "vision__bank": "references_and_batch",
                "vision__rule": "nearest",
                "vision__shots": [1],
            },
            40,
        ),
        (
            {
                "vision__bank": {"zero_shot": "batch", "few_shot": "references_and_batch"},
                "vision__rule": {"zero_shot": "mutual", "few_shot": "nearest"},
                "vision__shots": [0, 1],
            },
            SAMPLE + 40,
        ),
    ],
)
def test_pairs_their_bytes_and_their_multiply_adds(
    leaves: dict[str, Any], others: int, tmp_path: Path
) -> None:
    """Each pair is kept in both directions; images to calibrate on meet others of their category."""
    found = cost(tmp_path, **leaves)
    assert found.pairs == PAIRS
    assert found.bytes == VIEWS * PAIRS * 2 * PATCHES * 4
    assert found.multiply_adds == VIEWS * (PAIRS + 3 * others) * PATCHES**2 * DIM
    assert found.seconds > 0


@pytest.mark.parametrize(
    "leaves",
    [
        {"vision__rule": "subspace"},
        {"vision__bank": "references", "vision__rule": "nearest", "vision__shots": [1]},
    ],
)
def test_nothing_is_compared_in_pairs(leaves: dict[str, Any], tmp_path: Path) -> None:
    assert cost(tmp_path, **leaves) == PairCost()
