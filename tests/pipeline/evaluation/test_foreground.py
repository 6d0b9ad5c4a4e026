"""What scores 0 as background, on grids that are no squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache.layout import Space
from cache.store import Store
from fade.aspect import Shape
from pipeline.evaluation.component import Component
from pipeline.evaluation.foreground import Foregrounds, foreground_mask, masked_map

ROWS, COLUMNS, LIMIT = 10, 14, 10.0
SPACE = Space("patch", {"grid": [ROWS, COLUMNS]}, (ROWS * COLUMNS, 4), "float32")


def features(empty: bool = False) -> np.ndarray:
    """Patches (patches, dim) of an object in the middle, or of none."""
    patches = np.random.default_rng(0).normal(0, 1, (ROWS, COLUMNS, 4)).astype(np.float32)
    if not empty:
        patches[3:7, 4:11] = 40
    return patches.reshape(-1, 4)


def shown(scale: int = 1) -> np.ndarray:
    """The object and one patch around it, each patch so many times as large."""
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[2:8, 3:12] = True
    return mask.repeat(scale, axis=0).repeat(scale, axis=1)


def test_the_nearest_patch_of_the_feature_decides_on_a_larger_grid() -> None:
    def mask(grid: Shape) -> np.ndarray | None:
        return foreground_mask(features(), SPACE, LIMIT, grid)

    np.testing.assert_array_equal(mask((ROWS, COLUMNS)), shown())
    np.testing.assert_array_equal(mask((2 * ROWS, 2 * COLUMNS)), shown(2))
    assert foreground_mask(features(empty=True), SPACE, LIMIT, (ROWS, COLUMNS)) is None


def test_the_map_of_a_new_image_is_masked_as_those_of_a_run(tmp_path: Path) -> None:
    """In each trial, where it is asked for, and where there is an object."""
    store = Store(tmp_path)
    store.register(SPACE)
    rows = [features(), features(), features(empty=True)]
    places = store.write(SPACE, ["a", "b", "c"], np.stack(rows))
    rng = np.random.default_rng(1)
    maps = [1 + rng.random((3, 2 * ROWS, 2 * COLUMNS), np.float32) for _ in range(2)]
    before = [one.copy() for one in maps]
    block = Foregrounds(Component(SPACE, places), (False, True, True), LIMIT)
    found, without = block.masked(store, maps)
    assert without == (2,)
    for one, given in zip(found, before, strict=True):
        np.testing.assert_array_equal(one[[0, 2]], given[[0, 2]])
        np.testing.assert_array_equal(one[1], given[1] * shown(2))
        for number in (1, 2):
            alone = masked_map("new", given[number], rows[number], SPACE, LIMIT)
            np.testing.assert_array_equal(alone, one[number])
    np.testing.assert_array_equal(maps, before)
    nowhere = Foregrounds(Component(SPACE, places), (False,) * 3, LIMIT)
    assert nowhere.masked(store, maps)[1] == ()
