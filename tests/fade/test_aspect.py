"""What a size stands for where images keep their aspect ratio."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fade.aspect import TOLERANCE, AspectRatio, median_aspect_ratio, shape_of
from fade.errors import DataError

sides = st.integers(1, 20_000)
sizes = st.integers(1, 600)
ordinary = st.floats(0.2, 5.0)


@given(sides, sizes)
def test_a_square_is_met_exactly(side: int, size: int) -> None:
    assert AspectRatio(side, side).shape(size) == (size, size)
    assert shape_of(size, AspectRatio(side, side)) == shape_of(size, None) == (size, size)


@given(sides, sides, sizes)
def test_never_empty_and_never_more_than_the_square_by_more_than_rounding(
    width: int, height: int, size: int
) -> None:
    rows, columns = AspectRatio(width, height).shape(size)
    assert min(rows, columns) >= 1
    # each side is rounded up by half a cell at most
    exact = size / math.sqrt(width / height), size * math.sqrt(width / height)
    assert rows * columns <= max((exact[0] + 0.5) * (exact[1] + 0.5), size * size)


@given(ordinary, st.integers(8, 600))
def test_area_and_ratio_are_near(ratio: float, size: int) -> None:
    aspect = AspectRatio(round(ratio * 3000), 3000)
    rows, columns = aspect.shape(size)
    short = size / math.sqrt(max(aspect.ratio, 1 / aspect.ratio))
    off = 1 + 1 / short  # both sides off by half a cell, the shorter one counts most
    assert 1 / off < rows * columns / size**2 < off
    assert 1 / off < columns / rows / aspect.ratio < off


@given(sides, sides, sizes)
def test_a_turned_image_has_a_turned_grid(width: int, height: int, size: int) -> None:
    rows, columns = AspectRatio(width, height).shape(size)
    turned = AspectRatio(height, width).shape(size)
    # rounding meets the middle between two numbers from either side
    assert max(abs(rows - turned[1]), abs(columns - turned[0])) <= 1


@given(sides, sides, st.integers(1, 50))
def test_only_the_ratio_counts(width: int, height: int, factor: int) -> None:
    assert AspectRatio(width * factor, height * factor) == AspectRatio(width, height)
    assert AspectRatio(width, height).fits(width * factor, height * factor)


@pytest.mark.parametrize(
    ("width", "height", "size", "grid"),
    [(2, 1, 16, (11, 23)), (1, 3, 16, (28, 9)), (4, 3, 56, (48, 65)), (1000, 1, 4, (1, 16))],
)
def test_known_grids(width: int, height: int, size: int, grid: tuple[int, int]) -> None:
    assert AspectRatio(width, height).shape(size) == grid


def test_what_fits() -> None:
    aspect = AspectRatio(512, 256)
    assert aspect == AspectRatio(2, 1)
    assert aspect.fits(1000, 500)
    assert aspect.fits(round(1000 * TOLERANCE) - 1, 500)
    assert aspect.fits(1000, round(500 * TOLERANCE) - 1)
    assert not aspect.fits(round(1000 * TOLERANCE) + 1, 500)
    assert not aspect.fits(256, 512)


def test_the_middle_is_that_of_an_image() -> None:
    odd, usual = (100, 300), (200, 100)
    assert median_aspect_ratio([odd, usual, usual]) == AspectRatio(2, 1)
    assert median_aspect_ratio(iter([usual, odd])) == AspectRatio(1, 3)
    assert median_aspect_ratio([(640, 480)]) == AspectRatio(4, 3)
    with pytest.raises(DataError, match="no image"):
        median_aspect_ratio([])


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (-2, 1)])
def test_no_ratio(width: int, height: int) -> None:
    with pytest.raises(DataError, match="at least 1"):
        AspectRatio(width, height)
