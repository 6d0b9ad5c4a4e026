"""Tiles: each cell of the whole is kept once, from a tile that sees it."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fade.errors import ParameterError
from fade.tiles import axis_spans, cut_tiles, plan_tiles, stitch


@given(
    length=st.integers(1, 200),
    overlap=st.integers(0, 8),
    extra=st.integers(1, 30),
)
def test_spans_cover_an_axis_once(length: int, overlap: int, extra: int) -> None:
    tile = 2 * overlap + extra
    spans = axis_spans(length, tile, overlap)
    kept = [cell for span in spans for cell in range(span.first, span.last)]
    assert kept == list(range(length))
    for span in spans:
        assert span.start >= 0
        assert span.start + span.length <= length
        assert span.start <= span.first < span.last <= span.start + span.length
    if length >= tile:
        assert len(spans) == ceil((length - tile) / (tile - 2 * overlap)) + 1
        assert spans[0].start == 0
        assert spans[-1].start + tile == length
        margins = [span.first - span.start for span in spans[1:]]
        assert all(margin >= overlap for margin in margins)


def test_the_published_way_to_share_an_odd_overlap() -> None:
    first, second = axis_spans(19, 12, 2)
    # 5 cells are shared: the earlier tile loses 2 of them, the later one 3
    assert (first.start, second.start) == (0, 7)
    assert (first.first, first.last) == (0, 10)
    assert (second.first, second.last) == (10, 19)


@given(rows=st.integers(3, 30), columns=st.integers(3, 30), tile=st.integers(3, 12))
def test_what_is_cut_is_stitched(rows: int, columns: int, tile: int) -> None:
    if tile > max(rows, columns):
        return
    image = np.random.default_rng(0).integers(0, 255, (2 * rows, 2 * columns, 3), np.uint8)
    tiles = plan_tiles((rows, columns), tile, 1)
    parts = [part[::2, ::2] for part in cut_tiles(image, tiles, 2)]
    np.testing.assert_array_equal(stitch(parts, tiles, (rows, columns)), image[::2, ::2])


@pytest.mark.parametrize(
    ("grid", "tile", "overlap", "reason"),
    [
        ((12, 12), 13, 2, "tiles of 13 x 13 patches are larger than the image of 12 x 12"),
        ((12, 12), 4, 2, "longer than twice the overlap"),
        ((12, 12), 4, -1, "longer than twice the overlap"),
    ],
)
def test_tiles_that_cannot_be(grid: tuple[int, int], tile: int, overlap: int, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        plan_tiles(grid, tile, overlap)


def test_a_strip_is_tiled_along_its_length() -> None:
    tiles = plan_tiles((5, 40), 12, 2)
    assert {tile.shape for tile in tiles} == {(5, 12)}
