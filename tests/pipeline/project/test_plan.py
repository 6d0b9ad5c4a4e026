"""The plan says what a run then does."""

from __future__ import annotations

import doctest
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.errors import DataError, ParameterError
from pipeline.artefacts.catalogue import REFERENCES, TEST
from pipeline.artefacts.receipts import read_receipt
from pipeline.compute import launch
from pipeline.config.load import load_params
from pipeline.project import plan as plan_module
from pipeline.project.plan import duration, lines
from pipeline.project.plan import plan as plan_run
from tests.projects import changed, golden_params, project, run_stages


@pytest.fixture
def content(golden_checkpoint: Path) -> dict[str, Any]:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        vision__seeds=[0, 1],
    )


def test_before_and_after(tmp_path: Path, content: dict[str, Any]) -> None:
    with project(tmp_path, content):
        before = plan_run(load_params())
        assert not (tmp_path / ".fade").exists()
    assert before.remarks
    assert (before.test_images, before.trials) == (32, 2)
    assert before.images_to_encode == 32 + before.reference_images
    assert before.seconds_per_image > 0
    assert before.encode_seconds == before.seconds_per_image * before.images_to_encode
    assert before.compare_seconds > 0
    run_stages(tmp_path, content, "manifest", "select")
    with project(tmp_path, content):
        known = plan_run(load_params())
    assert not known.remarks
    run_stages(tmp_path, content, "extract")
    with project(tmp_path, content):
        after = plan_run(load_params())
        receipts = [read_receipt(REFERENCES), read_receipt(TEST)]
        rows = {
            (receipt.spaces[label], key)
            for receipt in receipts
            for label, keys in receipt.rows.items()
            for key in keys
        }
    assert known.feature_bytes == sum(space.row_bytes for space, _ in rows)
    assert (after.images_to_encode, after.feature_bytes, after.tasks) == (0, 0, 0)
    assert after.component_bytes == known.component_bytes > 0


def test_images_to_calibrate_on_are_scored_too(tmp_path: Path, content: dict[str, Any]) -> None:
    calibrated = changed(content, threshold__images=3, dataset__limit=1)
    with project(tmp_path, calibrated):
        before = plan_run(load_params())
    run_stages(tmp_path, calibrated, "manifest", "select", "extract")
    with project(tmp_path, calibrated):
        receipts = [read_receipt(REFERENCES), read_receipt(TEST)]
        keys = {key for receipt in receipts for rows in receipt.rows.values() for key in rows}
        after = plan_run(load_params())
    assert before.calibration_images == after.calibration_images == 6
    assert before.images_to_encode == len(keys)
    assert (after.images_to_encode, after.feature_bytes) == (0, 0)


def test_good_images_alone(tmp_path: Path, content: dict[str, Any]) -> None:
    good = tmp_path / "good" / "train"
    good.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (96, 96), (number, 0, 0)).save(good / f"{number}.png")
    alone = changed(
        content, dataset__format="folder", dataset__path=str(good.parent),
        dataset__watch=str(good.parent), dataset__categories=None, threshold__images=50,
    )  # fmt: skip
    with project(tmp_path / "p", alone):
        found = plan_run(load_params())
    assert (found.test_images, found.calibration_images, found.images_to_encode) == (0, 3, 3)
    assert found.sampled_images == 3
    assert found.seconds_per_image > 0
    with (
        project(tmp_path / "q", changed(alone, threshold__images=0)),
        pytest.raises(DataError, match=r"no test images and threshold\.images is 0"),
    ):
        plan_run(load_params())


