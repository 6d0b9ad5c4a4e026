"""The limit on false alarms holds as often as it says, and an image far from the others is seen."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config.evaluate import ThresholdParams
from pipeline.evaluation.guarantee import (
    false_alarm_limit,
    images_needed,
    limit_text,
    stands_far,
)
from pipeline.evaluation.normal_thresholds import threshold_rank


@pytest.mark.parametrize(("images", "limit"), [(29, 0.1), (59, 0.05), (149, 0.02), (299, 0.01)])
def test_at_the_maximum_so_many_images_are_needed(images: int, limit: float) -> None:
    assert false_alarm_limit(images, 0) == pytest.approx(1 - 0.05 ** (1 / images))
    assert false_alarm_limit(images, 0) <= limit < false_alarm_limit(images - 1, 0)


@pytest.mark.parametrize(("images", "above"), [(2, 1), (50, 0), (50, 5), (200, 2), (3000, 30)])
def test_it_is_the_quantile_of_a_beta_variable(images: int, above: int) -> None:
    beta = pytest.importorskip("scipy.stats").beta
    expected = beta.ppf(0.95, above + 1, images - above)
    assert false_alarm_limit(images, above) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, 1.0])
def test_it_holds_as_often_as_it_says(quantile: float) -> None:
    rng, images = np.random.default_rng(0), 40
    limit = false_alarm_limit(images, images - threshold_rank(images, quantile))
    # of uniform scores, the share above a threshold is what is left of 1
    rank = threshold_rank(images, quantile)
    rates = [1 - np.sort(rng.random(images))[rank - 1] for _ in range(4000)]
    kept = np.mean(np.array(rates) <= limit)
    assert 0.935 < kept < 0.965  # 0.95, give or take four standard errors


def test_a_limit_that_is_said_is_one_that_is_kept() -> None:
    """Rounded to the nearest, 29 images would keep 9.8 %, 58 of them 5.0 %, and 10,000 none at all."""
    for images in [*range(1, 400), 6_000, 10_000, 1_000_000]:
        limit = false_alarm_limit(images, 0)
        assert limit <= float(limit_text(limit)) / 100 < limit + 0.001 + 1e-9
    assert limit_text(false_alarm_limit(58, 0)) == "5.1"
    assert [limit_text(limit) for limit in (0.098, 0.3, 1.0)] == ["9.8", "30.0", "100.0"]


def test_the_smallest_rate_that_may_be_asked_for_needs_a_number_of_images() -> None:
    """Of a rate of 1e-19 a file would not hold what is lacking, and 1e-309 had no number at all."""
    least = ThresholdParams(false_alarms=1e-9).false_alarms
    assert least is not None
    assert images_needed(least) == 2_995_732_273
    for rate in (0.0, 1e-309, 1e-19, 1.0):
        with pytest.raises(ValueError, match="false_alarms"):
            ThresholdParams(false_alarms=rate)


@pytest.mark.parametrize("images", [1, 7, 29, 100])
@pytest.mark.parametrize("quantile", [0.01, 0.29, 0.9, 0.99, 1.0])
def test_the_rank_is_that_of_the_threshold(images: int, quantile: float) -> None:
    scores = np.random.default_rng(images).random(images)
    rank = threshold_rank(images, quantile)
    assert np.sort(scores)[rank - 1] == np.quantile(scores, quantile, method="inverted_cdf")


def test_a_rank_is_not_one_higher_than_its_share() -> None:
    assert 0.55 * 100 > 55
    assert [threshold_rank(100, share) for share in (0.07, 0.29, 0.55, 0.551)] == [7, 29, 55, 56]


def test_an_image_far_from_the_others() -> None:
    rng = np.random.default_rng(0)
    scores = np.append(rng.normal(0.3, 0.03, 39), 0.81)
    assert stands_far(scores, 39)
    assert not stands_far(scores, int(np.argmax(scores[:39])))
    two = np.append(scores, 0.8)  # a second odd one hides neither
    assert stands_far(two, 39)
    assert stands_far(two, 40)
    assert not stands_far(np.array([0.1, 0.1, 0.1, 0.9]), 3)  # three others tell nothing
    assert not stands_far(np.array([0.2, 0.2, 0.2, 0.2, 0.24]), 4)  # no spread: by less than 0.05
    assert stands_far(np.array([0.2, 0.2, 0.2, 0.2, 0.26]), 4)


def test_normal_scores_seldom_warn() -> None:
    rng = np.random.default_rng(1)
    draws = [rng.normal(0.5, 0.05, 50) for _ in range(500)]
    assert np.mean([stands_far(scores, int(scores.argmax())) for scores in draws]) < 0.01


def test_far_is_five_scaled_deviations_above_the_median_of_the_others() -> None:
    """Of the others the median is 0.5, and their absolute deviations have the median 0.1."""
    others = [0.3, 0.4, 0.5, 0.6, 0.7]
    bound = 0.5 + 5 * 1.4826 * 0.1
    assert not stands_far(np.array([*others, bound - 1e-6]), 5)
    assert stands_far(np.array([*others, bound + 1e-6]), 5)
    assert not stands_far(np.array([*others, bound + 1e-6]), 5, least_spread=0.16)
