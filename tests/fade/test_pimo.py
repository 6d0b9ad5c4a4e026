"""AUPIMO against its definition: sorted pixels, one loop over thresholds, no histogram."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.errors import DataError
from fade.pimo import RATES, DefectLevels, SharedRate, aupimo
from fade.regions import label_regions

quick = settings(max_examples=15, deadline=None, derandomize=True)
LOW, HIGH = RATES


def reference(good: list[np.ndarray], defect: np.ndarray) -> tuple[float, float, float]:
    """The area of trapezoids and of both steps, from all values as thresholds."""
    points = [(0.0, 0.0)]
    for threshold in sorted({*defect.tolist(), *np.concatenate(good).tolist()}, reverse=True):
        rate = float(np.mean([(image >= threshold).mean() for image in good]))
        points.append((rate, float((defect >= threshold).mean())))
        if rate >= HIGH:
            break
    areas = [0.0, 0.0, 0.0]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        a, b = max(x0, LOW), min(x1, HIGH)
        if a >= b:
            continue
        width = math.log(b / a)
        at = [y0, y0]
        if x0 > 0:
            at = [y0 + (y1 - y0) * math.log(x / x0) / math.log(x1 / x0) for x in (a, b)]
        for i, height in enumerate(((at[0] + at[1]) / 2, y0, y1)):
            areas[i] += width * height
    return tuple(area / math.log(HIGH / LOW) for area in areas)  # type: ignore[return-value]


@quick
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([2, 9, 3000, 65536]))
def test_aupimo_equals_a_plain_reference(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(300, 200), (150, 301), (200, 200)]  # of different sizes: each image weighs the same
    good = [rng.integers(0, levels, shape).astype(np.uint16) for shape in shapes]
    for image in good:  # few pixels are high, as in maps
        image[image < levels * 0.999] //= 2
    mask = rng.random((20, 30)) < 0.3
    mask[0, 0] = True
    bad = rng.integers(levels // 2, levels, mask.shape).astype(np.uint16)
    shared = sum((SharedRate.of_image(image) for image in good), SharedRate.empty())
    found = aupimo(shared, [DefectLevels.of_image(bad, label_regions(mask))])[0]
    expected = reference([image.ravel() for image in good], bad[mask])
    np.testing.assert_allclose((found.value, found.low, found.high), expected, atol=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_levels_bound_the_value_of_the_map_itself() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.beta(2, 40, (500, 500)), rng.beta(6, 12, 300)
    exact = reference([good.ravel()], bad)
    for levels in (64, 65536):
        cut = [np.floor(values * levels).astype(np.uint16) for values in (good, bad[None])]
        image = DefectLevels.of_image(cut[1], label_regions(np.ones((1, 300), bool)))
        found = aupimo(SharedRate.of_image(cut[0]), [image])[0]
        assert found.low - 1e-12 <= exact[1] <= exact[2] <= found.high + 1e-12
    assert found.high - found.low < 0.02


@pytest.mark.parametrize(("defect", "value"), [(0, 0.0), (3, 0.0), (4, 1.0)])
def test_equal_pixels(defect: int, value: float) -> None:
    good = SharedRate.of_image(np.full((400, 400), 3, np.uint16))
    one = DefectLevels(np.array([defect], np.uint16), np.array([1]))
    found = aupimo(good, [one])[0]
    assert (found.value, found.low) == (value, value)  # the rate steps from 0 to 1 at once
    assert found.high == float(defect >= 3)


def test_too_few_good_pixels_are_refused() -> None:
    assert SharedRate.empty().undefined() == "no good test image with a map"
    few = SharedRate.of_image(np.zeros((10, 10), np.uint16))
    assert "100 pixels" in few.undefined()
    with pytest.raises(DataError, match="AUPIMO is undefined"):
        aupimo(few, [])