def test_images_that_a_file_labels_are_not_told_as_unlabelled(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    rows = ["image,category,split,label"]
    for number in range(4):
        Image.new("RGB", (96, 96), (number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,nut,{'train,good' if number == 0 else 'test,'}")
    table = tmp_path / "images.csv"
    table.write_text("\n".join(rows))
    bare = changed(
        content, dataset__format="csv", dataset__path=str(table), dataset__watch=str(table),
        dataset__categories=None,
    )  # fmt: skip
    with project(tmp_path / "p", bare):
        assert plan_run(load_params()).unlabelled_images == 3
    with project(tmp_path / "p", changed(bare, evaluate__labels="labels.csv")):
        Path("labels.csv").write_text("path,label\n2.png,good\n3.png,anomalous\n")
        assert plan_run(load_params()).unlabelled_images == 1


def test_made_up_images(tmp_path: Path, content: dict[str, Any]) -> None:
    with project(tmp_path, changed(content, dataset__path="nowhere")):
        few, many = (plan_run(load_params(), images) for images in (10, 1000))
    assert (few.test_images, few.reference_images) == (10, 2)
    assert many.images_to_encode == 1002
    assert many.component_bytes == 100 * few.component_bytes
    assert many.tasks > few.tasks


def test_memory_grows_by_less_than_300_bytes_an_image(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # a model that is loaded once, so that its weights do not hide what the images take
    with project(tmp_path, changed(content, dataset__path="nowhere")):
        params = load_params()
        encoder = plan_module.load_image_encoder(params)
        monkeypatch.setattr(plan_module, "load_image_encoder", lambda params, keep: encoder)
        monkeypatch.setattr(plan_module, "time_encoding", lambda *_: (0, 0.0))
        monkeypatch.setattr(plan_module, "time_comparing", lambda *_: 0.0)
        peaks = []
        for images in (50_000, 100_000):
            tracemalloc.start(1)
            try:
                plan_run(params, images)
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    assert peaks[1] - peaks[0] < 300 * 50_000


@pytest.mark.parametrize(
    ("images", "words"),
    [(0, "--images is 0"), (10**12, "is 1,000,000,000,000, at most 10,000,000")],
)
def test_refusal(images: int, words: str, tmp_path: Path, content: dict[str, Any]) -> None:
    with project(tmp_path, content), pytest.raises(ParameterError, match=words):
        plan_run(load_params(), images)


def test_lines(tmp_path: Path, content: dict[str, Any]) -> None:
    with project(tmp_path, content):
        found = plan_run(load_params(), 5)
    text = "\n".join(lines(replace(found, encode_seconds=7200.0, remarks=("so",))))
    assert "about 2.0 h to encode on cpu" in text
    assert text.endswith("remark  so")
    assert "labels  " not in text
    assert "labels  none for 2 test images" in "\n".join(lines(replace(found, unlabelled_images=2)))


def test_a_bucket_is_never_full(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "store_root", lambda configured: "memory://plan")
    with project(tmp_path, content):
        found = plan_run(load_params(), 5)
    assert (found.free_bytes, found.remarks) == (None, ())
    assert "free" not in lines(found)[1]


def test_more_than_is_free_is_said(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=1000)
    monkeypatch.setattr(plan_module.shutil, "disk_usage", lambda folder: free)
    with project(tmp_path, content):
        (remark,) = plan_run(load_params(), 5).remarks
        assert remark.startswith("that is more than is free")
        free.free = 10**12
        assert plan_run(load_params(), 5).remarks == ()


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(plan_module).failed == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (89, "89 s"), (120, "2 min"), (7200, "2.0 h")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_images_that_keep_their_aspect_ratio(tmp_path: Path, content: dict[str, Any]) -> None:
    """Planned on the grid that the run then takes, before there is a manifest and after."""
    data = tmp_path / "data"
    for name in ("train/good/0", "train/good/1", "test/good/0", "test/hole/0"):
        file = data / "plate" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (60, 120, 3), np.uint8)
        pixels[0] = len(list(data.rglob("*.png")))
        Image.fromarray(pixels).save(file)
    kept = changed(
        content, dataset__path=str(data), dataset__watch=str(data), dataset__categories=None,
        features__aspect="keep",
    )  # fmt: skip
    with project(tmp_path / "run", kept):
        before = plan_run(load_params())
    run_stages(tmp_path / "run", kept, "manifest", "select")
    with project(tmp_path / "run", kept):
        known = plan_run(load_params())
    assert not known.remarks
    assert before.feature_bytes == known.feature_bytes
    run_stages(tmp_path / "run", kept, "extract")
    with project(tmp_path / "run", kept):
        assert plan_run(load_params()).images_to_encode == 0
        receipts = [read_receipt(REFERENCES), read_receipt(TEST)]
    rows = {
        (r.spaces[label], key) for r in receipts for label, keys in r.rows.items() for key in keys
    }
    assert known.feature_bytes == sum(space.row_bytes for space, _ in rows)
    assert {space.shape[0] for space, _ in rows if space.shape[1:]} == {4 * 8}


@pytest.mark.parametrize(
    ("cluster", "encoders", "remark"),
    [
        ({"kind": "threads", "workers": 3}, 1, ""),
        ({"kind": "slurm", "workers": 8, "gpus": 1, "memory": "8GiB"}, 8, ""),
        (
            {"kind": "address", "address": "tcp://127.0.0.1:9"},
            1,
            "no dask scheduler answers at tcp",
        ),
        ({"kind": "gpu", "gpus": 99}, 1, "no GPU on this machine"),
    ],
)
def test_who_works(
    tmp_path: Path,
    content: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    cluster: dict[str, Any],
    encoders: int,
    remark: str,
) -> None:
    monkeypatch.setattr(launch, "CONNECT_SECONDS", 1)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with project(tmp_path, changed(content, cluster=cluster)):
        found = plan_run(load_params(), 1000)
    assert found.encoders == encoders
    assert len(found.remarks) == bool(remark)
    assert remark in "".join(found.remarks)
    rounds = -(-found.tasks // encoders) / found.tasks
    assert found.encode_seconds == pytest.approx(1002 * found.seconds_per_image * rounds)
