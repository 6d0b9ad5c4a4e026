"""Maps come back row by row, whichever chunk they lie in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from fade.errors import StoreError
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
