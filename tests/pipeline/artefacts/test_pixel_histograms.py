"""Pixel histograms as a table: nothing is lost on the way, and damage is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fade.errors import StoreError
from fade.metrics import PixelHistogram, pixel_metrics
from fade.regions import label_regions
from fade.types import Trial
from pipeline.artefacts.pixel_histograms import pixel_table, read_pixels, write_pixels
from pipeline.artefacts.tables import write_table


def histogram(seed: int) -> PixelHistogram:
    rng = np.random.default_rng(seed)
    return PixelHistogram.of_image(
        rng.integers(0, 256, (9, 13)).astype(np.uint8), label_regions(rng.random((9, 13)) > 0.7)
    )


def test_a_table_gives_the_histograms_back(tmp_path: Path) -> None:
    given = {("nut", Trial(1, 0)): histogram(0), ("Größe 2", Trial(4, 7)): histogram(1)}
    write_table(pixel_table(given), tmp_path / "pixels.parquet")
    found = read_pixels(tmp_path / "pixels.parquet")
    assert list(found) == list(given)
    for place, one in given.items():
        assert found[place].regions == one.regions > 1
        assert pixel_metrics(found[place]) == pixel_metrics(one)


def test_trials_keep_their_levels(tmp_path: Path) -> None:
    """Zero shots may have 256 levels where some shots, of another rule, have 65,536."""
    rng = np.random.default_rng(2)
    levels, mask = rng.integers(0, 1 << 16, (9, 13)), rng.random((9, 13)) > 0.7
    fine = PixelHistogram.of_image(levels.astype(np.uint16), label_regions(mask))
    given = {("nut", Trial(0, 0)): histogram(0), ("nut", Trial(4, 0)): fine}
    path = tmp_path / "pixels.parquet"
    write_pixels(given, path)
    for place, one in given.items():
        read = read_pixels(path, place[1])[place]
        assert len(read.normal) == len(one.normal)
        np.testing.assert_array_equal(read.normal, one.normal)
        assert pixel_metrics(read) == pixel_metrics(one)


def test_nothing_gives_nothing(tmp_path: Path) -> None:
    write_table(pixel_table({}), tmp_path / "pixels.parquet")
    assert read_pixels(tmp_path / "pixels.parquet") == {}


@pytest.mark.parametrize("damage", ["levels", "column", "sign"])
def test_damaged_tables_are_refused(tmp_path: Path, damage: str) -> None:
    table = pixel_table({("nut", Trial(1, 0)): histogram(0)})
    if damage == "levels":
        table = table.iloc[:-1]
    elif damage == "column":
        table = table.drop(columns="pro")
    else:
        table["normal"] = -1
    write_table(table, tmp_path / "pixels.parquet")
    with pytest.raises(StoreError, match="holds no pixel histograms"):
        read_pixels(tmp_path / "pixels.parquet")
