"""Banks as workers write them, against those that are made in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.layout import Space
from cache.store import Store
from fade.bank import coreset
from fade.faiss_index import build_index, index_vectors, read_index, stored_digest
from fade.rules.thinning import thin
from fade.types import Feature, Trial
from fade.views import View
from pipeline.scoring.bank_tasks import BankTask, write_category
from pipeline.scoring.banks import bank_path
from pipeline.scoring.views import FeatureView

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
