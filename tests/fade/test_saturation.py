"""sPRO against its definition, one loop over thresholds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.level_counts import LevelCounts
from fade.metrics import PixelHistogram, au_pro
from fade.regions import label_regions
from fade.saturation import SaturatedRegion, Saturation, saturated

quick = settings(max_examples=25, deadline=None, derandomize=True)


def reference(
    images: list[tuple[np.ndarray, list[np.ndarray], list[float]]], limit: float
) -> float:
    """Mean saturated overlap over the rate of false positives, up to the limit."""
    values = sorted({int(v) for levels, _, _ in images for v in levels.ravel()}, reverse=True)
    points = [(0.0, 0.0)]
    for threshold in values:
        false = normal = 0
        overlaps = []
        for levels, masks, enough in images:
            hit, union = levels >= threshold, np.zeros(levels.shape, bool)
            for mask, needed in zip(masks, enough, strict=True):
                union |= mask
                overlaps.append(min((hit & mask).sum() / needed, 1))
            false += int((hit & ~union).sum())
            normal += int((~union).sum())
        points.append((false / normal, float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@quick
@given(seed=st.integers(0, 2**32 - 1), limit=st.sampled_from([0.05, 0.3, 1.0]))
def test_au_spro_equals_a_plain_reference(seed: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    images, total = [], PixelHistogram.empty()
    for count in (0, 1, 2, 3):  # masks of one image may overlap, and need not be connected
        levels = rng.integers(0, int(rng.integers(1, 9)), (7, 8)).astype(np.uint8)
        masks = [rng.random(levels.shape) < 0.2 for _ in range(count)]
        for mask in masks:
            mask[0, 0] = True
        enough = [float(rng.integers(1, mask.sum() + 1)) for mask in masks]
        images.append((levels, masks, enough))
        union = np.any([np.zeros(levels.shape, bool), *masks], axis=0)
        plain = LevelCounts.of_image(levels, label_regions(union))
        regions = [
            SaturatedRegion(np.flatnonzero(mask), needed)
            for mask, needed in zip(masks, enough, strict=True)
        ]
        total.add(saturated(plain, levels, regions))
    assert au_pro(total, limit) == pytest.approx(reference(images, limit), abs=1e-12)


@pytest.mark.parametrize(
    ("saturation", "area", "pixels"),
    [
        (Saturation(100, False), 40, 40),
        (Saturation(100, False), 400, 100),
        (Saturation(0.25, True), 9, 2),
        (Saturation(1.0, True), 9, 9),
        (Saturation(0.1, True), 1, 1),  # never none
    ],
)
def test_how_many_pixels_are_enough(saturation: Saturation, area: int, pixels: int) -> None:
    assert saturation.pixels(area) == pixels
