"""Nearest patches against all distances by the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fade.bank import coreset, similarity_to_references
from fade.errors import DataError, ParameterError
from fade.faiss_index import build_index
from fade.flat_vectors import FlatVectors
from fade.rules.nearest import (
    mean_of_nearest,
    nearest_by_index,
    nearest_in_place,
    nearest_in_references,
    nearest_others,
)
from fade.views import Metric, unit_length

METRICS: list[Metric] = ["cosine", "euclidean"]


def vectors(*shape: int, seed: int = 0, metric: Metric = "euclidean") -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return unit_length(values) if metric == "cosine" else values


def distances(queries: np.ndarray, bank: np.ndarray, metric: Metric) -> np.ndarray:
    wide, others = queries.astype(np.float64), bank.astype(np.float64)
    if metric == "cosine":
        return 1 - wide @ others.T
    return np.linalg.norm(wide[:, None] - others, axis=-1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 2, 6])
def test_each_reference_apart(metric: Metric, k: int) -> None:
    queries, bank = vectors(30, 8, metric=metric), vectors(3 * 6, 8, seed=1, metric=metric)
    found = nearest_in_references(queries, bank, 6, k=k, metric=metric)
    assert found.shape == (3, 30, k)
    for number in range(3):
        part = distances(queries, bank[6 * number : 6 * number + 6], metric)
        np.testing.assert_allclose(
            found[number], np.sort(part, axis=1)[:, :k], rtol=1e-5, atol=1e-6
        )
    together = np.sort(distances(queries, bank, metric), axis=1)[:, :k].mean(axis=1)
    np.testing.assert_allclose(mean_of_nearest(found), together, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_the_mean_of_the_nearest_of_all_references(seed: int) -> None:
    rng = np.random.default_rng(seed)
    references, k = rng.integers(1, 9, size=2)
    parts = np.sort(rng.random((references, 5, k)).astype(np.float32), axis=2)
    expected = np.sort(parts.transpose(1, 0, 2).reshape(5, -1), axis=1)[:, :k].mean(axis=1)
    np.testing.assert_allclose(mean_of_nearest(parts), expected, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3])
def test_patches_are_compared_piece_by_piece(
    metric: Metric, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fade.rules.nearest.PRODUCTS", 40)
    queries, bank = vectors(13, 8, metric=metric), vectors(18, 8, seed=1, metric=metric)
    found = nearest_in_references(queries, bank, 9, k=k, metric=metric)
    for number, group in enumerate(np.split(bank, 2)):
        expected = np.sort(distances(queries, group, metric), axis=1)[:, :k]
        np.testing.assert_allclose(found[number], expected, rtol=1e-5, atol=1e-6)
    apart = distances(queries, queries, metric)
    np.fill_diagonal(apart, np.inf)
    others = nearest_others(queries, k=k, metric=metric)
    np.testing.assert_allclose(others, np.sort(apart, axis=1)[:, :k], rtol=1e-5, atol=1e-6)


def test_long_vectors_that_are_near_keep_their_distance() -> None:
    """Products of vectors of length 1,000 are off by more than these distances."""
    far = np.tile(np.array([1000, -1000], np.float32), 4)
    bank = far + np.float32(0.1) * vectors(20, 8, seed=1)
    queries = bank + np.float32(0.001) * vectors(20, 8, seed=2)
    found = nearest_in_references(queries, bank, 20, metric="euclidean")[0, :, 0]
    expected = np.linalg.norm(queries.astype(np.float64) - bank, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    others = nearest_others(np.concatenate([bank, queries]), metric="euclidean")[:, 0]
    np.testing.assert_allclose(others, np.tile(expected, 2), rtol=1e-3)
    placed = nearest_in_place(queries[None], bank[None, None, None], 20, metric="euclidean")[0]
    np.testing.assert_allclose(placed, expected, rtol=1e-3)


@pytest.mark.parametrize("kind", ["numpy", "flat", "Flat", "IVF256,Flat", "RR512,IVF256,Flat"])
@pytest.mark.parametrize("k", [1, 3])
def test_an_index_of_long_vectors_finds_the_nearest(kind: str, k: int) -> None:
    """FAISS takes products where queries times dimensions are many."""
    middle, scale = np.tile([1000, -1000], 256) / np.sqrt(512), np.float32(0.001)
    groups = 4 * vectors(64, 512, seed=3)
    bank = middle + scale * (np.repeat(groups, 80, axis=0) + vectors(64 * 80, 512, seed=1))
    queries = middle + scale * (np.repeat(groups, 5, axis=0) + vectors(320, 512, seed=2))
    bank, queries = bank.astype(np.float32), queries.astype(np.float32)
    index = (
        FlatVectors(bank, "euclidean") if kind == "numpy" else build_index(bank, kind, "euclidean")
    )
    found = nearest_by_index(queries, index, k=k, metric="euclidean")
    wide, others = queries.astype(np.float64) - middle, bank.astype(np.float64) - middle
    squares = (wide**2).sum(1)[:, None] + (others**2).sum(1) - 2 * wide @ others.T
    expected = np.sqrt(np.sort(squares, axis=1)[:, :k])
    np.testing.assert_allclose(found, expected, rtol=1e-2 if "RR" in kind else 1e-3)


def test_an_index_takes_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = vectors(50, 8), vectors(9, 8, seed=1)
    expected = distances(queries, bank, "euclidean")
    for rows, columns in ((4, 7), (9, 2), (100, 49)):
        monkeypatch.setattr("fade.flat_vectors.QUERY_ROWS", rows)
        monkeypatch.setattr("fade.flat_vectors.BANK_ROWS", columns)
        squares, places = FlatVectors(bank, "euclidean").search(queries, 5)
        np.testing.assert_array_equal(places, np.argsort(expected, axis=1)[:, :5])
        np.testing.assert_allclose(np.sqrt(squares), np.sort(expected, axis=1)[:, :5], rtol=1e-5)


def test_an_index_that_makes_vectors_unit_compares_these() -> None:
    bank, queries = 5 + vectors(60, 8), 5 + vectors(9, 8, seed=1)
    index = build_index(bank, "L2norm,Flat", "euclidean")
    found = nearest_by_index(queries, index, metric="euclidean")[:, 0]
    expected = distances(unit_length(queries), unit_length(bank), "euclidean").min(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@given(st.integers(0, 6), st.sampled_from(METRICS), st.integers(1, 2))
def test_patches_at_about_the_same_place(radius: int, metric: Metric, copies: int) -> None:
    rows, columns = 4, 5
    queries = vectors(rows, columns, 3, metric=metric)
    bank = vectors(2, copies, rows, columns, 3, seed=1, metric=metric)
    found = nearest_in_place(queries, bank, radius, metric=metric).reshape(2, rows, columns)
    for reference in range(2):
        for row in range(rows):
            for column in range(columns):
                near = bank[
                    reference,
                    :,
                    max(0, row - radius) : row + radius + 1,
                    max(0, column - radius) : column + radius + 1,
                ].reshape(-1, 3)
                expected = distances(queries[row, column][None], near, metric).min()
                assert found[reference, row, column] == pytest.approx(expected, abs=2e-6)


def test_grids_must_be_the_same_for_places() -> None:
    with pytest.raises(DataError, match="all grids must be the same"):
        nearest_in_place(vectors(4, 5, 3), vectors(1, 1, 5, 4, 3), 1)


def test_a_negative_radius() -> None:
    with pytest.raises(ParameterError, match="within -1 cells"):
        nearest_in_place(vectors(4, 5, 3), vectors(1, 1, 4, 5, 3), -1)


@pytest.mark.parametrize("k", [0, 7])
def test_neighbours_that_no_reference_has(k: int) -> None:
    with pytest.raises(ParameterError, match="choose 1 to 6"):
        nearest_in_references(vectors(3, 8), vectors(12, 8), 6, k=k)


@pytest.mark.parametrize(("bank", "patches"), [(0, 6), (13, 6)])
def test_banks_that_hold_no_whole_references(bank: int, patches: int) -> None:
    for search in (nearest_in_references, similarity_to_references):
        with pytest.raises(DataError, match="holds no references"):
            search(vectors(3, 8), vectors(bank, 8), patches)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3])
def test_other_patches_and_an_index(metric: Metric, k: int) -> None:
    patches = vectors(9, 8, metric=metric)
    patches[5] = patches[2]  # equal, and each still the other's neighbour
    every = distances(patches, patches, metric)
    np.fill_diagonal(every, np.inf)
    expected = np.sort(every, axis=1)[:, :k]
    found = nearest_others(patches, k=k, metric=metric)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(found[[2, 5], 0]).max() < 1e-6
    queries, index = vectors(7, 8, seed=3, metric=metric), build_index(patches, metric=metric)
    by_index = nearest_by_index(queries, index, k=k, metric=metric)
    expected = np.sort(distances(queries, patches, metric), axis=1)[:, :k]
    np.testing.assert_allclose(by_index, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ParameterError, match="the nearest 9 of 8"):
        nearest_others(patches, k=9, metric=metric)


def test_a_coreset_of_long_vectors_covers_them() -> None:
    """By cosine, vectors of one direction and all lengths would be one."""
    line = np.linspace(1, 10, 19, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    kept = line[coreset(line, 3 / 19, "euclidean")]
    assert kept[:, 0].tolist() == [1.0, 5.5, 10.0]
    far = 1000 + np.float32(0.01) * line  # products lose all of these distances
    kept = line[coreset(far, 3 / 19, "euclidean")]
    assert kept[:, 0].tolist() == [1.0, 5.5, 10.0]
