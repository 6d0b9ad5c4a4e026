"""Thinning of banks: crowded places lose most."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fade.errors import ParameterError
from fade.rules.thinning import thin


@pytest.mark.parametrize("far", [0, 1e5])
def test_crowded_places_lose_most(far: float) -> None:
    """Wherever they are: products of vectors of length 200,000 are off by more than all distances."""
    generator = np.random.default_rng(0)
    crowd = 0.01 * generator.standard_normal((900, 4))
    others = 10 * generator.standard_normal((100, 4))
    away = far * np.array([1, -1, 1, -1])
    vectors = (away + np.concatenate([crowd, others])).astype(np.float32)
    kept = thin(vectors, 100, seed=0, rounds=4)
    assert len(kept) == 100 == len(set(kept.tolist()))
    assert (np.diff(kept) > 0).all()
    share = (kept >= 900).mean()
    assert share > 0.4  # drawn blindly it would be a tenth


def test_rounds_bound_the_memory() -> None:
    """All distances of 4,000 vectors would take 64 MB; of a hundredth of them at a time 6 kB."""
    vectors = np.random.default_rng(0).standard_normal((4000, 4)).astype(np.float32)
    tracemalloc.start()
    try:
        kept = thin(vectors, 400, seed=0, rounds=100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == 400
    assert peak < 1e6


def test_seeds_decide() -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    np.testing.assert_array_equal(thin(vectors, 50, seed=0), thin(vectors, 50, seed=0))
    assert (thin(vectors, 50, seed=0) != thin(vectors, 50, seed=1)).any()


@pytest.mark.parametrize("count", [1, 7, 299, 300, 1000])
def test_as_many_as_wanted_whatever_the_vectors(count: int) -> None:
    same = np.ones((300, 4), np.float32)  # no radius tells them apart
    assert len(thin(same, count, seed=0)) == min(count, 300)
    assert len(thin(np.zeros((0, 4), np.float32), count, seed=0)) == 0


@pytest.mark.parametrize("wrong", [{"count": 0}, {"rounds": 0}, {"neighbours": 0}])
def test_numbers_below_one(wrong: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match="at least 1"):
        thin(np.ones((5, 4), np.float32), **{"count": 2, "seed": 0, **wrong})
