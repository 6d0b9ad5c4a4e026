"""Mutual scoring against the plain formula over all ordered pairs."""

from __future__ import annotations

import numpy as np
import pytest

from fade.errors import DataError, ParameterError
from fade.rules.mutual import (
    Lowest,
    comparable,
    draw_sample,
    facing,
    lowest_count,
    match,
    mutual_scores,
    score_against_sample,
)
from fade.rules.pairs import all_pairs, circle_pairs
from fade.views import Metric, unit_length

METRICS: list[Metric] = ["cosine", "euclidean"]


def batch(images: int, patches: int = 7, dim: int = 5, *, unit: bool) -> list[np.ndarray]:
    values = np.random.default_rng(3).standard_normal((images, patches, dim)).astype(np.float32)
    return list(unit_length(values) if unit else 3 * values)


def distances(first: np.ndarray, second: np.ndarray, metric: Metric) -> np.ndarray:
    """All distances by the definition, float64."""
    wide, others = first.astype(np.float64), second.astype(np.float64)
    if metric == "cosine":
        return 1 - wide @ others.T
    return np.linalg.norm(wide[:, None] - others, axis=-1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("images", [5, 11])
def test_all_pairs_are_the_formula(images: int, metric: Metric) -> None:
    values = batch(images, unit=metric == "cosine")
    expected = []
    for i, one in enumerate(values):
        nearest = [
            distances(one, other, metric).min(axis=1) for j, other in enumerate(values) if i != j
        ]
        lowest = np.sort(nearest, axis=0)[: max(1, int(0.3 * (images - 1)))]
        expected.append(lowest.mean(axis=0))
    found = mutual_scores(values, all_pairs(images), metric=metric)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_order_of_pairs_does_not_matter() -> None:
    values, pairs = batch(40, unit=True), circle_pairs(40, 32, 0)
    mixed = np.random.default_rng(0).permutation(pairs)
    np.testing.assert_array_equal(mutual_scores(values, pairs), mutual_scores(values, mixed))


@pytest.mark.parametrize("metric", METRICS)
def test_one_product_serves_both_images(metric: Metric) -> None:
    first, second = batch(2, unit=metric == "cosine")
    second = second[:4]
    one, other = match(
        comparable(first, metric), facing(comparable(second, metric), metric), metric
    )
    expected = distances(first, second, metric)
    np.testing.assert_allclose(one, expected.min(axis=1), atol=2e-6, rtol=1e-5)
    np.testing.assert_allclose(other, expected.min(axis=0), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("length", [1.5, 1000])
def test_long_vectors_that_are_near_keep_their_distance(length: float) -> None:
    near = np.random.default_rng(0).standard_normal((2, 40, 8)) / 100
    first, second = (length / np.sqrt(8) + near).astype(np.float32)
    ready, turned = (
        comparable(first, "euclidean"),
        facing(comparable(second, "euclidean"), "euclidean"),
    )
    before = ready.copy(), turned.copy()
    one, other = match(ready, turned, "euclidean", np.empty((40, 40), np.float32))
    expected = distances(first, second, "euclidean")
    np.testing.assert_allclose(one, expected.min(axis=1), rtol=1e-3)
    np.testing.assert_allclose(other, expected.min(axis=0), rtol=1e-3)
    np.testing.assert_array_equal(before[0], ready)  # they meet other images, too
    np.testing.assert_array_equal(before[1], turned)


def test_unit_vectors_are_compared_by_one_product() -> None:
    first, second = (
        comparable(image, "euclidean") for image in batch(2, patches=50, dim=64, unit=True)
    )
    products = first @ facing(second, "euclidean").T
    found, _ = match(first, facing(second, "euclidean"), "euclidean")
    np.testing.assert_array_equal(found, np.sqrt(np.maximum(-2 * products.max(axis=1), 0)))


def test_the_lowest_are_kept_in_bounded_memory() -> None:
    values = np.random.default_rng(0).random((300, 4)).astype(np.float32)
    lowest = Lowest(4, 9)
    for row in values:
        lowest.add(row)
    assert lowest._values.shape == (18, 4)
    np.testing.assert_allclose(lowest.mean(), np.sort(values, axis=0)[:9].mean(axis=0), rtol=1e-6)


def test_nothing_to_average() -> None:
    with pytest.raises(DataError, match="no other"):
        Lowest(4, 9).mean()


def test_a_sample_scores_as_the_batch_does() -> None:
    values = batch(12, unit=True)
    whole = mutual_scores(values, all_pairs(12))
    alone = score_against_sample(values[4], values[:4] + values[5:])
    np.testing.assert_allclose(alone, whole[4], rtol=1e-5, atol=1e-6)
    assert len(score_against_sample(values[4], values[:4])) == len(whole[4])
    with pytest.raises(ParameterError, match="4 images cannot score itself"):
        score_against_sample(values[4], values[:3])


def test_samples_are_drawn_once_for_a_seed() -> None:
    sample = draw_sample(100, 32, 1)
    assert len(set(sample.tolist())) == 32
    np.testing.assert_array_equal(sample, draw_sample(100, 32, 1))
    assert draw_sample(7, 32, 1).tolist() == list(range(7))


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_shares_that_mean_nothing(share: float) -> None:
    with pytest.raises(ParameterError, match="share of other images"):
        lowest_count(10, share)


def test_the_published_number_of_images() -> None:
    assert [lowest_count(n) for n in (4, 15, 31, 82)] == [1, 4, 9, 24]


def test_four_images_are_too_few() -> None:
    with pytest.raises(ParameterError, match="a batch of 4 images"):
        mutual_scores(batch(4, unit=True), all_pairs(4))
