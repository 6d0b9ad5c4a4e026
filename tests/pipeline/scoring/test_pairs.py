"""Addresses of distances between images."""

from __future__ import annotations

from cache.layout import Space
from fade.types import Feature
from fade.views import Metric, View
from pipeline.scoring.pairs import PairView
from pipeline.scoring.views import FeatureView


def described(metric: Metric, unit: bool) -> dict[str, object]:
    feature = Feature(96, "vision", "patch", (2,))
    view = FeatureView(View(96, (2,), unit=unit), (feature,), "96")
    stored = Space(feature.label, {"grid": [3, 3]}, (9, 8), "float32")
    return dict(PairView(view, (stored,), metric).space.description)


def test_long_vectors_are_compared_around_a_mean() -> None:
    """Distances of before are at other addresses; those of unit vectors are the same."""
    assert described("euclidean", unit=False)["ranks"] == "centred"
    assert "ranks" not in described("euclidean", unit=True)
    assert "ranks" not in described("cosine", unit=True)
