"""Views: which vectors they are, and what their maps' addresses depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cache.layout import Space
from fade.types import Feature
from fade.views import View
from pipeline.config.load import parse_params
from pipeline.scoring.components import map_space
from pipeline.scoring.fits import fit_space
from pipeline.scoring.views import FeatureView, described
from tests.stages.test_vision_encoder import vision_params

ROWS, COLUMNS = 2, 3
FEATURES = tuple(Feature(96, "vision", "patch", (layer,)) for layer in (0, 1, 2))
SPACES = [
    Space(feature.label, {"layer": layer, "grid": [ROWS, COLUMNS]}, (6, 4 + layer), "float16")
    for layer, feature in enumerate(FEATURES)
]


def view(*layers: int, **more: object) -> FeatureView:
    return FeatureView(
        View(96, layers, **more),  # type: ignore[arg-type]
        tuple(FEATURES[layer] for layer in layers),
        "96",
    )


def test_vectors_are_the_layers_side_by_side_row_by_row() -> None:
    generator = np.random.default_rng(0)
    stored = [generator.standard_normal((5, *space.shape)).astype("float16") for space in SPACES]
    chosen = view(2, 0, unit=False)  # in the view's order, not the store's
    found = chosen.vectors(SPACES, stored)
    np.testing.assert_array_equal(found, np.concatenate([stored[2], stored[0]], axis=2))
    assert chosen.dim(SPACES) == found.shape[2] == 10
    assert chosen.grid(SPACES) == (ROWS, COLUMNS)
    pooled = view(1, unit=False, pooling=3).vectors(SPACES, stored).reshape(5, ROWS, COLUMNS, -1)
    placed = stored[1].astype(np.float32).reshape(5, ROWS, COLUMNS, -1)
    np.testing.assert_allclose(pooled[:, 0, 1], placed.sum(axis=(1, 2)) / 9, atol=1e-6)
    np.testing.assert_allclose(pooled[:, 0, 2], placed[:, :, 1:].sum(axis=(1, 2)) / 9, atol=1e-6)


def test_maps_of_other_vectors_lie_apart() -> None:
    clip = FeatureView(View(96, (-1,)), (Feature(96, "clip", "patch"),), "96")
    assert clip.plain
    assert not view(1).plain
    views = [
        [view(0, 1)], [view(1, 0)], [view(0), view(1)], [view(0, 1, pooling=3)],
        [view(0, 1, layer_norm=True)], [view(0, 1, unit=False)], [view(0, 1, join="mean")],
    ]  # fmt: skip
    found = {
        map_space("vision-map", SPACES, views=described(one, SPACES)).fingerprint for one in views
    }
    assert len(found) == len(views)
    own = [Space(clip.features[0].label, {}, (4, 8), "float16")]
    raw = [
        replace(clip, view=View(96, (-1,), **more))
        for more in ({"pooling": 3}, {"unit": False}, {"layer_norm": True})
    ]
    assert described([clip], own) is None
    for one in raw:
        assert not one.plain
        assert described([clip, one], own) is not None


def test_subspaces_of_other_vectors_or_components_lie_apart() -> None:
    def address(one: FeatureView, **leaves: object) -> str:
        given = {f"vision__{name}": value for name, value in leaves.items()}
        params = parse_params(vision_params(vision__rule="subspace", **given))
        return fit_space(one, SPACES, params).fingerprint

    apart = [
        address(view(0)), address(view(1)), address(view(0, pooling=3)), address(view(0, 1)),
        address(view(0), variance=0.5), address(view(0), variance=1.0),
        address(view(0), components=2), address(view(0), components=3),
    ]  # fmt: skip
    assert len(set(apart)) == len(apart)
    assert address(view(0), components=2, variance=0.5) == address(view(0), components=2)
