"""Views against torch's own operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fade.errors import DataError, ParameterError
from fade.views import (
    View,
    expand_views,
    layer_norm,
    pool,
    resize_grid,
    unit_length,
    view_vectors,
)


def patches(rows: int = 5, columns: int = 7, dim: int = 3) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((rows, columns, dim))
    return (4 * values + 2).astype(np.float32)


def channels_first(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).permute(2, 0, 1)[None]


def channels_last(values: torch.Tensor) -> np.ndarray:
    return values[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_pooling_is_zero_padded(size: int) -> None:
    expected = F.avg_pool2d(channels_first(patches()), size, 1, size // 2)
    np.testing.assert_allclose(pool(patches(), size), channels_last(expected), atol=1e-5)


@pytest.mark.parametrize("grid", [(10, 14), (13, 8), (5, 7), (3, 3), (1, 1)])
def test_grids_are_resized_bilinearly(grid: tuple[int, int]) -> None:
    expected = F.interpolate(channels_first(patches()), grid, mode="bilinear")
    np.testing.assert_allclose(resize_grid(patches(), grid), channels_last(expected), atol=1e-5)


def test_layer_norm_over_the_whole_image() -> None:
    expected = F.layer_norm(torch.from_numpy(patches()), patches().shape)
    np.testing.assert_allclose(layer_norm(patches()), expected.numpy(), atol=1e-5)
    assert not layer_norm(np.full((2, 2, 3), 7, np.float32)).any()


def test_norm_then_pooling_then_joining_then_length() -> None:
    fine, coarse = patches(), patches(3, 4, 2)
    view = View(size=96, layers=(1, 2), pooling=3, layer_norm=True)
    parts = [
        F.avg_pool2d(F.layer_norm(one, one.shape[1:]), 3, 1, 1)
        for one in (channels_first(fine), channels_first(coarse))
    ]
    joined = torch.cat([parts[0], F.interpolate(parts[1], (5, 7), mode="bilinear")], dim=1)
    expected = channels_last(F.normalize(joined, dim=1))
    found = view_vectors(view, [fine, coarse])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_mean_of_blocks_that_is_stored_as_one() -> None:
    view = View(size=96, layers=(1, 2), join="mean", unit=False)
    both = view_vectors(view, [patches(), 3 * patches()])
    np.testing.assert_allclose(both, 2 * patches(), rtol=1e-6)
    np.testing.assert_array_equal(view_vectors(view, [both]), both)


def test_vectors_of_length_zero_stay() -> None:
    assert not unit_length(np.zeros((2, 3), np.float32)).any()


def test_settings_stand_for_views() -> None:
    apart = expand_views([240, 448], [3, 5], join="apart", pooling=[1, 3])
    assert len(apart) == 8 == len(set(apart))
    assert {view.layers for view in apart} == {(3,), (5,)}
    joined = expand_views([240], [3, 5], join="mean")
    assert [(view.layers, view.join) for view in joined] == [((3, 5), "mean")]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sizes": []}, "sizes"),
        ({"sizes": [240, 240]}, "sizes"),
        ({"layers": []}, "layers"),
        ({"layers": [1, 1]}, "layers"),
        ({"pooling": []}, "pooling"),
        ({"pooling": [2]}, "no centre"),
        ({"pooling": [0]}, "no centre"),
        ({"join": "sum"}, "not by 'sum'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], reason: str) -> None:
    whole = {"sizes": [240], "layers": [1], "join": "apart", **settings}
    with pytest.raises(ParameterError, match=reason):
        expand_views(**whole)  # type: ignore[arg-type]


def test_layers_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="needs 2 layers, not 1"):
        view_vectors(View(size=96, layers=(1, 2)), [patches()])
    with pytest.raises(DataError, match="have no mean"):
        view_vectors(View(size=96, layers=(1, 2), join="mean"), [patches(), patches(5, 7, 2)])


def test_a_mean_of_layers_is_taken_after_their_norm() -> None:
    """The norm of a mean is another one: the layer of longer vectors decides it."""
    short, long = patches(), 100 * patches()[::-1]
    view = View(96, (1, 2), join="mean", layer_norm=True, unit=False)
    expected = (layer_norm(short) + layer_norm(long)) / 2
    np.testing.assert_allclose(view_vectors(view, [short, long]), expected, atol=1e-6)
    with pytest.raises(DataError, match="needs 2 layers, not 1"):
        view_vectors(view, [(short + long) / 2])
    one = View(96, (1,), join="mean", layer_norm=True, unit=False)
    np.testing.assert_array_equal(view_vectors(one, [short]), layer_norm(short))
