"""Counts of one map at the levels that occur, against counts at all levels, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from fade.level_counts import LEVELS_OF, LevelCounts, occurring
from fade.metrics import PixelHistogram
from fade.pimo import SharedRate
from fade.regions import label_regions
from fade.replicates import MAX_LEVELS, coarse_rows


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("side", [5, 150])  # sorted, and counted at all levels
def test_sums_are_those_of_all_levels(dtype: type, side: int) -> None:
    rng, size = np.random.default_rng(side), LEVELS_OF[np.dtype(dtype)]
    total, shared = PixelHistogram.empty(size), SharedRate.empty()
    dense, shares = np.zeros((4, size)), np.zeros(1 << 16)
    for number in range(7):
        drawn = rng.integers(0, size if number % 2 else 9, (side, side))
        levels: np.ndarray = drawn.astype(dtype)
        mask = rng.random((side, side)) < (0.3 if number % 3 else 0)
        regions = label_regions(mask)
        image = LevelCounts.of_image(levels, regions)
        inside = levels.ravel()[regions.pixels]
        normal = np.bincount(levels[~mask], minlength=size)
        rows = np.stack(
            [
                normal,
                normal * bool(regions.count),
                np.bincount(inside, minlength=size),
                np.bincount(inside, regions.weights, size),
            ],
            dtype=np.float64,
        )
        dense += rows
        total.add(image)
        coarse = rows.reshape(4, -1, max(size // MAX_LEVELS, 1)).sum(axis=2)
        coarse[0] -= coarse[1]
        assert coarse_rows(image).tobytes() == coarse.tobytes()
        shared.add(*occurring(levels))
        shares += np.bincount(levels.ravel(), minlength=1 << 16) / levels.size
    found = (total.normal, total.normal_beside_defects, total.anomalous, total.pro)
    assert np.stack(found, dtype=np.float64).tobytes() == dense.tobytes()
    assert shared.shares.tobytes() == shares.tobytes()
    assert shared.images == 7
