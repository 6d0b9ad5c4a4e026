"""What ``fade plan`` prints is what the stages then do, over a grid of parameters and data sets."""

from __future__ import annotations

import logging
import os
import re
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cache.store import Store
from fade.encoder import Encoder
from fade.errors import DataError, ParameterError
from pipeline.artefacts.catalogue import CALIBRATION, MANIFEST, SELECTION
from pipeline.config.load import load_params
from pipeline.features.patch_encoder import PatchEncoder
from pipeline.project.plan import Plan
from pipeline.project.plan import plan as plan_run
from tests.projects import changed, golden_params, project, run_stages
from tests.snapshots import snapshot
from tests.stages.test_vision_encoder import TINY

NUMBERS = ("test_images", "reference_images", "calibration_images", "images_to_encode", "segments")


@pytest.fixture(scope="module")
def params(golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Seven training images a category, equal ones among them and among test images."""
    root = tmp_path_factory.mktemp("images")
    number = count()

    def draw(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(next(number)).integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(noise).save(path)
        return path

    for category in ("bolt", "nut"):
        folder = root / category
        train = [draw(folder / f"train/good/{n}.png") for n in range(5)]
        shutil.copy(train[0], folder / "train/good/5.png")
        shutil.copy(train[3], folder / "train/good/6.png")
        for name in ("good/0", "good/1", "dent/0"):
            draw(folder / f"test/{name}.png")
        shutil.copy(train[1], folder / "test/good/2.png")
        shutil.copy(folder / "test/good/0.png", folder / "test/good/3.png")
    shutil.copy(root / "bolt/train/good/2.png", root / "nut/train/good/2.png")
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        dataset={"format": "mvtec", "path": str(root), "watch": str(root), "categories": None},
        features__segmentation_sizes=[32],
        features__classification_size=64,
        runtime={"batch_size": 4},
    )


GRID: dict[str, dict[str, Any]] = {
    "as it is": {},
    "many shots": {"vision__shots": [1, 4], "vision__seeds": [0, 3], "threshold__images": 4},
    "all shots": {"vision__shots": [7], "threshold__images": 50},
    "streamed": {
        "features__keep": False, "vision__shots": [0, 6], "threshold__images": 4,
        "vision__query_in_bank": {"zero_shot": True, "few_shot": False},
    },
    "no vision": {
        "fusion__segmentation_mode": "language", "fusion__classification_mode": "language",
        "threshold__images": 3,
    },
    "some": {"dataset__limit": 2, "dataset__categories": ["nut"], "threshold__images": 2},
    "aspect": {"features__aspect": "keep", "threshold__images": 3},
    "encoder": {
        "vision__encoder": TINY, "vision__layers": [0, 1], "features__segmentation_sizes": [56],
        "vision__query_in_bank": False, "vision__shots": [1, 2], "vision__seeds": [0, 1],
        "fusion__classification_mode": "vision", "fusion__segmentation_mode": "vision",
        "threshold__images": 4,
    },
    "two sizes": {"features__segmentation_sizes": [32, 64], "vision__shots": [2]},
}  # fmt: skip


def done(folder: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The same numbers, of the stages as they run."""
    encode = Encoder.start_encoding

    def counted(self: Encoder, pixels: Any, *rest: Any) -> Any:
        images[pixels.shape[1:3]] = images.get(pixels.shape[1:3], 0) + len(pixels)
        return encode(self, pixels, *rest)

    encode_patches = PatchEncoder.encode

    def counted_patches(self: PatchEncoder, pixels: Any, *rest: Any) -> Any:
        images[pixels.shape[1:3]] = images.get(pixels.shape[1:3], 0) + len(pixels)
        return encode_patches(self, pixels, *rest)

    images: dict[tuple[int, int], int] = {}
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "start_encoding", counted)
        patch.setattr(PatchEncoder, "encode", counted_patches)
        run_stages(folder, content, "manifest", "select", "extract")
        store = Store(folder / ".fade" / "store")
        segments = sum(len(list(store.entries(space))) for space in store.spaces())
        if not content["features"].get("keep", True):
            run_stages(folder, content, "text", "bank", "stream")
    manifest = pd.read_parquet(folder / MANIFEST.path)
    return {
        "test_images": int((manifest["split"] == "test").sum()),
        "reference_images": pd.read_parquet(folder / SELECTION.path)["hash"].nunique(),
        "calibration_images": len(pd.read_parquet(folder / CALIBRATION.path)),
        "images_to_encode": max(images.values()),  # at the size that all of them need
        "segments": segments,
    }


