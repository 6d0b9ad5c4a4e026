"""Rates at a threshold against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

from fade.metrics import PixelHistogram
from fade.rates import IMAGE_RATES, PIXEL_RATES, image_rates, pixel_rates
from tests.fade.test_metrics import histogram_of, random_samples

quick = settings(max_examples=30, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def expected(truth: np.ndarray, called: np.ndarray) -> list[float]:
    (tn, fp), (fn, tp) = confusion_matrix(truth, called, labels=[False, True])
    return [f1_score(truth, called, zero_division=0), tp / (tp + fn), fp / (fp + tn)]


@quick
@given(seed=seeds, images=st.integers(2, 20), threshold=st.sampled_from([-1.0, 0.0, 1 / 7, 0.3, 9]))
def test_rates_of_images_equal_sklearn(seed: int, images: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, 4, images) / 7, rng.random(images) < 0.5
    truth[:2] = True, False
    values, reasons = image_rates(scores, truth, threshold)
    found = [values[name] for name in IMAGE_RATES]
    np.testing.assert_allclose(found, expected(truth, scores > threshold), atol=1e-12)
    assert not reasons


@quick
@given(seed=seeds, level=st.integers(0, 255))
def test_rates_of_pixels_equal_sklearn(seed: int, level: int) -> None:
    samples = random_samples(seed)
    values, _ = pixel_rates(histogram_of(samples), level)
    levels = np.concatenate([levels.ravel() for levels, _ in samples])
    truth = np.concatenate([mask.ravel() for _, mask in samples])
    found = [values[name] for name in PIXEL_RATES]
    np.testing.assert_allclose(found, expected(truth, levels > level), atol=1e-12)


def test_what_is_undefined_says_why() -> None:
    nothing = pixel_rates(PixelHistogram.empty(), 255)[1]
    assert nothing == dict(
        zip(PIXEL_RATES, ["no defect pixel", "no defect pixel", "no normal pixel"], strict=True)
    )
    values, reasons = image_rates(np.array([0.2]), np.array([True]), 0.2)  # at it is not above it
    assert values["full_image_recall"] == values["full_image_f1"] == 0
    assert reasons == {"full_image_false_alarms": "no good test image"}
    assert values["full_image_false_alarms"] == pytest.approx(float("nan"), nan_ok=True)
