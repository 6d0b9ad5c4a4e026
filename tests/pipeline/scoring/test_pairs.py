"""Addresses of distances between images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cache.keys import Keys
from cache.layout import Space
from fade.types import Feature
from fade.views import Metric, View
from pipeline.config.load import parse_params
from pipeline.scoring.pairs import Batch, PairStep, PairView, mutual_digest
from pipeline.scoring.views import FeatureView
from tests.stages.test_mutual import mutual_params

FEATURE = Feature(96, "vision", "patch", (2,))
STORED = Space(FEATURE.label, {"grid": [3, 3]}, (9, 8), "float32")
IMAGES = Keys.of(f"{number:032x}" for number in range(40))


def seen(metric: Metric = "euclidean", stored: Space = STORED, **of_view: Any) -> PairView:
    view = FeatureView(View(96, (2,), **of_view), (FEATURE,), "96")
    return PairView(view, (stored,), metric)


def described(metric: Metric, unit: bool) -> dict[str, object]:
    return dict(seen(metric, unit=unit).space.description)


def test_long_vectors_are_compared_around_a_mean() -> None:
    """Distances of before are at other addresses; those of unit vectors are the same."""
    assert described("euclidean", unit=False)["ranks"] == "centred"
    assert "ranks" not in described("euclidean", unit=True)
    assert "ranks" not in described("cosine", unit=True)


def test_what_changes_a_distance_changes_its_address() -> None:
    """Label and shape are the same: only what is described tells such rows apart."""
    other = Space(STORED.label, {"grid": [3, 3], "weights": "others"}, STORED.shape, STORED.dtype)
    views = [
        seen(), seen("cosine"), seen(unit=False), seen(pooling=3), seen(layer_norm=True),
        seen(stored=other),
    ]  # fmt: skip
    assert len({(view.space.label, view.space.shape) for view in views}) == 1
    assert len({view.space.fingerprint for view in views}) == len(views)
    assert seen().space.fingerprint == views[0].space.fingerprint


def test_what_changes_the_scores_of_a_batch_changes_its_digest() -> None:
    def digest(images: Keys = IMAGES, seed: int = 0, **leaves: Any) -> str:
        rule = {f"vision__{name}": value for name, value in leaves.items()}
        vision = parse_params(mutual_params(Path(), **rule)).vision
        return mutual_digest(Batch.of("nut", images, vision, seed), vision)

    given: list[dict[str, Any]] = [
        {}, {"set_size": 20}, {"set_size": 10}, {"partners": 8}, {"partners": 16}, {"seed": 1},
        {"images": IMAGES.take(np.arange(39))}, {"lowest": 0.5}, {"metric": "euclidean"},
        {"metric": "euclidean", "unit": False},
    ]  # fmt: skip
    assert len({digest(**one) for one in given}) == len(given)
    assert digest(IMAGES.take(np.arange(40)[::-1])) == digest()


def test_images_outside_a_batch_are_compared_with_some_of_it_and_change_nothing_in_it() -> None:
    batch = Batch.of("nut", IMAGES, parse_params(mutual_params(Path())).vision)
    new = [f"{number:032x}" for number in (100, 101)]
    wider = batch.with_others([new[0], IMAGES[3], new[1], new[0]], 5)
    assert wider.keys == (*batch.keys, *new)
    drawn = batch.drawn(5)
    assert len(set(drawn)) == 5
    assert {key: set(wider.partners[key]) for key in new} == {key: set(drawn) for key in new}
    assert {key: wider.partners[key] for key in batch.keys} == batch.partners
    assert sorted(batch.with_others(new, None).partners[new[0]]) == sorted(IMAGES)


def test_pairs_that_another_step_makes_are_not_made_again() -> None:
    """Of the same category and at the same address only, whichever order the batches have."""
    vision = parse_params(mutual_params(Path())).vision
    batch = Batch.of("nut", IMAGES.take(np.arange(6)), vision)
    turned = replace(batch, keys=batch.keys[::-1])
    every, some = np.full(15, True), np.arange(15) % 3 == 0
    receipt: Any = None

    def step(view: PairView, of: Batch, lacks: np.ndarray) -> PairStep:
        return PairStep((view,), (of,), ((lacks,),), receipt)

    left = step(seen(), turned, every).without(step(seen(), batch, some))
    (((lacks,),),) = (left.lacking,)
    made = set(batch.pair_keys().take(np.flatnonzero(some)))
    expected = [key not in made for key in turned.pair_keys()]
    assert lacks.tolist() == expected
    assert list(left.counts().values()) == [10]
    for view, of in ((seen(), replace(batch, category="pin")), (seen(pooling=3), batch)):
        other = step(seen(), batch, every).without(step(view, of, some))
        assert list(other.counts().values()) == [15]
