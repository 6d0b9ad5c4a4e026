"""Scores of rule subspace in blocks of images."""

from __future__ import annotations

import numpy as np
import pytest

from cache.layout import Space
from fade.rules.subspace import Subspace
from fade.types import Feature
from fade.views import View
from pipeline.scoring.subspace import SubspaceScorer
from pipeline.scoring.views import FeatureView


@pytest.mark.parametrize("side", [7, 14, 15])
def test_an_image_scores_alike_whatever_stands_beside_it(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.standard_normal((2, 768, 51)))[0].astype(np.float32)
    fits = iter([Subspace(np.zeros(768, np.float32), one.T.copy(), 1) for one in axes] * 4)
    monkeypatch.setattr("pipeline.scoring.subspace.open_fit", lambda *_: next(fits))
    feature = Feature(96, "vision", "patch", (2,))
    view = FeatureView(View(96, (2,)), (feature,), "96")
    stored = Space(feature.label, {"grid": [side, side]}, (side * side, 768), "float32")
    scorer = SubspaceScorer("x", "", (view,), (stored,), ((None, None),))  # type: ignore[arg-type]
    images = generator.standard_normal((20, side * side, 768)).astype(np.float32)
    together = scorer.rows(stored, [stored], [images]).reshape(20, 2, side, side)
    assert (together[:, 0] != together[:, 1]).any()
    for part in (slice(3, 20), slice(7, 8), slice(19, 20)):
        found = scorer.rows(stored, [stored], [images[part]])
        np.testing.assert_array_equal(found.reshape(-1, 2, side, side), together[part])
