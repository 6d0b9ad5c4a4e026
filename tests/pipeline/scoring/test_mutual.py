"""Maps of images that score each other, against the plain mean of the lowest distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.layout import Space
from cache.store import Store
from fade.rules.mutual import lowest_count, score_against_sample
from fade.types import Feature
from fade.views import View
from pipeline.scoring import mutual
from pipeline.scoring.mutual import MergeScorer, SampleScorer
from pipeline.scoring.pairs import PairView
from pipeline.scoring.views import FeatureView

FEATURE = Feature(96, "vision", "patch", (0,))
STORED = Space(FEATURE.label, {"grid": [2, 3]}, (6, 4), "float32")
UNIT = FeatureView(View(96, (0,)), (FEATURE,), "96")
RAW = FeatureView(View(96, (0,), unit=False), (FEATURE,), "96")
COSINE, EUCLIDEAN = PairView(UNIT, (STORED,), "cosine"), PairView(RAW, (STORED,), "euclidean")


@pytest.mark.parametrize("partners", [4, 10, 12])
@pytest.mark.parametrize(("view", "factor"), [(COSINE, 0.5), (EUCLIDEAN, 1)])
def test_all_partners_count_however_they_are_read(
    partners: int, view: PairView, factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutual, "MERGE_ROWS", 4)
    store, generator = Store(tmp_path), np.random.default_rng(partners)
    store.register(view.space)
    rows = generator.random((partners, 2, 6), np.float32)
    places: Any = store.write(view.space, [f"p{n}" for n in range(partners)], rows)
    sides = generator.integers(0, 2, partners)
    scorer = MergeScorer("nut", store.root, (view,), 0.5, ((places,),), (sides,))
    own = np.sort(rows[np.arange(partners), sides], axis=0)
    expected = factor * own[: lowest_count(partners, 0.5)].mean(axis=0)
    (found,) = scorer.rows(view.space, (), ())
    np.testing.assert_allclose(found, expected.reshape(2, 3), rtol=1e-5)


@pytest.mark.parametrize(
    ("view", "factor", "length"), [(COSINE, 0.5, 1), (EUCLIDEAN, 1, 0.1), (EUCLIDEAN, 1, 10)]
)
def test_an_image_of_the_sample_has_the_others_alone(
    view: PairView, factor: float, length: float, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    store.register(STORED)
    drawn = np.random.default_rng(0).standard_normal((6, 6, 4))
    images = (length * drawn).astype(np.float32)
    keys = ("a", "b", "c", "d", "e")
    places: Any = store.write(STORED, keys, images[:5])
    scorer = SampleScorer(
        "nut", store.root, (view,), 0.6, ("new", "c"), keys, ((places,),)
    )  # fmt: skip
    found = scorer.rows(STORED, [STORED], [images[[5, 2]]])
    vectors = view.view.vectors([STORED], [images])
    for one, number, others in ((found[0], 5, [0, 1, 2, 3, 4]), (found[1], 2, [0, 1, 3, 4])):
        plain = score_against_sample(
            vectors[number], list(vectors[others]), share=0.6, metric=view.metric
        )
        np.testing.assert_allclose(one.ravel(), factor * plain, rtol=1e-4, atol=1e-6)
