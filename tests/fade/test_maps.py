"""Merging, fusing and scoring of maps."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.errors import DataError
from fade.maps import (
    fuse_values,
    image_score,
    largest_grid,
    merge_sizes,
    places_on,
    resize_levels,
    to_levels,
)

ZERO = np.zeros((2, 2), np.float32)


def fuse(*maps: np.ndarray | None, **how: Any) -> np.ndarray:
    return to_levels(fuse_values(*maps, **how))


def half_pixel(image: np.ndarray, size: int) -> np.ndarray:
    """Bilinear resizing, each pixel by hand."""
    n = len(image)
    out = np.empty((size, size))
    at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    low = np.floor(at).astype(int)
    high, part = np.minimum(low + 1, n - 1), at - low
    for y in range(size):
        row = image[low[y]] * (1 - part[y]) + image[high[y]] * part[y]
        out[y] = row[low] * (1 - part) + row[high] * part
    return out


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.sampled_from(["f4", "f8"]))
def test_merge_is_the_mean_of_resized_maps(grids: list[int], dtype: str) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((g, g)).astype(dtype) for g in grids]
    found = merge_sizes(maps)
    largest = max(grids)
    assert found.dtype == np.float32
    assert found.shape == (largest, largest)
    by_hand = np.mean([half_pixel(m, largest) for m in maps], axis=0)
    np.testing.assert_allclose(found, by_hand, atol=1e-6, rtol=0)
    by_cv2 = np.mean(
        [cv2.resize(m, (largest, largest), interpolation=cv2.INTER_LINEAR) for m in maps], axis=0
    )
    np.testing.assert_allclose(found, by_cv2, atol=1e-6, rtol=0)


def test_one_size_stays_as_it_is() -> None:
    one = np.random.default_rng(1).random((7, 7)).astype(np.float32)
    np.testing.assert_array_equal(merge_sizes([one]), one)


def test_levels_are_cut_not_rounded() -> None:
    values = np.array([[0.0, 0.999, 1.0], [0.5, 1.7, -3.0]])
    found = fuse(values, None, mode="language", weight=0.3, normalize=False)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 254, 255], [127, 255, 0]]


def test_modes_and_weight() -> None:
    language, vision = np.full((2, 3), 0.2), np.full((2, 3), 0.8, np.float32)
    levels = {
        mode: int(fuse(language, vision, mode=mode, weight=0.75, normalize=False)[0, 0])
        for mode in ("language", "vision", "both")
    }
    assert levels == {"language": 51, "vision": 204, "both": int(0.65 * 255)}


def test_clipping_comes_after_fusing() -> None:
    found = fuse(np.zeros((1, 1)), np.full((1, 1), 3.0), mode="both", weight=0.25, normalize=False)
    assert found.item() == int(0.75 * 255)


def test_normalize_stretches_the_fused_map() -> None:
    vision = np.array([[2.0, 4.0], [3.0, 2.5]], np.float32)
    found = fuse(None, vision, mode="vision", weight=1, normalize=True)
    assert found.tolist() == [[0, 255], [127, 63]]


@pytest.mark.parametrize("value", [0.0, 0.4, 7.0])
def test_constant_map_normalizes_to_0(value: float) -> None:
    found = fuse(np.full((3, 3), value), None, mode="language", weight=0, normalize=True)
    assert (found == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("normalize", [False, True])
def test_non_finite_is_refused(bad: float, normalize: bool) -> None:
    broken = ZERO.copy()
    broken[0, 1] = bad
    for mode, language, vision in (
        ("language", broken, None), ("vision", None, broken), ("both", ZERO, broken),
        ("both", broken, ZERO),
    ):  # fmt: skip
        with pytest.raises(DataError, match="NaN or infinite"):
            fuse(language, vision, mode=mode, weight=0.0, normalize=normalize)


@pytest.mark.parametrize("mode", ["none", "language", "vision", "both"])
def test_missing_side_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="lacks"):
        fuse(None, None, mode=mode, weight=0.5, normalize=False)
    with pytest.raises(ValueError, match="lacks"):
        image_score(None, None, mode=mode, shots=1)  # type: ignore[arg-type]


def test_mode_none_is_refused() -> None:
    with pytest.raises(ValueError, match="none"):
        fuse(ZERO, ZERO, mode="none", weight=0.5, normalize=False)
    with pytest.raises(ValueError, match="none"):
        image_score(0.5, ZERO, mode="none", shots=1)


def test_image_score_rules() -> None:
    vision = np.array([[0.1, 0.6], [0.2, 0.3]], np.float32)
    assert image_score(0.2, vision, mode="language", shots=2) == 0.2
    assert image_score(None, vision, mode="vision", shots=2) == pytest.approx(0.6)
    assert image_score(None, vision, mode="vision", shots=0) == pytest.approx(0.6)
    assert image_score(0.2, vision, mode="both", shots=1) == pytest.approx(0.4)
    assert image_score(0.2, vision, mode="both", shots=0) == 0.2
    assert image_score(0.2, None, mode="both", shots=0) == 0.2
    assert image_score(0.0, vision, mode="both", shots=1) == pytest.approx(0.3)


def test_image_score_is_clipped_after_the_mean() -> None:
    assert image_score(0.2, np.array([[1.4]]), mode="both", shots=1) == pytest.approx(0.8)
    assert image_score(0.9, np.array([[5.0]]), mode="both", shots=1) == 1.0
    assert image_score(None, np.array([[5.0]]), mode="vision", shots=1) == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_image_score_that_is_no_number(bad: float) -> None:
    for mode, language, vision in (
        ("language", bad, None), ("vision", None, np.array([[0.1, bad]])),
        ("both", bad, ZERO), ("both", 0.2, np.array([[0.1, bad]])),
    ):  # fmt: skip
        with pytest.raises(DataError, match="image score"):
            image_score(language, vision, mode=mode, shots=1)  # type: ignore[arg-type]


def test_resize_levels_is_opencvs_fixed_point() -> None:
    levels = np.random.default_rng(2).integers(0, 256, (20, 20), np.uint8)
    found = resize_levels(levels, 33)
    assert found.dtype == np.uint8
    assert found.shape == (33, 33)
    assert np.abs(found - half_pixel(levels, 33)).max() <= 1
    np.testing.assert_array_equal(resize_levels(levels, 20), levels)


def test_rectangles_are_merged_on_the_largest_grid() -> None:
    """A high patch at the right end of the second row stays there."""
    small, large = np.zeros((2, 5)), np.zeros((4, 10), np.float32)
    small[1, 4] = 1
    large[2:, 8:] = 1
    merged = merge_sizes([small, large])
    assert merged.shape == (4, 10)
    assert merged.dtype == np.float32
    assert np.unravel_index(merged.argmax(), merged.shape) == (3, 9)
    assert not merged[0].any()
    assert not merged[:, :6].any()
    assert largest_grid([(4, 10), (2, 5), (3, 13)]) == (4, 10)
    assert largest_grid([(4, 9), (3, 13), (2, 5)]) == (3, 13)
    assert resize_levels((255 * merged).astype(np.uint8), (8, 40)).shape == (8, 40)


def test_places_on_another_grid_hold_the_centres() -> None:
    corners = np.array([0, 13, 14 * 13, 14 * 14 - 1])
    assert places_on(corners, (14, 14), (8, 8)).tolist() == [0, 7, 56, 63]
    assert places_on(np.arange(4), (2, 2), (4, 6)).tolist() == [7, 10, 19, 22]
    assert places_on(np.arange(6), (2, 3), (2, 3)).tolist() == list(range(6))
