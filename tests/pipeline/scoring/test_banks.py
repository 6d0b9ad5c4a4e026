"""Banks as scoring workers use them, against brute force."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fade.errors import ParameterError, StoreError
from fade.faiss_index import build_index, write_index
from fade.maps import merge_sizes
from fade.types import Trial
from pipeline.config.load import parse_params
from pipeline.scoring.banks import Bank, Comparison, bank_path, comparison_digest
from tests.stages.test_vision_encoder import vision_params

SIZES = {"2": 4, "4": 16}
"""Patches by view, whose name here is the grid's side."""
REFERENCES = 5


def vectors(*shape: int, seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).standard_normal((*shape, 8)).astype(np.float32)
    return raw / np.linalg.norm(raw, axis=-1, keepdims=True)


def distance(query: np.ndarray, others: np.ndarray) -> np.ndarray:
    return 0.5 * (1 - (query @ others.T).max(axis=1))


@pytest.fixture
def references(tmp_path: Path) -> Iterator[dict[str, np.ndarray]]:
    before = Path.cwd()
    os.chdir(tmp_path)
    made = {side: vectors(REFERENCES, int(side) ** 2, seed=int(side)) for side in SIZES}
    for side, one in made.items():
        write_index(build_index(one.reshape(-1, 8)), bank_path("some/thing", side))
    yield made
    os.chdir(before)


@pytest.fixture
def query() -> dict[str, np.ndarray]:
    return {side: vectors(patches, seed=90 + int(side)) for side, patches in SIZES.items()}


BANK = Bank("some/thing", tuple(SIZES), exact=True)


def compare(*references: int, query: bool = False, trial: Trial | None = None) -> Comparison:
    return Comparison(trial or Trial(len(references), 0), references, query)


def test_maps_by_brute_force(
    references: dict[str, np.ndarray], query: dict[str, np.ndarray]
) -> None:
    wanted = [compare(3), compare(1, 2), compare(4, 0, 2), compare(0, 1, 2, 3, 4)]
    found = BANK.vision_maps(query, wanted)
    assert found.shape == (4, 4, 4)
    assert found.dtype == np.float32
    for one, comparison in zip(found, wanted, strict=True):
        chosen = list(comparison.references)
        maps = [
            distance(query[side], references[side][chosen].reshape(-1, 8)).reshape(int(side), -1)
            for side in SIZES
        ]
        np.testing.assert_allclose(one, merge_sizes(maps), atol=1e-6)
        alone = BANK.vision_maps(query, [comparison])[0]
        np.testing.assert_array_equal(one, alone)


def test_minimum_comes_before_sizes_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reference is near at one size, the other at the other: each size takes its own."""
    monkeypatch.chdir(tmp_path)
    query = {
        "1": np.eye(8, dtype=np.float32)[:1],
        "2": np.repeat(np.eye(8, dtype=np.float32)[:1], 4, 0),
    }
    far = {side: -one for side, one in query.items()}
    for side, first, second in (("1", query, far), ("2", far, query)):
        write_index(build_index(np.concatenate([first[side], second[side]])), bank_path("x", side))
    bank = Bank("x", ("1", "2"), exact=True)
    found = bank.vision_maps(query, [compare(0), compare(1), compare(0, 1)])
    np.testing.assert_allclose(found[0], 0.5)
    np.testing.assert_allclose(found[1], 0.5)
    np.testing.assert_allclose(found[2], 0.0)  # after merging it would be 0.5


def test_query_is_one_more_reference(
    references: dict[str, np.ndarray], query: dict[str, np.ndarray]
) -> None:
    found = BANK.vision_maps(query, [compare(query=True), compare(2, query=True), compare(2)])
    own = []
    for side in SIZES:
        products = query[side] @ query[side].T
        np.fill_diagonal(products, -2)
        own.append((0.5 * (1 - products.max(axis=1))).reshape(int(side), -1))
    np.testing.assert_allclose(found[0], merge_sizes(own), atol=1e-6)
    both = [
        np.minimum(one, distance(query[side], references[side][2]).reshape(int(side), -1))
        for side, one in zip(SIZES, own, strict=True)
    ]
    np.testing.assert_allclose(found[1], merge_sizes(both), atol=1e-6)
    assert (found[1] <= found[2] + 1e-6).all()


def test_search_on_a_gpu_gives_the_same_maps(
    references: dict[str, np.ndarray], query: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's CPU stands for the GPU."""
    wanted = [compare(3), compare(1, 2, query=True), compare(4, 0, 2), compare(query=True)]
    expected = BANK.vision_maps(query, wanted)
    monkeypatch.setattr(
        "pipeline.scoring.banks.choose_device", lambda wish: {"auto": "cpu:0"}[wish]
    )
    monkeypatch.setattr("fade.bank.similarity_to_references", None)
    found = replace(BANK, device="auto").vision_maps(query, wanted)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_query_that_is_a_reference_scores_0(references: dict[str, np.ndarray]) -> None:
    query = {side: one[3] for side, one in references.items()}
    found = BANK.vision_maps(query, [compare(3), compare(1, 3, query=True), compare(1)])
    assert found[:2].max() < 1e-6
    assert found[2].min() > 0.01


