"""PatchCore's re-weighted score of a block: of each image its worst patch, in each trial."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cache.layout import Space
from cache.store import Store
from fade.faiss_index import build_index
from fade.types import Feature, Trial
from fade.views import View
from pipeline.evaluation.component import Component
from pipeline.evaluation.reweighting import Reweigher, Reweighting, bank_vectors
from pipeline.scoring.banks import Bank, Comparison, HeldBank
from pipeline.scoring.views import FeatureView

FEATURE = Feature(96, "vision", "patch", (0,))
VIEW = FeatureView(View(96, (0,), unit=False), (FEATURE,), "96")
NAMES = ["weave", "weave", "dots"]


def by_hand(distance: float, patch: np.ndarray, bank: np.ndarray) -> float:
    """Equation 7 of the paper, in float64."""
    nearest = bank[np.linalg.norm(bank - patch, axis=1).argmin()]
    crowd = bank[np.argsort(np.linalg.norm(bank - nearest, axis=1), kind="stable")[:9]]
    shares = np.exp(np.linalg.norm(crowd - patch, axis=1))
    return float(distance * (1 - shares[0] / shares.sum()))


def test_the_worst_patch_of_each_image_and_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, 4, 5)).astype("float16")
    space = Space(FEATURE.label, {"layer": 0, "grid": [2, 2]}, (4, 5), "float16")
    store = Store(tmp_path / "store")
    store.register(space)
    store.write(space, ["one", "two", "three"], vectors)
    index = store.index(space)
    places = tuple(index[key] for key in ("one", "two", "three"))
    banks = {
        (name, trial): rng.standard_normal((12, 5)).astype("float32")
        for name in ("weave", "dots")
        for trial in (Trial(1, 0), Trial(2, 0))
    }
    monkeypatch.setattr(
        "pipeline.evaluation.reweighting.bank_vectors",
        lambda bank, comparison, patches: banks[bank.category, comparison.trial],
    )
    at_once, whole = [], FeatureView.vectors

    def noted(view: FeatureView, spaces: list[Space], stored: list[np.ndarray]) -> np.ndarray:
        at_once.append(len(stored[0]))
        return whole(view, spaces, stored)

    monkeypatch.setattr(FeatureView, "vectors", noted)
    comparisons = tuple(
        (Comparison(trial, (0,), False),) * 3 for trial in (Trial(1, 0), Trial(2, 0))
    )
    opened = tuple(Bank(name, ("96",), True, root=tmp_path) for name in NAMES)
    block = Reweighting(VIEW, (Component(space, places),), opened, comparisons)
    maps = [rng.random((3, 2, 2)).astype("float32") for _ in comparisons]
    maps[0][1] = [[0.5, 0.75], [0.75, 0.25]]  # of equal ones the first
    found = block.scores(store, maps)
    assert at_once == [1, 1, 1]
    worst = [[int(of_image.argmax()) for of_image in of_trial] for of_trial in maps]
    assert worst[0][1] == 1
    for number, trial in enumerate((Trial(1, 0), Trial(2, 0))):
        for i, name in enumerate(NAMES):
            patch = vectors[i, worst[number][i]].astype(np.float64)
            expected = by_hand(maps[number][i].max(), patch, banks[name, trial])
            assert found[number, i] == pytest.approx(expected, rel=1e-5)


def test_a_bank_has_each_transform_of_the_references_of_a_trial() -> None:
    vectors = np.arange(3 * 2 * 4 * 5, dtype=np.float32).reshape(-1, 5)
    bank = HeldBank(
        "nut", ("96",), True, copies=2, indexes={"96": build_index(vectors, metric="euclidean")}
    )
    found = bank_vectors(bank, Comparison(Trial(2, 0), (2, 0), False), patches=4)
    np.testing.assert_array_equal(found, np.concatenate([vectors[16:], vectors[:8]]))


def test_an_image_to_calibrate_on_is_left_out_of_its_bank() -> None:
    """One that is a reference, too; test images meet all references."""
    trial = Trial(3, 0)
    comparisons = {(name, trial): Comparison(trial, (0, 1, 2), False) for name in ("nut", "pin")}
    features: Any = SimpleNamespace(of=lambda images, first: ())
    banks = {name: Bank(name, ("96",), True) for name in ("nut", "pin")}
    positions = {"nut": {"a": 0, "b": 1, "c": 2}, "pin": {"b": 2, "d": 0, "e": 1}}
    reweigher = Reweigher(VIEW, features, banks, comparisons, positions)

    def references(images: pd.DataFrame, first: int | None) -> list[tuple[int, ...]]:
        block = reweigher.block(images, first, [trial], {"b": "why", "d": "why"})
        assert [bank.category for bank in block.banks] == images["category"].tolist()
        (of_trial,) = block.comparisons
        return [comparison.references for comparison in of_trial]

    category = ["nut", "nut", "pin", "pin"]
    images = pd.DataFrame({"category": category, "hash": ["a", "b", "b", "d"]})
    assert references(images, None) == [(0, 1, 2), (0, 2), (0, 1), (1, 2)]
    assert references(images[["category"]], 0) == [(0, 1, 2)] * 4
