"""Banks as workers write them, against those that are made in memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cache.layout import Space
from cache.store import Store
from fade.bank import coreset
from fade.faiss_index import build_index, index_vectors, read_index, stored_digest
from fade.rules.thinning import thin
from fade.types import Feature, Trial
from fade.views import View
from pipeline.config.load import parse_params
from pipeline.scoring.bank_tasks import BankTask, bank_tasks, write_category
from pipeline.scoring.banks import bank_path
from pipeline.scoring.views import FeatureView
from tests.stages.test_vision_encoder import vision_params

KEYS, PATCHES, DIM = ("c", "a", "b"), 9, 4
FEATURES = [Feature(96, "vision", "patch", (layer,)) for layer in (0, 1)]
VIEWS = tuple(FeatureView(View(96, one.layers, unit=False), (one,), f"v{n}")
              for n, one in enumerate(FEATURES))  # fmt: skip
TRIALS = ((Trial(2, 0), ("b", "c")), (Trial(2, 1), ("a", "b")))


@pytest.fixture
def vectors() -> np.ndarray:
    """(views, copies, references, patches, dim)."""
    drawn = np.random.default_rng(0).standard_normal((2, 2, len(KEYS), PATCHES, DIM))
    return drawn.astype(np.float32)


def task(vectors: np.ndarray, root: Path, **given: Any) -> BankTask:
    store = Store(root / "store")
    features = []
    for view, of_view in enumerate(vectors):
        stored = []
        for copy, rows in enumerate(of_view):
            space = Space(f"{view}-{copy}", {"n": [view, copy]}, (PATCHES, DIM), "float32")
            store.register(space)
            stored.append(((space, tuple(store.write(space, KEYS, rows))),))
        features.append(tuple(stored))
    leaves: dict[str, Any] = {
        "trials": None, "index": "flat", "coreset": 1.0, "metric": "euclidean", "bank_size": None,
    }  # fmt: skip
    return BankTask(
        "nut", root, store.root, KEYS, VIEWS, tuple(features), **{**leaves, **given}
    )  # fmt: skip


def written(root: Path, view: int, trial: Trial | None = None) -> Any:
    return read_index(root / bank_path("nut", f"v{view}", trial))


def test_an_index_of_all_references_and_their_copies(vectors: np.ndarray, tmp_path: Path) -> None:
    files = write_category(task(vectors, tmp_path))
    assert files == {
        bank_path("nut", f"v{view}").as_posix(): stored_digest(
            tmp_path / bank_path("nut", f"v{view}")
        ).hex()
        for view in (0, 1)
    }
    for view in (0, 1):
        index = written(tmp_path, view)
        by_image = vectors[view].transpose(1, 0, 2, 3)  # an image's copies behind it
        np.testing.assert_array_equal(index_vectors(index), by_image.reshape(-1, DIM))
        assert index.metric_type == build_index(vectors[0, 0, 0], metric="euclidean").metric_type


@pytest.mark.parametrize("leaves", [{"coreset": 0.3}, {"bank_size": 7}, {"index": "HNSW4"}])
def test_an_index_of_each_trial(
    leaves: dict[str, Any], vectors: np.ndarray, tmp_path: Path
) -> None:
    write_category(task(vectors, tmp_path, trials=TRIALS, **leaves))
    for view in (0, 1):
        for trial, keys in TRIALS:
            places = [KEYS.index(key) for key in keys]
            patches = vectors[view].transpose(1, 0, 2, 3)[places].reshape(-1, DIM)
            kept = (
                thin(patches, leaves["bank_size"], seed=trial.seed)
                if "bank_size" in leaves
                else coreset(patches, leaves.get("coreset", 1.0), "euclidean")
            )
            index = written(tmp_path, view, trial)
            plain = build_index(patches[kept], leaves.get("index", "flat"), "euclidean")
            assert type(index) is type(plain)
            assert index.metric_type == plain.metric_type
            assert index.ntotal == len(kept)
            for number in (0, len(kept) - 1):
                found = index.reconstruct(number)
                np.testing.assert_allclose(found, patches[kept][number], atol=1e-6)


SELECTION = pd.DataFrame(
    [
        *(("nut", seed, rank, key) for seed, keys in enumerate(("dab", "bca"))
          for rank, key in enumerate(keys)),
        *(("bolt", seed, rank, "xy"[rank]) for seed in (0, 1) for rank in (0, 1)),
    ],
    columns=["category", "seed", "rank", "hash"],
)  # fmt: skip


def planned(**leaves: Any) -> list[BankTask]:
    given = {
        "transforms": "flips", "transform_overrides": {"bolt": "none"}, "layer_fusion": "apart",
        "shots": [0, 2], "seeds": [0, 1], "query_in_bank": True, **leaves,
    }  # fmt: skip
    params = vision_params(**{f"vision__{name}": value for name, value in given.items()})
    receipt: Any = SimpleNamespace(
        space=lambda label: f"space of {label}",
        locate=lambda store, label, keys: {key: f"{key} of {label}" for key in keys},
    )
    return bank_tasks(SELECTION, receipt, Store("store"), parse_params(params))


def test_what_is_to_be_written_for_each_category() -> None:
    nut, bolt = planned()
    assert (nut.category, bolt.category) == ("nut", "bolt")
    assert (nut.keys, bolt.keys) == (("d", "a", "b", "c"), ("x", "y"))
    assert nut.trials is bolt.trials is None  # each takes what it needs of one index
    for one, copies in ((nut, 3), (bolt, 1)):
        assert [len(of_view) for of_view in one.features] == [copies, copies]
        labels = []
        for view, of_view in zip(one.views, one.features, strict=True):
            for ((space, places),) in of_view:
                label = space.removeprefix("space of ")  # type: ignore[attr-defined]
                assert list(places) == [f"{key} of {label}" for key in one.keys]
                assert label.startswith(view.features[0].label)
                labels.append(label)
        assert len(set(labels)) == 2 * copies


def test_each_trial_of_rule_nearest_has_its_index() -> None:
    rules = {
        "rule": {"zero_shot": "mutual", "few_shot": "nearest"},
        "bank": {"zero_shot": "batch", "few_shot": "references"},
    }
    for leaves in ({"index": "HNSW8"}, {"coreset": 0.5, **rules}):
        nut, bolt = planned(**leaves)
        assert nut.trials == ((Trial(2, 0), ("d", "a")), (Trial(2, 1), ("b", "c")))
        assert bolt.trials == ((Trial(2, 0), ("x", "y")), (Trial(2, 1), ("x", "y")))
        assert (nut.index, nut.coreset) == (leaves.get("index", "flat"), leaves.get("coreset", 1.0))
    (nut, _) = planned(thinning="superadd", bank_size=9, metric="euclidean")
    assert (nut.bank_size, nut.metric, len(nut.trials or ())) == (9, "euclidean", 2)
    assert planned(rule="subspace", shots=[2]) == []
    assert planned(shots=[0]) == []
