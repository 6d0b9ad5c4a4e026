"""The manifest: its rows, and what it warns of."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import pipeline.dataset.manifest
from cache.layout import content_key
from fade.datasets.names import is_image
from fade.errors import DataError
from fade.types import DatasetFormat
from pipeline.artefacts.catalogue import CATEGORIES, MANIFEST, SKIPPED
from pipeline.artefacts.tables import read_json, read_table
from pipeline.config.load import parse_params
from pipeline.config.presets.catalogue import find_preset, render
from tests.fade.test_dataset_formats import LAYOUTS
from tests.projects import GOLDEN, changed, golden_params, run_stages


@pytest.fixture
def params(golden_checkpoint: Path) -> dict[str, Any]:
    return golden_params("fewshot1_both_seed0", golden_checkpoint)


def test_rows(params: dict[str, Any], tmp_path: Path) -> None:
    run_stages(tmp_path, params, "manifest")
    frame, remarks = read_table(tmp_path / MANIFEST.path)
    assert remarks["format"] == "mvtec"
    assert read_json(tmp_path / CATEGORIES.path)["categories"] == ["weave", "plate"]
    assert len(frame) == 48
    row = frame.set_index("name").loc["weave/test/hole/000"]
    data = (GOLDEN / "images" / row["path"]).read_bytes()
    assert row["hash"] == content_key(data)
    assert row["bytes"] == len(data)
    assert (row["width"], row["height"]) == Image.open(GOLDEN / "images" / row["path"]).size
    assert row["mask"] == "weave/ground_truth/hole/000_mask.png"
    assert row["mask_hash"] == content_key((GOLDEN / "images" / row["mask"]).read_bytes())


def test_the_same_data_give_the_same_bytes(params: dict[str, Any], tmp_path: Path) -> None:
    first, second = (
        (run_stages(tmp_path / name, params, "manifest") / MANIFEST.path).read_bytes()
        for name in ("a", "b")
    )
    assert first == second


def test_all_bad_images_are_named_at_once(params: dict[str, Any], tmp_path: Path) -> None:
    from fade.errors import DataError

    images = tmp_path / "images"
    shutil.copytree(GOLDEN / "images", images)
    for number in range(6):
        (images / f"weave/train/good/00{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match="and 1 more") as caught:
        run_stages(tmp_path, changed(params, dataset__path=str(images)), "manifest")
    assert "weave/train/good/004.png" in str(caught.value)


def test_a_folder_that_nobody_watches(
    params: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("fade"), "propagate", True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run_stages(tmp_path / "a", changed(params, dataset__watch=str(elsewhere)), "manifest")
    assert "will not notice changed images; set dataset.watch" in caplog.text
    caplog.clear()
    run_stages(tmp_path / "b", changed(params, dataset__watch=str(GOLDEN)), "manifest")
    assert not caplog.text.count("dataset.watch")


def test_images_that_come_while_it_runs(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC hashes the data when the stage has ended."""
    import stages.manifest

    images = Path(shutil.copytree(GOLDEN / "images", tmp_path / "images"))
    params = changed(params, dataset__path=str(images), dataset__watch=str(images))
    real = stages.manifest.table_writer

    @contextmanager
    def late(*args: Any, **options: Any) -> Iterator[Any]:
        with real(*args, **options) as write:
            yield write
        good = images / "weave" / "test" / "good"
        shutil.copy(next(good.glob("*.png")), good / "zzz.png")

    monkeypatch.setattr(stages.manifest, "table_writer", late)
    with pytest.raises(DataError, match="came or went while it was read: run again"):
        run_stages(tmp_path / "project", params, "manifest")
    monkeypatch.setattr(stages.manifest, "table_writer", real)
    run_stages(tmp_path / "project", params, "manifest")


