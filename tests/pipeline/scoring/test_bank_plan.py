"""Blocks of images at a bank: the maps of each, and how little is float32 at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cache.layout import Space
from fade.faiss_index import build_index, write_index
from fade.types import Feature, Trial
from fade.views import View
from pipeline.scoring.bank_plan import VisionScorer
from pipeline.scoring.banks import Bank, Comparison, bank_path
from pipeline.scoring.nearest import Nearest
from pipeline.scoring.views import FeatureView

FEATURES = [Feature(96, "vision", "patch", (layer,)) for layer in (0, 1)]
SPACES = [
    Space(one.label, {"layer": one.layers[0], "grid": [2, 3]}, (6, 5), "float16")
    for one in FEATURES
]
VIEWS = tuple(
    FeatureView(View(96, one.layers, unit=False), (one,), f"layer{one.layers[0]}")
    for one in FEATURES
)


def test_each_image_is_scored_in_one_view_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    stored = [rng.standard_normal((3, 6, 5)).astype("float16") for _ in SPACES]
    normal = {view.label: rng.standard_normal((12, 5)).astype("float32") for view in VIEWS}
    for label, vectors in normal.items():
        write_index(build_index(vectors, metric="euclidean"), bank_path("weave", label))
    bank = Bank(
        "weave", tuple(normal), True, grids=dict.fromkeys(normal, (2, 3)), rule=Nearest("euclidean")
    )
    both = tuple(Comparison(Trial(len(one), 0), one, False) for one in ((0,), (0, 1)))
    happened: list[str] = []
    make, search = FeatureView.vectors, Bank.maps_in

    def made(view: FeatureView, spaces: Sequence[Space], rows: Sequence[np.ndarray]) -> np.ndarray:
        happened.append(f"{len(rows[0])} of {view.label}")
        return make(view, spaces, rows)

    def searched(
        bank: Bank, view: str, query: np.ndarray, comparisons: Sequence[Comparison]
    ) -> list[np.ndarray]:
        happened.append(f"maps of {view}")
        return search(bank, view, query, comparisons)

    monkeypatch.setattr(FeatureView, "vectors", made)
    monkeypatch.setattr(Bank, "maps_in", searched)
    output = Space("vision-map", {}, (2, 3), "float32")
    found = VisionScorer(bank, both, VIEWS).rows(output, SPACES, stored)
    of_image = ["1 of layer0", "maps of layer0", "1 of layer1", "maps of layer1"]
    assert happened == 3 * of_image
    expected = [
        np.mean(
            [
                np.linalg.norm(
                    rows[image][:, None].astype("float64") - normal[view.label][: 6 * shots], axis=2
                ).min(axis=1)
                for rows, view in zip(stored, VIEWS, strict=True)
            ],
            axis=0,
        ).reshape(2, 3)
        for image in range(3)
        for shots in (1, 2)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
