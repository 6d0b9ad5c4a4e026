"""Exports: files where evaluation servers look for them, holding the maps that the run made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fade.errors import DataError, ParameterError, StoreError
from fade.maps import to_levels
from pipeline.inference.exports import (
    _part,
    export_maps,
    export_masks,
    exported_images,
    file_names,
    maps,
)
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from tests.projects import GOLDEN, changed, golden_params, run_stages


def rows(*names: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(names, columns=["name", "category", "defect"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path) -> Path:
    """A finished run of two categories, two trials."""
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96, 160],
        vision__shots=[1, 2],
        threshold__images=3,
        evaluate__size=64,
        dataset__limit=1,
    )
    return run_stages(tmp_path_factory.mktemp("run"), params)


@pytest.fixture
def run(folder: Path) -> Iterator[FinishedRun]:
    before = Path.cwd()
    os.chdir(folder)
    yield FinishedRun()
    os.chdir(before)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_maps_are_those_of_the_run_before_they_were_cut(run: FinishedRun) -> None:
    tests = exported_images(run)
    kept: Any = zarr.open_group("results/maps.zarr", mode="r")
    found = list(maps(run, tests))
    levels = np.stack([to_levels(values) for values in found])
    np.testing.assert_array_equal(levels, kept[run.trial.label][:])
    # more than 256 levels can tell
    assert len(np.unique(np.stack(found))) > 256


def test_tiff_files_lie_as_mvtec_wants_them(run: FinishedRun, tmp_path: Path) -> None:
    count = export_maps(run, tmp_path / "out")
    tests = exported_images(run)
    assert count == len(tests) == len(files(tmp_path / "out"))
    assert files(tmp_path / "out") == sorted(
        f"{category}/test/{defect}/{Path(name).name}.tiff"
        for category, defect, name in zip(
            tests["category"], tests["defect"], tests["name"], strict=True
        )
    )
    for row, values in zip(tests.to_dict("records"), maps(run, tests), strict=True):
        read = tifffile.imread(tmp_path / "out" / f"{row['name']}.tiff")
        assert read.dtype == np.float32
        assert read.shape == (row["height"], row["width"])
        assert values.min() - 1e-6 <= read.min() <= read.max() <= values.max() + 1e-6
        # other libraries read them too
        with Image.open(tmp_path / "out" / f"{row['name']}.tiff") as image:
            np.testing.assert_array_equal(np.asarray(image), read)


def test_half_precision_and_the_maps_own_size(run: FinishedRun, tmp_path: Path) -> None:
    export_maps(run, tmp_path, dtype="float16", size="map", categories=["plate"])
    tests = exported_images(run, ["plate"])
    assert len(files(tmp_path)) == len(tests)
    for name, values in zip(tests["name"], maps(run, tests), strict=True):
        read = tifffile.imread(tmp_path / f"{name}.tiff")
        assert read.dtype == np.float16
        np.testing.assert_allclose(read, values, atol=1e-3)


def test_png_files_hold_the_levels(run: FinishedRun, tmp_path: Path) -> None:
    export_maps(run, tmp_path, form="png", size="map")
    kept: Any = zarr.open_group("results/maps.zarr", mode="r")
    for name, levels in zip(exported_images(run)["name"], kept[run.trial.label][:], strict=True):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), levels)


def test_masks_are_those_that_predict_gives(run: FinishedRun, tmp_path: Path) -> None:
    export_masks(run, tmp_path, categories=["weave"])
    tests = exported_images(run, ["weave"])
    predictor = Predictor(run)
    paths = [GOLDEN / "images" / path for path in tests["path"]]
    for name, found in zip(tests["name"], predictor.predict(paths, "weave"), strict=True):
        with Image.open(tmp_path / f"{name}.png") as image:
            read = np.asarray(image)
        assert set(np.unique(read)) <= {0, 255}
        mask = found.mask()
        assert mask is not None
        assert np.mean((read > 0) != mask) < 0.001


def test_refusals(run: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "old.tiff").touch()
    with pytest.raises(ParameterError, match="is not empty"):
        export_maps(run, tmp_path)
    assert files(tmp_path) == ["old.tiff"]
    export_maps(run, tmp_path, force=True)
    assert len(files(tmp_path)) == 1 + len(exported_images(run))
    with pytest.raises(ParameterError, match="no category 'bolt'"):
        export_maps(run, tmp_path / "new", categories=["bolt"])
    with pytest.raises(ParameterError, match="cannot become a folder"):
        export_maps(run, tmp_path / "old.tiff")
    assert not (tmp_path / "new").exists()


def test_components_that_are_gone_are_named(run: FinishedRun, tmp_path: Path) -> None:
    receipt = Path("artefacts/receipts/vision.parquet")
    data = receipt.read_bytes()
    receipt.unlink()
    with pytest.raises(StoreError, match=r"vision\.parquet is missing"):
        export_maps(run, tmp_path / "out")
    receipt.write_bytes(data)
    assert not (tmp_path / "out").exists()


def test_names_of_other_layouts() -> None:
    visa = rows(
        ("candle/Data/Images/Anomaly/000", "candle", "anomaly"),
        ("candle/Data/Images/Normal/000", "candle", "good"),
    )
    assert list(map(str, file_names(visa, "mvtec"))) == [
        "candle/test/anomaly/000", "candle/test/good/000",
    ]  # fmt: skip
    assert list(map(str, file_names(visa, "dataset"))) == visa["name"].tolist()
    single = rows(("test/good/000", "parts", "good"))
    for layout in ("mvtec", "dataset"):
        assert list(map(str, file_names(single, layout))) == ["parts/test/good/000"]
    # MVTec AD 2, listed by a CSV file
    private = rows(("can/test_private/000_regular", "can", "good"))
    assert str(file_names(private, "dataset")[0]) == "can/test_private/000_regular"
    # a folder of the data set stays what it is; as a name of our own it is quoted
    quoted = rows(('6" pipe/test/good/000', '6" pipe', "good"))
    assert str(file_names(quoted, "dataset")[0]) == '6" pipe/test/good/000'
    assert str(file_names(quoted, "mvtec")[0]) == "6%22 pipe/test/good/000"


def test_equal_names_get_their_folders() -> None:
    twins = rows(("a/1", "nut", "good"), ("b/1", "nut", "good"))
    assert list(map(str, file_names(twins, "mvtec"))) == [
        "nut/test/good/a__1", "nut/test/good/b__1",
    ]  # fmt: skip
    with pytest.raises(DataError, match="would both become"):
        file_names(rows(("a/b__1", "n", "x"), ("a__b/1", "n", "x"), ("c/1", "n", "x")), "mvtec")


@pytest.mark.parametrize("long", ["c" * 300, "é" * 200, "c" * 255, "c" * 256])
def test_long_names_fit(long: str, tmp_path: Path) -> None:
    tests = rows(
        ("a/" + "n" * 251, long, "d" * 300), ("b/" + "n" * 251, long, "d" * 300), ("n", "c", "d")
    )
    for layout in ("mvtec", "dataset"):
        names = file_names(tests, layout)
        assert len(set(names)) == 3
        for name in names:
            path = tmp_path / layout / f"{name}.tiff"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert _part("c" * 255) == "c" * 255


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_odd_names_stay_below_the_folder(category: str, defect: str) -> None:
    (path,) = file_names(rows(("a/b", category, defect)), "mvtec")
    assert len(path.parts) == 4
    assert not path.is_absolute()
    assert not {"..", "."} & set(path.parts)
    assert not any("\\" in part or "\0" in part for part in path.parts)