def test_single_patch_zero_shot_is_refused() -> None:
    bank = Bank("x", ("1",), exact=True)
    with pytest.raises(ParameterError, match="single patch"):
        bank.vision_maps({"1": vectors(1, seed=0)}, [compare(query=True)])


def test_bank_of_each_trial(
    references: dict[str, np.ndarray], query: dict[str, np.ndarray]
) -> None:
    trials = [Trial(1, 0), Trial(1, 1)]
    for trial, chosen in zip(trials, (0, 4), strict=True):
        for side, one in references.items():
            write_index(build_index(one[chosen]), bank_path("some/thing", side, trial))
    bank = Bank("some/thing", tuple(SIZES), exact=False)
    found = bank.vision_maps(
        query, [compare(0, trial=trials[0]), compare(4, trial=trials[1], query=True)]
    )
    exact = BANK.vision_maps(query, [compare(0), compare(4, query=True)])
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_what_a_comparison_lacks_is_not_looked_for(
    references: dict[str, np.ndarray], query: dict[str, np.ndarray]
) -> None:
    wanted = [compare(), compare(query=True), compare(1)]
    nothing, own, one = BANK.view_maps("4", query["4"], wanted)
    assert nothing is None
    assert own is not None
    assert one is not None
    expected = [BANK.maps_in("4", query["4"], [one])[0] for one in wanted[1:]]
    np.testing.assert_array_equal([own, one], expected)
    of_trials = replace(BANK, exact=False)  # no index was written for a trial without references
    found = of_trials.vision_maps(query, [compare(query=True)])
    np.testing.assert_array_equal(found, BANK.vision_maps(query, [compare(query=True)]))


def test_rewritten_bank_is_noticed(
    references: dict[str, np.ndarray], query: dict[str, np.ndarray]
) -> None:
    before = BANK.vision_maps(query, [compare(0)])
    for side, one in references.items():
        path = bank_path("some/thing", side)
        write_index(build_index(one[::-1].reshape(-1, 8)), path)
        os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(BANK.vision_maps(query, [compare(4)]), before)


def test_missing_bank(
    query: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="missing or damaged"):
        BANK.vision_maps(query, [compare(0)])


def test_paths_keep_categories_and_trials_apart() -> None:
    paths = {
        bank_path(category, "8", trial)
        for category in ("a", "A/b", "..", "a.b", "ä")
        for trial in (None, Trial(1, 0), Trial(1, 1), Trial(10, 1))
    }
    assert len(paths) == 20
    assert all(".." not in path.parts for path in paths)


CHECKSUMS = {"f": {"k": 1, "l": 2}, "g": {"k": 3, "l": 4}}


def digest(
    keys: str = "kl",
    labels: str = "fg",
    checksums: Any = CHECKSUMS,
    seed: int = 0,
    query: bool = False,
    batch: str | None = None,
    **leaves: Any,
) -> str:
    """The address of maps that are made with some references and parameters."""
    params = parse_params(
        vision_params(**{f"vision__{name}": value for name, value in leaves.items()})
    )
    comparison = Comparison(Trial(len(keys), seed), tuple(range(len(keys))), query)
    receipt: Any = SimpleNamespace(rows=checksums)
    return comparison_digest(comparison, list(keys), receipt, list(labels), params, batch)


def test_maps_lie_apart_where_they_are_compared_otherwise() -> None:
    thinned = {"thinning": "superadd", "bank_size": 9}
    euclidean: dict[str, Any] = {"metric": "euclidean"}
    apart: list[dict[str, Any]] = [
        {}, {"keys": "k"}, {"labels": "f"}, {"query": True}, {"batch": "a"}, {"batch": "b"},
        {"checksums": CHECKSUMS | {"g": {"k": 3, "l": 5}}},
        {"index": "HNSW8"}, {"index": "HNSW16"}, {"index": "HNSW8", "keys": "lk"},
        {"index": "HNSW8", **euclidean}, {"coreset": 0.5}, {"coreset": 0.25},
        {"coreset": 0.5, "query": True}, thinned, {**thinned, "bank_size": 8},
        {**thinned, "seed": 1}, {**thinned, "index": "HNSW8"},
        {"neighbours": 2}, {"neighbours": 3}, euclidean, {**euclidean, "per_dimension": True},
        {"radius": 1, "transforms": "none"}, {"radius": 2, "transforms": "none"},
        {"keys": "", "query": True},
    ]  # fmt: skip
    addresses = [digest(**one) for one in apart]
    assert len(set(addresses)) == len(apart)
    # trials that compare with the same references share maps
    alike: list[dict[str, Any]] = [{"keys": "lk"}, {"seed": 1}, {"transforms": "none"}]
    for same in alike:
        assert digest(**same) == addresses[0]
    assert digest("", query=True, index="HNSW8") == addresses[-1]  # no index has a part in it
