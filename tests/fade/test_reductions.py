"""Reductions to an image score."""

from __future__ import annotations

import numpy as np
import pytest

from fade.errors import DataError, ParameterError
from fade.reductions import reweighted, smooth_similar, top_mean

VALUES = np.arange(1000, dtype=np.float32).reshape(20, 50)


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 999), (0.0001, 999), (0.01, 994.5), (0.5, 749.5), (1, 499.5)]
)
def test_the_mean_of_the_largest(share: float, expected: float) -> None:
    assert top_mean(np.random.default_rng(0).permutation(VALUES.reshape(-1)), share) == expected
    assert top_mean(VALUES, share) == expected


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_shares_that_mean_nothing(share: float) -> None:
    with pytest.raises(ParameterError, match="0 to 1"):
        top_mean(VALUES, share)


@pytest.mark.parametrize("values", [[], [1, float("nan")], [1, float("inf")]])
def test_values_that_are_no_scores(values: list[float]) -> None:
    with pytest.raises(DataError, match="missing or not finite"):
        top_mean(np.array(values), 0.01)


def test_reweighting_by_the_formula() -> None:
    bank = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    patch = np.full(4, 2, np.float32)
    to_patch = np.linalg.norm(bank - patch, axis=1)
    nearest = int(to_patch.argmin())
    around = np.argsort(np.linalg.norm(bank - bank[nearest], axis=1))[:9]
    softmax = np.exp(to_patch[around]) / np.exp(to_patch[around]).sum()
    expected = to_patch[nearest] * (1 - softmax[0])
    assert around[0] == nearest
    assert reweighted(float(to_patch.min()), patch, bank) == pytest.approx(expected, rel=1e-5)
    assert reweighted(3.0, patch, bank, neighbours=1) == 3.0
    assert reweighted(3.0, patch, bank[:1]) == 3.0  # a softmax of one is 1: each score would be 0


def test_far_patches_do_not_overflow() -> None:
    bank = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    patch = np.full(4, 5000, np.float32)
    assert 0 <= reweighted(10_000.0, patch, bank) <= 10_000


def test_images_that_look_alike_share_scores() -> None:
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    scores = np.array([0.0, 4.0, 10.0, 8.0])
    alone = smooth_similar(scores, embeddings, [1])
    np.testing.assert_allclose(alone, [0, 0.4, 1, 0.8])
    in_twos = smooth_similar(scores, embeddings, [2])
    similarity = 1 / np.sqrt(1.01)
    first = 0.4 * similarity / (1 + similarity)
    np.testing.assert_allclose(in_twos[0], first, rtol=1e-6)
    both = smooth_similar(scores, embeddings, [1, 2])
    np.testing.assert_allclose(both, (alone + in_twos) / 2)
    assert len(smooth_similar(scores, embeddings, [9])) == 4


def test_smoothing_by_the_formula() -> None:
    rng = np.random.default_rng(0)
    scores, embeddings = rng.random(60), rng.standard_normal((60, 8))
    scaled = (scores - scores.min()) / np.ptp(scores)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = np.zeros(60)
    for window in (1, 3, 20):
        for i in range(60):
            near = np.argsort(-(unit @ unit[i]))[:window]
            weights = np.maximum(unit[near] @ unit[i], 0)
            expected[i] += weights @ scaled[near] / weights.sum() / 3
    np.testing.assert_allclose(smooth_similar(scores, embeddings, [1, 3, 20]), expected)


def test_images_that_are_opposite_have_no_part_in_each_others_scores() -> None:
    embeddings = np.array([[1.0, 0.0], [-1.0, 0.01], [0.0, 1.0]])
    found = smooth_similar(np.array([0.0, 0.5, 1.0]), embeddings, [3])
    near = 0.01 / np.hypot(1, 0.01)  # cosine of the last two
    np.testing.assert_allclose(found, [0, (0.5 + near) / (1 + near), (1 + 0.5 * near) / (1 + near)])
    rng = np.random.default_rng(0)
    for images in range(2, 9):
        found = smooth_similar(rng.random(images), rng.standard_normal((images, 2)))
        assert ((found >= 0) & (found <= 1 + 1e-12)).all()


def test_scores_that_are_all_the_same() -> None:
    assert smooth_similar(np.full(3, 0.4), np.eye(3)).tolist() == [0, 0, 0]


def test_smoothing_that_cannot_be() -> None:
    with pytest.raises(ParameterError, match="windows"):
        smooth_similar(np.arange(3.0), np.eye(3), [0])
    with pytest.raises(ParameterError, match="give at least one"):
        smooth_similar(np.arange(3.0), np.eye(3), [])
    with pytest.raises(DataError, match="3 scores"):
        smooth_similar(np.arange(3.0), np.eye(4))