def numbers(found: Plan) -> dict[str, int]:
    return {name: getattr(found, name) for name in NUMBERS}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without taking times; segments of four images, so that there are several."""
    import pipeline.features.plan
    import pipeline.project.plan

    monkeypatch.setattr(pipeline.project.plan, "time_encoding", lambda *_: (0, 0.0))
    monkeypatch.setattr(pipeline.project.plan, "time_comparing", lambda *_: 0.0)
    monkeypatch.setattr(pipeline.features.plan, "SEGMENT_IMAGES", 4)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("case", GRID)
def test_the_stages_do_what_was_planned(
    case: str, params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = changed(params, **GRID[case])
    with project(tmp_path, content):
        before = plan_run(load_params())
    run_stages(tmp_path, content, "manifest", "select")
    with project(tmp_path, content):
        known = plan_run(load_params())
    assert numbers(known) == numbers(before)
    assert numbers(before) == done(tmp_path, content, monkeypatch)
    if content["features"].get("keep", True):
        with project(tmp_path, content):
            after = plan_run(load_params())
        assert (after.images_to_encode, after.segments, after.tasks) == (0, 0, 0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("case", ["as it is", "streamed", "no vision"])
def test_the_store_takes_the_bytes_that_were_planned(
    case: str, params: dict[str, Any], tmp_path: Path
) -> None:
    """Where no category, trial or held-out image shares components with another, or has more."""
    leaves = {**GRID[case], "dataset__categories": ["nut"], "threshold__images": 0}
    content = changed(params, **leaves)
    with project(tmp_path, content):
        planned = plan_run(load_params())
    run_stages(tmp_path, content)
    store = Store(tmp_path / ".fade" / "store")
    found = {space.label: len(store.index(space)) * space.row_bytes for space in store.spaces()}
    del found["text"]  # of prompts, whatever the images
    components = sum(
        found.pop(name, 0) for name in ("language-score", "language-map", "vision-map")
    )
    assert planned.component_bytes == components > 0
    assert planned.feature_bytes == sum(found.values()) > 0


@pytest.mark.usefixtures("quick")
def test_images_that_are_too_many_to_be_read(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only such as may be equal, for their size in bytes, are read before there is a manifest."""
    root = tmp_path / "images"
    for number in range(6):
        file = root / f"nut/{'train' if number < 3 else 'test'}/good/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 30), (number, 0, 0)).save(file)
        with file.open("ab") as more:
            more.write(bytes(number))
    content = changed(params, dataset__path=str(root), dataset__watch=str(root))
    monkeypatch.setattr("pipeline.project.workload.READ_BYTES", 0)

    def planned(**leaves: Any) -> Plan:
        with project(tmp_path / "run", changed(content, **leaves)):
            return plan_run(load_params())

    (remark,) = planned().remarks
    assert remark.startswith("no manifest fits yet")
    kept = planned(features__aspect="keep")
    assert kept.remarks[1] == (
        "the images were not read: as if all of them differed and had the aspect ratio of the first ones"
    )
    shutil.copy(root / "nut/test/good/5.png", root / "nut/test/good/6.png")
    equal = planned()
    assert equal.remarks[1] == "the images were not read: as if all of them differed"
    assert equal.images_to_encode == 5  # four test images, one reference
    run_stages(tmp_path / "run", changed(content, features__aspect="keep"), "manifest")
    known = planned(features__aspect="keep")
    assert not known.remarks
    assert known.feature_bytes == kept.feature_bytes  # less the copy, which was not there
    run_stages(tmp_path / "run", content, "manifest")
    shutil.copy(root / "nut/test/good/4.png", root / "nut/test/good/7.png")
    assert planned().remarks[0].startswith("no manifest fits yet")


