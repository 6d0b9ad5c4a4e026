"""Banks that compare otherwise than FADE, against brute force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fade.errors import ParameterError
from fade.faiss_index import build_index, write_index
from fade.types import Trial
from fade.views import Metric
from pipeline.scoring.banks import Bank, Comparison, bank_path
from pipeline.scoring.nearest import Nearest

SIDE, REFERENCES, COPIES = 3, 4, 2
TRIAL = Trial(2, 0)


def vectors(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, 8)).astype(np.float32)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    "rule",
    [
        Nearest("euclidean"),
        Nearest("euclidean", per_dimension=True, neighbours=3),
        Nearest("cosine", neighbours=2),
        Nearest("cosine", radius=1),
        Nearest("euclidean", radius=0),
    ],
)
def test_maps_by_brute_force(
    rule: Nearest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.scoring.banks.choose_device", None)  # there are no such searches
    query, stored = vectors(SIDE * SIDE, seed=1), vectors(REFERENCES, COPIES, SIDE * SIDE, seed=2)
    if rule.metric == "cosine":
        query, stored = unit(query), unit(stored)
    index = build_index(stored.reshape(-1, 8), metric=rule.metric)
    write_index(index, bank_path("x", "9"))
    bank = Bank("x", ("9",), exact=True, copies=COPIES, rule=rule, device="auto")
    with_query = rule.radius is None
    wanted = [Comparison(TRIAL, (0, 3), with_query), Comparison(TRIAL, (2,), False)]
    found = bank.vision_maps({"9": query}, wanted)
    places = np.stack(np.unravel_index(np.arange(SIDE * SIDE), (SIDE, SIDE)), axis=1)
    apart = np.abs(places[:, None] - places[None]).max(axis=-1)
    for one, comparison in zip(found, wanted, strict=True):
        others = stored[list(comparison.references)].reshape(-1, SIDE * SIDE, 8)
        each = [distances(query, other, rule.metric) for other in others]
        if rule.radius is not None:
            each = [np.where(apart <= rule.radius, one, np.inf) for one in each]
        if comparison.query:
            own = distances(query, query, rule.metric)
            np.fill_diagonal(own, np.inf)
            each.append(own)
        nearest = np.sort(np.concatenate(each, axis=1), axis=1)[:, : rule.neighbours].mean(axis=1)
        expected = nearest / (8 if rule.per_dimension else 1)
        np.testing.assert_allclose(one.ravel(), expected, rtol=1e-5, atol=1e-6)


def distances(query: np.ndarray, others: np.ndarray, metric: Metric) -> np.ndarray:
    if metric == "cosine":
        return 0.5 * (1 - query @ others.T)
    return np.linalg.norm(query[:, None] - others, axis=-1)


def test_an_index_of_each_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    query, stored = vectors(SIDE * SIDE, seed=1), vectors(5, seed=2)
    write_index(build_index(stored, metric="euclidean"), bank_path("x", "9", TRIAL))
    bank = Bank("x", ("9",), exact=False, rule=Nearest("euclidean", neighbours=5))
    found = bank.vision_maps({"9": query}, [Comparison(TRIAL, (0, 1), False)])[0]
    expected = distances(query, stored, "euclidean").mean(axis=1)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)
    few = Bank("x", ("9",), exact=False, rule=Nearest("euclidean", neighbours=6))
    with pytest.raises(ParameterError, match=r"vision\.neighbours is 6, and there are 5 patches"):
        few.vision_maps({"9": query}, [Comparison(TRIAL, (0, 1), False)])


@pytest.mark.parametrize(("copies", "found"), [(1, 9), (2, 18)])
def test_more_neighbours_than_a_reference_has(copies: int, found: int) -> None:
    query, bank = vectors(9, seed=1), vectors(9 * copies, seed=2)
    enough = Nearest("euclidean", neighbours=found)
    assert enough.to_references(query, bank, copies, (3, 3)).shape == (1, 9, found)
    more = Nearest("euclidean", neighbours=found + 1)
    with pytest.raises(ParameterError, match=f"there are {found} patches"):
        more.to_references(query, bank, copies, (3, 3))


def test_a_patch_has_all_others_of_its_image() -> None:
    query = vectors(9, seed=1)
    assert Nearest(neighbours=8).to_others(query).shape == (1, 9, 8)
    with pytest.raises(ParameterError, match="there are 8 patches"):
        Nearest(neighbours=9).to_others(query)


def test_places_on_a_grid_that_is_no_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    query, stored = unit(vectors(12, seed=1)), unit(vectors(2, 12, seed=2))
    write_index(build_index(stored.reshape(-1, 8)), bank_path("x", "12"))
    bank = Bank("x", ("12",), exact=True, grids={"12": (2, 6)}, rule=Nearest(radius=0))
    found = bank.vision_maps({"12": query}, [Comparison(TRIAL, (0, 1), False)])[0]
    assert found.shape == (2, 6)
    in_place = 0.5 * (1 - np.einsum("pd,rpd->rp", query, stored).max(axis=0))
    np.testing.assert_allclose(found.ravel(), in_place, atol=1e-6)
    wide = replace(bank, rule=Nearest(radius=1)).vision_maps(
        {"12": query}, [Comparison(TRIAL, (0,), False)]
    )
    plain = replace(bank, rule=Nearest()).vision_maps(
        {"12": query}, [Comparison(TRIAL, (0, 1), False)]
    )
    anywhere = 0.5 * (1 - (query @ stored.reshape(-1, 8).T).max(axis=1))
    np.testing.assert_allclose(plain[0], anywhere.reshape(2, 6), atol=1e-6)
    near = [0, 1, 6, 7]  # of the first patch
    assert wide[0, 0, 0] == pytest.approx(
        0.5 * (1 - (query[0] @ stored[0, near].T).max()), abs=1e-6
    )


def test_maps_of_before_are_found_again() -> None:
    assert Nearest().described() == {}
    of_cosines = {"metric": "cosine", "per_dimension": False, "neighbours": 2, "radius": None}
    assert Nearest(neighbours=2).described() == {"nearest": of_cosines}
    ranks = of_cosines | {"metric": "euclidean", "neighbours": 1, "ranks": "centred on the image"}
    assert Nearest("euclidean").described() == {"nearest": ranks}
