"""Distances to references and to other test images, put together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cache.keys import Keys
from cache.layout import Space
from fade.types import Feature
from fade.views import View
from pipeline.config.load import parse_params
from pipeline.scoring.nearest import Nearest
from pipeline.scoring.union import Union, UnionScorer
from pipeline.scoring.views import FeatureView
from tests.stages.test_vision_encoder import vision_params


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


@pytest.mark.parametrize(("partners", "count"), [("all", 16), (6, 6)])
def test_images_to_calibrate_on_have_as_many_partners_as_test_images(
    partners: str | int, count: int
) -> None:
    params = parse_params(
        vision_params(vision__bank="references_and_batch", vision__partners=partners)
    )
    tests = {name: Keys.of([f"{name}{n}" for n in range(16)]) for name in ("nut", "pin")}
    normal = {"nut": Keys.of(["a", "b", "nut3"]), "bolt": Keys.of(["c"])}
    receipt: Any = SimpleNamespace(space=lambda label: Space(label, {}, (16, 4), "float32"))
    union = Union.plan(params, tests, normal, receipt, SimpleNamespace(root="x"))  # type: ignore[arg-type]
    assert list(union.batches) == ["nut", "pin"]
    assert union.digest("bolt") is None
    assert union.digest("nut") != union.digest("pin")
    found = union.batches["nut"].partners
    assert {key: len(others) for key, others in found.items()} == {
        **dict.fromkeys(tests["nut"], count - (partners == "all")), "a": count, "b": count,
    }  # fmt: skip
    assert all(set(others) <= set(tests["nut"]) for others in found.values())
    plans: Any = [SimpleNamespace(bank=SimpleNamespace(category="nut"), lacking=0)]
    step = union.step(plans)  # nothing is looked up where no component is lacking
    assert not any(step.counts().values())