@pytest.mark.usefixtures("quick")
def test_images_that_are_left_out_are_planned_without(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged image, and one of another aspect ratio: a manifest that lacks them is no strange one."""
    root = tmp_path / "images"
    shutil.copytree(params["dataset"]["path"], root)
    (root / "nut/train/good/1.png").write_bytes(b"no image")
    Image.new("RGB", (20, 90)).save(root / "bolt/test/dent/1.png")
    content = changed(
        params, dataset__path=str(root), dataset__watch=str(root), dataset__on_bad_image="skip",
        features__aspect="keep", threshold__images=3,
    )  # fmt: skip
    run_stages(tmp_path / "run", content, "manifest")
    with project(tmp_path / "run", content):
        known = plan_run(load_params())
    assert not known.remarks
    assert numbers(known) == done(tmp_path / "run", content, monkeypatch)


@pytest.mark.usefixtures("quick")
def test_images_that_were_replaced_or_added_are_planned_for(
    params: dict[str, Any], tmp_path: Path
) -> None:
    """A replaced one counted as encoded, since the manifest knows its name."""
    root, run = tmp_path / "images", tmp_path / "run"
    shutil.copytree(params["dataset"]["path"], root)
    content = changed(params, dataset__path=str(root), dataset__watch=str(root))
    run_stages(run, content, "manifest", "select", "extract")
    paths = [root / name for name in ("bolt/test/good/0.png", "nut/test/dent/0.png")]
    before = [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    for path, shift in zip(paths, (1, 2), strict=True):
        pixels = np.asarray(Image.open(path)) + np.uint8(shift)
        Image.fromarray(pixels).save(path)
    with paths[1].open(
        "ab"
    ) as file:  # of the same size and time as before, as synchronised files may be
        file.write(bytes(1 << 16))
    os.truncate(paths[1], before[1][0])
    os.utime(paths[1], ns=(0, before[1][1]))
    with project(run, content):
        assert plan_run(load_params()).images_to_encode == 2
    shutil.copy(root / "bolt/test/good/1.png", root / "bolt/test/good/4.png")
    Image.new("RGB", (64, 48)).save(root / "bolt/test/good/5.png")
    (root / "nut/test/good/1.png").rename(root / "nut/test/good/7.png")
    with project(run, content):
        found = plan_run(load_params())
    assert found.images_to_encode == 3
    assert not found.remarks


@pytest.mark.usefixtures("quick")
def test_categories_that_the_last_manifest_left_out_are_planned_for(
    params: dict[str, Any], tmp_path: Path
) -> None:
    """Their files are older than it: no time tells that they are new."""
    run_stages(tmp_path, changed(params, dataset__categories=["nut"]), "manifest")
    with project(tmp_path / "new", params):
        fresh = plan_run(load_params())
    with project(tmp_path, params):
        found = plan_run(load_params())
    assert not found.remarks
    assert numbers(found) == numbers(fresh)


@pytest.mark.usefixtures("quick")
def test_a_store_cut_in_part_is_planned_for_and_left_alone(
    params: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_stages(tmp_path, params, "manifest", "select", "extract")
    store = Store(tmp_path / ".fade" / "store")
    space = next(space for space in store.spaces() if space.label.startswith("clip-patch"))
    index = store.index(space)
    segment = next(iter(index.values())).segment
    lost = sum(place.segment == segment for place in index.values())
    data = next((tmp_path / ".fade/store" / store.folder(space) / "segments" / segment).rglob("0"))
    file = next(path for path in data.rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:-1])
    before = snapshot(tmp_path)
    with project(tmp_path, params):
        found = plan_run(load_params())
    assert (found.images_to_encode, found.segments) == (lost, 1)
    assert snapshot(tmp_path) == before
    with caplog.at_level(logging.WARNING, "fade"):
        run_stages(tmp_path, params, "extract")
    assert re.search(rf"1 segment of {space.label}; .*{segment}", caplog.text)
    with project(tmp_path, params):
        assert plan_run(load_params()).images_to_encode == 0


@pytest.mark.usefixtures("quick")
def test_what_select_refuses_the_plan_refuses(params: dict[str, Any], tmp_path: Path) -> None:
    with (
        project(tmp_path, changed(params, vision__shots=[8])),
        pytest.raises(
            ParameterError, match=r"asks for 8 references, but category 'bolt' has only 7"
        ),
    ):
        plan_run(load_params())
    root = tmp_path / "images"
    shutil.copytree(params["dataset"]["path"], root)
    shutil.rmtree(root / "nut/train")
    with (
        project(tmp_path / "p", changed(params, dataset__path=str(root), dataset__watch=str(root))),
        pytest.raises(DataError, match="category 'nut' has no training image"),
    ):
        plan_run(load_params())


@pytest.mark.usefixtures("quick")
def test_a_manifest_of_another_data_set_does_not_count(
    params: dict[str, Any], tmp_path: Path
) -> None:
    """The same names with other contents."""
    run_stages(tmp_path / "p", params, "manifest", "select", "extract")
    root = tmp_path / "images"
    shutil.copytree(params["dataset"]["path"], root)
    with project(tmp_path / "p", changed(params, dataset__path=str(root))):
        found = plan_run(load_params())
    assert found.images_to_encode
    assert "no manifest fits yet" in found.remarks[0]
