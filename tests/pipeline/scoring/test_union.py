"""Distances to references and to other test images, put together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cache.layout import Space
from fade.types import Feature
from fade.views import View
from pipeline.scoring.nearest import Nearest
from pipeline.scoring.union import UnionScorer
from pipeline.scoring.views import FeatureView


@pytest.mark.parametrize(("rule", "factor"), [
    (Nearest("euclidean", per_dimension=True), 1 / 4), (Nearest("euclidean"), 1), (Nearest(), 1),
])  # fmt: skip
def test_the_nearer_of_both_counts_on_one_scale(rule: Nearest, factor: float) -> None:
    feature = Feature(96, "vision", "patch", (0,))
    view = FeatureView(View(96, (0,), unit=False), (feature,), "96")
    stored = Space(feature.label, {"grid": [2, 3]}, (6, 4), "float32")
    others = [np.arange(6, dtype=np.float32).reshape(2, 3) + image for image in (0, 1)]
    known = np.full((2, 3), 0.9, np.float32)
    bank: Any = SimpleNamespace(rule=rule, view_maps=lambda *_: [None, known])
    batch: Any = SimpleNamespace(by_view=lambda: [others])
    scorer = UnionScorer(bank, (), (view,), batch)
    found = scorer.rows(stored, [stored], [np.zeros((2, 6, 4), np.float32)])
    expected = [
        one
        for other in others
        for one in (other * np.float32(factor), np.minimum(known, other * np.float32(factor)))
    ]
    np.testing.assert_array_equal(found, expected)
