"""Filters of maps against torch's and scipy's own."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.decomposition import PCA
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from fade.closing import Closing, closed_mask
from fade.errors import ParameterError
from fade.filters import (
    Border,
    Finish,
    Kernel,
    Resize,
    gaussian,
    gaussian_by_opencv,
    gaussian_small,
    resize_scores,
)
from fade.foreground import foreground

SCORES = np.random.default_rng(0).random((6, 9)).astype(np.float32)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("bilinear", {"mode": "bilinear", "align_corners": False}),
        ("corners", {"mode": "bilinear", "align_corners": True}),
        ("nearest", {"mode": "nearest"}),
    ],
)
def test_maps_are_resized_as_torch_does(method: str, options: dict[str, object]) -> None:
    tensor = torch.from_numpy(SCORES)[None, None]
    for shape in ((48, 72), (50, 31), (6, 9), (1, 1)):
        if method == "bilinear" and shape == (1, 1):
            continue
        expected = F.interpolate(tensor, shape, **options)[0, 0].numpy()  # type: ignore[arg-type]
        found = resize_scores(SCORES, shape, method)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_gaussian_with_reflected_borders() -> None:
    values = np.random.default_rng(0).random((60, 50)).astype(np.float32)
    expected = gaussian_blur(torch.from_numpy(values)[None, None], [33, 33], [4.0, 4.0])
    np.testing.assert_allclose(gaussian(values, 4, "reflect"), expected[0, 0].numpy(), atol=1e-5)
    assert np.abs(gaussian(values, 4) - gaussian(values, 4, "reflect")).max() > 1e-4


@pytest.mark.parametrize("border", ["symmetric", "reflect"])
@pytest.mark.parametrize("sigma", [0.7, 4, 30])
def test_opencv_smooths_as_scipy_does(border: Border, sigma: float) -> None:
    values = np.random.default_rng(0).random((60, 50)).astype(np.float32)
    found = gaussian_by_opencv(values, sigma, border)
    np.testing.assert_allclose(found, gaussian(values, sigma, border), atol=3e-7, rtol=0)


def test_a_cut_kernel() -> None:
    expected = cv2.GaussianBlur(SCORES, (3, 3), 4.0)
    np.testing.assert_array_equal(gaussian_small(SCORES, 4.0), expected)


@pytest.mark.parametrize("border", ["symmetric", "reflect"])
@pytest.mark.parametrize("shape", [(64, 64), (37, 90), (5, 4)])
@pytest.mark.parametrize("sigma", [1e-20, 0.3, 4, 30])
def test_cells_are_smoothed_to_the_same_bits(
    border: Border, shape: tuple[int, int], sigma: float
) -> None:
    scores = np.random.default_rng(0).random((8, 5), np.float32)
    kernel: Kernel = "gaussian" if border == "symmetric" else "reflect"
    found = Finish("nearest", sigma, kernel).apply(scores, shape)
    expected = gaussian(resize_scores(scores, shape, "nearest"), sigma, border)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("method", ["bilinear", "corners", "nearest"])
@pytest.mark.parametrize("sigma", [0, 2])
def test_a_map_is_resized_and_then_smoothed(method: Resize, sigma: float) -> None:
    found = Finish(method, sigma).apply(SCORES, (48, 60))
    expected = gaussian(resize_scores(SCORES, (48, 60), method), sigma)
    assert found.tobytes() == expected.tobytes()
    small = Finish(method, sigma, "small").apply(SCORES, (48, 60))
    expected = gaussian_small(resize_scores(SCORES, (48, 60), method), sigma)
    assert small.tobytes() == expected.tobytes()


def test_sigma_0_changes_nothing() -> None:
    np.testing.assert_array_equal(gaussian(SCORES, 0), SCORES)
    np.testing.assert_array_equal(gaussian_small(SCORES, 0), SCORES)


@pytest.mark.parametrize("sigma", [-1, 101, float("nan")])
def test_sigmas_that_cannot_be(sigma: float) -> None:
    with pytest.raises(ParameterError, match="sigma"):
        gaussian(SCORES, sigma)


def test_methods_that_cannot_be() -> None:
    with pytest.raises(ParameterError, match="not by 'cubic'"):
        resize_scores(SCORES, (5, 5), "cubic")  # type: ignore[arg-type]


def test_the_object_in_the_middle_is_the_foreground() -> None:
    patches = np.random.default_rng(0).standard_normal((20, 20, 8)).astype(np.float32)
    patches[5:15, 5:15] += 40
    for sign in (1, -1):
        mask = foreground(sign * patches)
        assert mask[4:16, 4:16].all()
        assert mask.sum() == 144


def test_the_foreground_is_that_of_the_plain_way() -> None:
    """AnomalyDINO's steps one by one: scikit-learn's PCA, and neighbourhoods as loops would see them."""
    random = np.random.default_rng(0)
    shares, swapped = [], 0
    for _ in range(20):
        rows, columns = random.integers(8, 17, 2)
        patches = random.standard_normal((rows, columns, 8)).astype(np.float32)
        patches[rows // 4 : -rows // 4, columns // 4 :] += random.normal(0, 4, 8).astype(np.float32)
        component = PCA(1, svd_solver="full").fit_transform(patches.reshape(-1, 8).astype(float))
        component, limit = component.reshape(rows, columns), 4.0
        passes = component > limit
        middle = [slice(int(0.2 * side), int(0.8 * side)) for side in (rows, columns)]
        if passes[tuple(middle)].mean() <= 0.35:
            passes, swapped = -component > limit, swapped + 1
        for together, outside in ((np.any, False), (np.any, False), (np.all, True)):
            around = sliding_window_view(np.pad(passes, 1, constant_values=outside), (3, 3))
            passes = together(around, axis=(2, 3))
        np.testing.assert_array_equal(foreground(patches, limit), passes)
        shares.append(passes.mean())
    assert 5 < swapped < 15
    assert sum(0.05 < share < 0.95 for share in shares) > 10


def test_a_broken_scratch_is_closed() -> None:
    scores = np.zeros((40, 40), np.float32)
    scores[20, 5:35] = 1
    scores[20, 18:22] = 0.5
    assert not closed_mask(scores, 0.8, radius=0)[20, 20]
    assert closed_mask(scores, 0.8, radius=8)[20, 5:35].all()
    assert closed_mask(scores, 0.8, radius=8, lower=0.4)[20, 18:22].all()
    assert not closed_mask(scores, 0.8, radius=8, lower=0.7)[20, 18:22].any()


def test_rings_are_filled_and_eroded() -> None:
    scores = np.zeros((40, 40), np.float32)
    cv2.circle(scores, (20, 20), 10, 1.0, 2)
    filled = closed_mask(scores, 0.5, radius=0)
    assert filled[20, 20]
    assert not filled[0, 0]
    eroded = closed_mask(scores, 0.5, radius=0, erosion=3)
    assert eroded[20, 20]
    assert eroded.sum() < filled.sum()
    assert not closed_mask(np.zeros((40, 40)), 0.5, radius=3).any()


def test_a_lone_spot_grows_little() -> None:
    scores = np.zeros((40, 40), np.float32)
    scores[20, 20] = 1
    assert closed_mask(scores, 0.5, radius=8).sum() <= 9


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_a_line_closes_gaps_of_twice_its_radius(radius: int) -> None:
    """Between two bars three pixels wide; one angle closes along rows, two along columns as well."""
    for gap in range(1, 2 * radius + 3):
        scores = np.zeros((9, gap + 12))
        scores[3:6, [5, 6 + gap]] = 1
        between = np.s_[4, 6 : 6 + gap]
        assert closed_mask(scores, 0.5, radius=radius, angles=1)[between].all() == (
            gap <= 2 * radius
        )
        turned = closed_mask(scores.T, 0.5, radius=radius, angles=2).T
        assert turned[between].all() == (gap <= 2 * radius)
        if gap > 3:  # more than a line is thick
            assert not closed_mask(scores.T, 0.5, radius=radius, angles=1).T[between].all()


@pytest.mark.parametrize("seed", range(5))
def test_closing_at_the_edge_is_that_within_a_larger_map(seed: int) -> None:
    scores = np.random.default_rng(seed).random((14, 17))
    inside = closed_mask(np.pad(scores, 9), 0.8, radius=3, angles=5, lower=0.3)[9:-9, 9:-9]
    np.testing.assert_array_equal(closed_mask(scores, 0.8, radius=3, angles=5, lower=0.3), inside)


def test_masks_begin_above_their_limits_and_lose_what_erosion_says() -> None:
    scores = np.array([[0.5, 0.25, 0.5], [0.6, 0.25, 0.6], [0.6, 0.3, 0.6]])
    found = closed_mask(scores, 0.5, radius=1, angles=1, lower=0.5)
    assert found.astype(int).tolist() == [[0, 0, 0], [1, 0, 1], [1, 1, 1]]
    square = np.pad(np.ones((11, 11)), 4)
    for erosion in (1, 2, 3):
        inner = np.pad(np.ones((11 - 2 * erosion,) * 2, bool), 4 + erosion)
        np.testing.assert_array_equal(closed_mask(square, 0.5, radius=0, erosion=erosion), inner)
    for lower in (0.0, 1.0):  # are shares
        assert closed_mask(square, 0.5, radius=1, lower=lower).sum() == 121
    assert [Closing().is_none, Closing(radius=1).is_none, Closing(erosion=1).is_none] == [1, 0, 0]


@pytest.mark.parametrize(
    "wrong", [{"radius": -1}, {"angles": 0}, {"lower": 1.2}, {"lower": -0.1}, {"erosion": -1}]
)
def test_closings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match="closing with"):
        closed_mask(SCORES, 0.5, **{"radius": 2, **wrong})  # type: ignore[arg-type]
