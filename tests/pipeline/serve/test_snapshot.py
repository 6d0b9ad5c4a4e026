"""Maps of a finished run, at evaluation size, from the levels that it keeps."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fade.errors import DataError, StoreError
from fade.filters import Finish
from fade.levels import Scale
from pipeline.artefacts.catalogue import SCORES
from pipeline.evaluation.recipe import Recipe
from pipeline.serve.image_index import ImageFilter, ImageIndex
from pipeline.serve.snapshot import Snapshot
from tests.garbage import kept_after


@pytest.mark.parametrize("finish", [Finish("corners"), Finish("nearest", 1.0)])
def test_what_has_one_level_keeps_it(finish: Finish, finished: Path) -> None:
    """Rounding made it one lower, and a defect at the first level above the threshold normal."""
    snapshot = Snapshot(finished)
    snapshot._recipe = Recipe("vision", "vision", finish=finish)
    for level in (0, 1, 8, 33, 37, 128, 254, 255):
        snapshot.__dict__["_maps"] = lambda label, row, level=level: np.full(
            (3, 5), level, np.uint8
        )
        found = snapshot.prediction(0, snapshot.trial)
        assert found.finished is not None
        assert np.unique(found.finished).tolist() == [level]


def test_levels_of_a_map_without_an_upper_limit_keep_their_scale(finished: Path) -> None:
    """65,536 levels of distances, of which a picture shows 256 shades."""
    snapshot = Snapshot(finished)
    category = snapshot.index.categories[snapshot.index.category[0]]
    place, scale = (category, snapshot.trial), Scale.fine(1.5, 40.0)
    snapshot.thresholds[place] = snapshot.threshold(*place).on(scale)
    for level in (0, 255, 256, 4000, 65_279, 65_535):
        snapshot.__dict__["_maps"] = lambda label, row, level=level: np.full(
            (3, 5), level, np.uint16
        )
        found = snapshot.prediction(0, snapshot.trial)
        full, shades = found.full_levels(), found.shades()
        assert full is not None
        assert shades is not None
        assert np.unique(full).tolist() == [level]
        assert np.unique(shades).tolist() == [level // 256]


def test_results_that_change_while_they_are_read_are_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "line3"))
    read = ImageIndex.open

    def open_late(path: Path, *more: tuple[str, ...]) -> ImageIndex:
        os.utime(folder / SCORES.path, (1, 1))
        return read(path, *more)

    monkeypatch.setattr(ImageIndex, "open", open_late)
    with pytest.raises(StoreError, match="changed while they were read"):
        Snapshot(folder)


def test_no_image_is_shown_in_the_place_of_another(finished: Path) -> None:
    """One that changed since the run, or whose place in the manifest another one has."""
    snapshot = Snapshot(finished)
    with pytest.raises(DataError, match=r"000\.png changed"):
        snapshot._decoded(snapshot.index.path(0), "another hash")
    manifest = snapshot._manifest
    snapshot.__dict__["_manifest"] = manifest.take(pa.array(range(len(manifest) - 1, -1, -1)))
    with pytest.raises(StoreError, match="is of another run"):
        snapshot.picture(0)


def test_a_run_that_is_let_go_takes_its_table_and_pictures_along(finished: Path) -> None:
    """At once: of a project that ran again a server would have several in memory."""

    def opened() -> Snapshot:
        snapshot, whole = Snapshot(finished), ImageFilter()
        snapshot.thumbnail(0)
        snapshot.prediction(0, snapshot.trial)
        snapshot.index.measures(snapshot.trial, snapshot.index.categories[0])
        limits = snapshot.index.limits(snapshot.trial, snapshot.thresholds)
        snapshot.index.select(snapshot.trial, whole, "lowest", limits)
        return snapshot

    assert kept_after(opened, lambda snapshot: [snapshot.index]) == []