def test_labels_of_which_none_is_good(params: dict[str, Any], tmp_path: Path) -> None:
    """One of them may mean good in words that nobody knows here; deeper masks and others are counted."""
    folder = tmp_path / "part"
    for name in ("train/good/0", "test/gut/0", "test/crack/0", "ground_truth/crack/x/0"):
        (folder / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4), (len(name), 0, 0)).save(folder / f"{name}.png")
    (folder / "readme.txt").touch()
    own = changed(
        params, dataset__format="folder", dataset__path=str(folder), dataset__categories=None
    )
    said = read_json(run_stages(tmp_path / "run", own, "manifest") / SKIPPED.path)
    found = [line for line in said["warnings"] if "training images too" not in line]
    assert "part: no test image is labelled good" in found[0]
    assert "'crack', 'gut' means good" in found[0]
    assert "1 mask belongs to no image: ground_truth/crack/x/0.png" in found[1]
    assert [(row["folder"], row["count"]) for row in said["unused"]] == [
        ("", 1), ("ground_truth/crack/x", 1)
    ]  # fmt: skip


@pytest.mark.parametrize("format", LAYOUTS)
def test_data_sets_as_they_unpack(
    format: DatasetFormat, params: dict[str, Any], tmp_path: Path
) -> None:
    """A new project for each of them: its format, and a manifest of real images."""
    root = tmp_path / "set"
    root.mkdir()
    lay, defects, _ = LAYOUTS[format]
    lay(root)
    for file in root.rglob("*"):
        if file.is_file() and is_image(file.name) and not file.stat().st_size:
            Image.new("L", (8, 6), 200).save(file)
    found = parse_params(yaml.safe_load(render(find_preset("own-fewshot"), data=str(root))))
    assert found.dataset.format == ("folder" if format == "mpdd" else format)
    assert found.dataset.path == found.dataset.watch == str(root)
    dataset = found.model_dump(mode="json")["dataset"] | {"format": format}
    folder = run_stages(tmp_path / "run", params | {"dataset": dataset}, "manifest")
    frame, _ = read_table(folder / MANIFEST.path)
    assert frame[frame["split"] == "train"]["is_anomaly"].tolist() == [False]
    anomalous = frame[frame["is_anomaly"].eq(True)]
    assert len(anomalous) == defects
    assert anomalous["mask_hash"].notna().all()
    assert frame["is_anomaly"].isna().sum() == (3 if format == "mvtec-ad-2" else 0)


def test_a_worker_that_sees_other_files_is_refused(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a block one image is looked at here, too, and each that the worker could not use."""
    data = tmp_path / "data"
    shutil.copytree(GOLDEN / "images", data)

    def elsewhere(function: Any, tasks: Any, *_: Any, **__: Any) -> Iterator[Any]:
        return (function(replace(task, root=data)) for task in tasks)

    monkeypatch.setattr(pipeline.dataset.manifest, "iterate_tasks", elsewhere)
    there = {"kind": "address", "address": "tcp://127.0.0.1:9"}
    asked = changed(params, cluster=there, dataset__on_bad_image="skip")
    paths = read_table(run_stages(tmp_path, asked, "manifest") / MANIFEST.path)[0]["path"]
    first, other = paths[0], paths[5]

    (data / other).rename(data / "kept")
    with pytest.raises(DataError, match=f"a worker .* does not see {other} as this machine does"):
        run_stages(tmp_path, asked, "manifest")
    (data / "kept").rename(data / other)
    shutil.copy(data / other, data / first)
    with pytest.raises(DataError, match=f"a worker .* does not see {first} as this machine does"):
        run_stages(tmp_path, asked, "manifest")


def test_what_a_worker_cannot_read_in_words_of_its_own_is_skipped_if_this_machine_cannot_either(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(GOLDEN / "images", data)
    broken = data / "weave/test/hole/000.png"
    broken.write_bytes(broken.read_bytes()[:40])

    def elsewhere(function: Any, tasks: Any, *_: Any, **__: Any) -> Iterator[Any]:
        for task in tasks:
            yield [f"so {one}" if isinstance(one, str) else one for one in function(task)]

    monkeypatch.setattr(pipeline.dataset.manifest, "iterate_tasks", elsewhere)
    there = {"kind": "address", "address": "tcp://127.0.0.1:9"}
    asked = changed(
        params, cluster=there, dataset__on_bad_image="skip", dataset__path=str(data)
    )  # fmt: skip
    run_stages(tmp_path / "run", asked, "manifest")
    (skipped,) = read_json(tmp_path / "run" / SKIPPED.path)["skipped"]
    assert skipped["path"] == "weave/test/hole/000.png"
    assert skipped["reason"].startswith("so ")
