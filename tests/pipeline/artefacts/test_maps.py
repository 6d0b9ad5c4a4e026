"""Maps come back row by row, whichever chunk they lie in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from fade.errors import StoreError
from fade.levels import Scale
from fade.types import Trial
from pipeline.artefacts.catalogue import MAPS
from pipeline.artefacts.maps import create_maps, map_loader, write_maps

TRIAL = Trial(1, 0)


@pytest.fixture
def levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Seven maps in chunks of three."""
    monkeypatch.chdir(tmp_path)
    drawn = np.random.default_rng(0).integers(0, 256, (7, 2, 3), np.uint8)
    create_maps(MAPS.path, [TRIAL], 7, (2, 3), 3)
    for first in range(0, 7, 3):
        write_maps(MAPS.path, first, TRIAL, drawn[first : first + 3])
    return drawn


def test_each_map_comes_back_and_a_chunk_is_read_once(
    levels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    ordinary = zarr.Array.__getitem__

    def noted(array: zarr.Array, which: object) -> object:
        read.append(which)
        return ordinary(array, which)  # type: ignore[arg-type]

    monkeypatch.setattr(zarr.Array, "__getitem__", noted)
    load = map_loader()
    for row in (6, 0, 5, 1, 2, 3, 4):
        found = load(TRIAL.label, row)
        assert found is not None
        np.testing.assert_array_equal(found, levels[row])
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0] = 1
    assert len(read) == 3
    assert load("shots9_seed9", 0) is None


def test_a_damaged_chunk_is_refused_for_its_maps_alone(levels: np.ndarray) -> None:
    (chunk,) = (MAPS.path / TRIAL.label / "c").glob("1/0/0")
    chunk.write_bytes(b"no map")
    load = map_loader()
    np.testing.assert_array_equal(np.asarray(load(TRIAL.label, 2)), levels[2])
    for _ in range(2):
        with pytest.raises(StoreError, match="row 4 of shots1_seed0 cannot be read"):
            load(TRIAL.label, 4)
    with pytest.raises(StoreError, match="row 7"):
        load(TRIAL.label, 7)


def test_levels_of_each_category_and_trial_have_their_scale_beside_them(tmp_path: Path) -> None:
    trials = [Trial(0, 0), Trial(1, 0), Trial(2, 0)]
    scales = {
        ("nut", trials[1]): Scale(1 << 16, 0.25, -1.0), ("cable", trials[1]): Scale(1 << 16, 0.5),
        ("nut", trials[2]): Scale(1 << 16, 4.0, 2.0),
    }  # fmt: skip
    create_maps(tmp_path / "maps.zarr", trials, 2, (2, 3), 5, scales)
    group = zarr.open_group(tmp_path / "maps.zarr", mode="r")
    arrays = dict(group.arrays())
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "shots0_seed0": "uint8", "shots1_seed0": "uint16", "shots2_seed0": "uint16",
    }  # fmt: skip
    assert dict(arrays["shots0_seed0"].attrs) == {}
    assert arrays["shots1_seed0"].attrs["scales"] == {
        "nut": {"scale": 0.25, "offset": -1.0}, "cable": {"scale": 0.5, "offset": 0.0},
    }  # fmt: skip
    assert arrays["shots2_seed0"].attrs["scales"] == {"nut": {"scale": 4.0, "offset": 2.0}}


def test_maps_that_are_none_or_of_another_version(levels: np.ndarray) -> None:
    zarr.open_group(MAPS.path, mode="r+").attrs["schema"] = 0
    with pytest.raises(StoreError, match="schema version 0"):
        map_loader()
    (MAPS.path / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="missing or damaged"):
        map_loader()


def test_no_images_make_an_empty_group(tmp_path: Path) -> None:
    create_maps(tmp_path / "maps.zarr", [TRIAL], 0, (2, 3), 5)
    assert not dict(zarr.open_group(tmp_path / "maps.zarr", mode="r").arrays())
