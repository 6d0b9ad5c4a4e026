"""The further metrics against scikit-learn and against plain loops over all pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from fade.errors import ParameterError
from fade.further_metrics import further_image_metrics, further_names, further_pixel_metrics
from fade.metrics import PixelHistogram
from fade.regions import label_regions
from tests.fade.test_metrics import histogram_of, random_samples, reference_aupro

quick = settings(max_examples=30, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


@quick
@given(seed=seeds)
def test_average_precision_of_pixels_equals_sklearn(seed: int) -> None:
    samples = random_samples(seed)
    values, reasons = further_pixel_metrics(histogram_of(samples))
    levels = np.concatenate([levels.ravel() for levels, _ in samples])
    truth = np.concatenate([mask.ravel() for _, mask in samples])
    assert values["full_pixel_ap"] == pytest.approx(
        average_precision_score(truth, levels), abs=1e-12
    )
    assert not reasons


@quick
@given(seed=seeds, images=st.integers(1, 30), ties=st.booleans())
def test_average_precision_of_images_equals_sklearn(seed: int, images: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, images) / 7 if ties else rng.random(images)
    truth = rng.random(images) < 0.5
    truth[0] = True
    values, _ = further_image_metrics(scores, truth)
    assert values["full_image_ap"] == pytest.approx(
        average_precision_score(truth, scores), abs=1e-12
    )


@quick
@given(seed=seeds)
def test_au_pro_at_each_limit_equals_a_plain_reference(seed: int) -> None:
    samples = random_samples(seed)
    limits = [0.3, 0.05, 1.0, 0.001]
    values, _ = further_pixel_metrics(histogram_of(samples), limits)
    for limit in limits[1:]:
        expected = reference_aupro(samples, limit)
        assert values[f"full_pixel_au_pro_{limit:g}"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_of_equal_levels_precision_is_the_share_of_defect_pixels(level: int) -> None:
    mask = np.zeros((4, 5), bool)
    mask[1, 1:3] = True
    levels = np.full(mask.shape, level, np.uint8)
    values, _ = further_pixel_metrics(PixelHistogram.of_image(levels, label_regions(mask)))
    assert values["full_pixel_ap"] == pytest.approx(0.1)


def test_what_is_undefined_says_why() -> None:
    nothing = PixelHistogram.empty()
    values, reasons = further_pixel_metrics(nothing, [0.3, 0.05])
    names = ("full_pixel_ap", "full_pixel_au_pro_0.05")
    assert set(names) < set(further_names([0.3, 0.05]))
    assert reasons == dict.fromkeys(names, "no test image with a known mask")
    assert all(np.isnan(value) for value in values.values())
    whole = np.ones((1, 1), bool)  # one pixel, a defect
    one = PixelHistogram.of_image(np.array([[9]], np.uint8), label_regions(whole))
    values, reasons = further_pixel_metrics(one, [0.3, 0.05])
    assert values["full_pixel_ap"] == 1
    assert reasons == {"full_pixel_au_pro_0.05": "no normal pixel"}
    good = np.zeros(2, bool)
    assert further_image_metrics(np.array([0.1, 0.2]), good)[1] == {
        "full_image_ap": "no anomalous test image"
    }
    assert further_image_metrics(np.zeros(0), np.zeros(0, bool))[1] == {
        "full_image_ap": "no test image"
    }


def test_limits_outside_their_range_are_refused() -> None:
    mask = np.array([[True, False]])
    one = PixelHistogram.of_image(mask.astype(np.uint8), label_regions(mask))
    with pytest.raises(ParameterError, match="pro_limit is"):
        further_pixel_metrics(one, [0.3, 1.5])
