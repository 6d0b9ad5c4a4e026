"""Submissions: just the files that a server or script wants, of just the images of the data set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from fade.errors import DataError, ParameterError
from pipeline.cli.main import main
from pipeline.inference.exports import export_masks
from pipeline.inference.run import FinishedRun
from pipeline.inference.submission import write_submission
from tests.projects import GOLDEN, ROOT, changed, golden_params, run_stages


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of MVTec AD 2: two objects, three private images in each of the two folders."""
    root = tmp_path_factory.mktemp("ad2") / "mvtec_ad_2"
    for name, source in (("can", "weave"), ("vial", "plate")):
        images = GOLDEN / "images" / source
        shutil.copytree(images / "train", root / name / "train")
        good = sorted((images / "test" / "good").glob("*.png"))
        places = [f"test_public/good/{k:03}_regular.png" for k in range(2)]
        places += [f"test_private/{k:03}_regular.png" for k in range(3)]
        places += [f"test_private_mixed/{k:03}_mixed.png" for k in range(3)]
        for place, file in zip(places, good * 2, strict=False):
            (root / name / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / name / place)
    return root


@pytest.fixture(scope="module")
def params(data: Path, tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path) -> Any:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        dataset={"format": "mvtec-ad-2", "path": str(data), "watch": str(data)},
        features__segmentation_sizes=[96],
        features__store=str(tmp_path_factory.mktemp("store") / "store"),
        threshold__images=3,
        evaluate__size=64,
    )


@pytest.fixture(scope="module")
def folder(params: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_stages(tmp_path_factory.mktemp("run"), params)


@pytest.fixture
def run(folder: Path) -> Iterator[FinishedRun]:
    before = Path.cwd()
    os.chdir(folder)
    yield FinishedRun()
    os.chdir(before)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_mvtec_ad_2(run: FinishedRun, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    found = write_submission(run, out, "mvtec-ad-2")
    assert (found.maps, found.masks, found.archive) == (12, 12, tmp_path / "mine.tar.gz")
    stems = [
        f"{name}/{place}" for name in ("can", "vial")
        for place in (
            *(f"test_private/{k:03}_regular" for k in range(3)),
            *(f"test_private_mixed/{k:03}_mixed" for k in range(3)),
        )
    ]  # fmt: skip
    expected = [f"anomaly_images/{stem}.tiff" for stem in stems]
    expected += [f"anomaly_images_thresholded/{stem}.png" for stem in stems]
    assert files(out) == sorted(expected)
    export_masks(run, tmp_path / "masks", layout="dataset")
    for stem in stems:
        with Image.open(data / f"{stem}.png") as image:
            shape = image.size[::-1]
        values = tifffile.imread(out / "anomaly_images" / f"{stem}.tiff")
        assert (values.dtype, values.shape) == (np.float16, shape)
        with Image.open(out / "anomaly_images_thresholded" / f"{stem}.png") as image:
            mask = np.asarray(image)
        assert (mask.dtype, mask.shape) == (np.uint8, shape)
        assert set(np.unique(mask)) <= {0, 255}
        with Image.open(tmp_path / "masks" / f"{stem}.png") as image:
            np.testing.assert_array_equal(mask, np.asarray(image))
    with tarfile.open(tmp_path / "mine.tar.gz") as archive:
        assert archive.getnames() == sorted(f"mine/{name}" for name in expected)
    assert "lacks fabric, fruit_jelly, rice, sheet_metal, wallplugs, walnuts" in found.notes[0]
    assert found.notes[1].endswith(
        "has 3 of 321 in can/test_private, 3 of 321 in can/test_private_mixed, 3 of 276 in "
        "vial/test_private, 3 of 276 in vial/test_private_mixed"
    )
    before = (tmp_path / "mine.tar.gz").read_bytes()
    with pytest.raises(ParameterError, match="is not empty"):
        write_submission(run, out, "mvtec-ad-2")
    write_submission(run, out, "mvtec-ad-2", force=True)
    assert (tmp_path / "mine.tar.gz").read_bytes() == before
    left_by_a_kill(out / f"anomaly_images/{stems[0]}.tiff")
    write_submission(run, out, "mvtec-ad-2", force=True)
    assert files(out) == sorted(expected)
    (out / "anomaly_images" / "notes.txt").touch()
    with pytest.raises(
        ParameterError, match=r"no part of the submission \(1\): anomaly_images/notes\.txt"
    ):
        write_submission(run, out, "mvtec-ad-2", force=True)


def left_by_a_kill(file: Path) -> None:
    """Leave what a kill at the first file of a folder leaves: the folder, and a part of the file."""
    shutil.rmtree(file.parent)
    code = (
        "import os, signal; from fade.files import *\n"
        f"with atomic_write(Path({str(file)!r})) as part:\n"
        "    part.write_bytes(b'x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert [part.suffix for part in file.parent.iterdir()] == [".part"]


def test_without_masks_and_as_json(
    run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "submission", str(tmp_path / "a"), "--for", "mvtec-ad-2", "--no-masks"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--no-pack", "--json"])
    assert not ended.value.code
    said = json.loads(capsys.readouterr().out)
    assert (said["maps"], said["masks"], said["archive"]) == (12, 0, None)
    assert os.listdir(tmp_path) == ["a"]


def test_runs_that_do_not_fit(run: FinishedRun, data: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ParameterError, match="format is mvtec-ad-2, and a submission for mvtec-ad needs"
    ):
        write_submission(run, tmp_path / "a", "mvtec-ad")
    late = data / "can" / "test_private" / "003_regular.png"
    shutil.copy(data / "can" / "test_private" / "000_regular.png", late)
    with pytest.raises(DataError, match=r"lacks 1 of 13 images .*test_private/003_regular\.png"):
        write_submission(run, tmp_path / "a", "mvtec-ad-2")
    late.rename(data / "late.png")
    gone = data / "vial" / "test_private_mixed" / "002_mixed.png"
    gone.rename(data / "gone.png")
    with pytest.raises(DataError, match=r"no longer has 1 image of the run, .*002_mixed\.png"):
        write_submission(run, tmp_path / "a", "mvtec-ad-2")
    (data / "gone.png").rename(gone)
    assert not (tmp_path / "a").exists()


def test_scripts_of_mvtec_ad(params: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = str(GOLDEN / "images")
    dataset = {"format": "mvtec", "path": images, "watch": images, "categories": ["plate"]}
    monkeypatch.chdir(run_stages(tmp_path / "run", changed(params, dataset=dataset)))
    found = write_submission(FinishedRun(), tmp_path / "a", "mvtec-ad")
    tests = sorted((GOLDEN / "images/plate/test").glob("*/*.png"))
    assert (found.maps, found.masks, found.archive) == (len(tests), 0, None)
    assert files(tmp_path / "a") == [
        f"anomaly_maps/plate/test/{path.parent.name}/{path.stem}.tiff" for path in tests
    ]
    assert tifffile.imread(tmp_path / "a" / files(tmp_path / "a")[0]).dtype == np.float32
