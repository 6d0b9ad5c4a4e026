"""Files that are replaced while the manifest is made, or before DVC has hashed them, are found out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cache.layout import content_key
from fade.errors import DataError
from pipeline.artefacts.catalogue import AGAIN, CHANGED, MANIFEST
from pipeline.artefacts.tables import read_table
from pipeline.config.load import load_params
from pipeline.dataset.stamps import STAMPS, check_fresh, fresh_manifest
from tests.interpreter import Interpreter
from tests.projects import (
    GOLDEN,
    KINDS,
    ROOT,
    changed,
    golden_params,
    lay_pipeline,
    project,
    run_stages,
)

Params = dict[str, Any]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "images" / "weave", tmp_path / "images" / "weave")).parent


@pytest.fixture
def params(images: Path, golden_checkpoint: Path) -> Params:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        dataset__path=str(images), dataset__watch=str(images), dataset__categories=["weave"],
    )  # fmt: skip


def replace(path: Path) -> None:
    """Another picture of the same size, in as many bytes and with the same time, where that can be."""
    before = path.stat()
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.ROTATE_180)
    turned.save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act when all files were read, right before they are looked at again."""
    import stages.manifest

    real = stages.manifest.check_recorded

    def late(*args: Any) -> None:
        act()
        real(*args)

    monkeypatch.setattr(stages.manifest, "check_recorded", late)


@pytest.mark.parametrize("name", ["test/hole/000.png", "ground_truth/hole/000_mask.png"])
def test_replaced_while_the_manifest_is_made(
    params: Params, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda: replace(images / "weave" / name))
        with pytest.raises(DataError, match=rf"^weave/{name} {CHANGED}: run again$"):
            run_stages(tmp_path / "project", params, "manifest")
    folder = run_stages(tmp_path / "project", params, "manifest")
    frame = read_table(folder / MANIFEST.path)[0]
    row = frame[(frame["path"] == f"weave/{name}") | (frame["mask"] == f"weave/{name}")].iloc[0]
    key = content_key((images / "weave" / name).read_bytes())
    assert key in (row["hash"], row["mask_hash"])


def test_written_again_with_the_same_content(
    params: Params, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again() -> None:
        for path in images.rglob("*.png"):
            path.write_bytes(path.read_bytes())

    meanwhile(monkeypatch, again)
    run_stages(tmp_path / "project", params, "manifest")


def csv_table(images: Path) -> Path:
    rows = [("train/good/000", "train", "good"), ("test/hole/000", "test", "hole")]
    lines = [f"weave/{name}.png,weave,{split},{label}" for name, split, label in rows]
    (images / "manifest.csv").write_text("\n".join(["image,category,split,label", *lines]))
    return images / "manifest.csv"


def json_table(images: Path) -> Path:
    """As Real-IAD has it."""

    def row(path: str, label: str) -> dict[str, str]:
        return {"image_path": path, "anomaly_class": label}

    content = {
        "meta": {"normal_class": "OK"},
        "train": [row("train/good/000.png", "OK")],
        "test": [row("test/hole/000.png", "hole")],
    }
    (images / "realiad_jsons").mkdir()
    (images / "realiad_jsons" / "weave.json").write_text(json.dumps(content))
    return images / "realiad_jsons" / "weave.json"


@pytest.mark.parametrize(
    ("format", "written"), [("csv", csv_table), ("real-iad", json_table)], ids=["csv", "real-iad"]
)
def test_labels_of_a_table_that_change(
    params: Params, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str,
    written: Callable[[Path], Path],
) -> None:  # fmt: skip
    table = written(images)
    params["dataset"]["format"] = format

    def edit() -> None:
        text = table.read_text()
        table.write_text(text[: text.rindex("hole")] + "dent" + text[text.rindex("hole") + 4 :])

    meanwhile(monkeypatch, edit)
    with pytest.raises(DataError, match=rf"^\S*{table.name} {CHANGED}"):
        run_stages(tmp_path / "project", params, "manifest")


def test_another_file_of_a_mask_of_several(
    params: Params, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's name stays as it is, and so do the files that were read."""
    mask = images / "weave" / "ground_truth" / "hole" / "000_mask.png"
    folder = mask.with_name("000")
    folder.mkdir()
    for name in ("000.png", "001.png"):
        shutil.copy(mask, folder / name)
    mask.unlink()
    params["dataset"]["format"] = "mvtec-loco"
    meanwhile(monkeypatch, lambda: shutil.copy(folder / "000.png", folder / "002.png"))
    with pytest.raises(DataError, match=rf"^weave/ground_truth/hole/000/ {CHANGED}"):
        run_stages(tmp_path / "project", params, "manifest")


def test_the_next_stage_takes_the_manifest_back(
    params: Params, images: Path, tmp_path: Path
) -> None:
    folder = run_stages(tmp_path / "project", params, "manifest")
    with project(folder, params):
        dataset = load_params().dataset
        assert STAMPS.is_file()
        replace(images / "weave" / "test" / "good" / "000.png")
        with pytest.raises(DataError, match=r"weave/test/good/000\.png changed"):
            check_fresh(dataset)
        assert not MANIFEST.path.exists()
        check_fresh(dataset)
        run_stages(folder, params, "manifest")
        check_fresh(dataset)
        assert not STAMPS.exists()
        assert MANIFEST.path.exists()


def test_advice_of_a_stage_that_meets_another_file(params: Params, tmp_path: Path) -> None:
    from pipeline.dataset.file_index import scan

    params["dataset"]["watch"] = "listing.parquet"
    with project(tmp_path / "project", params):
        scan(load_params())
        run_stages(tmp_path / "project", params, "manifest")
        with (
            pytest.raises(
                DataError, match=rf"^a {CHANGED}: run `fade scan`.*listing.parquet.*again$"
            ),
            fresh_manifest(load_params().dataset),
        ):
            raise DataError(f"a {CHANGED}: {AGAIN}")
        assert not MANIFEST.path.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_before_dvc_has_hashed_it(
    params: Params, images: Path, tmp_path: Path, kind: str, interpreter: Interpreter
) -> None:
    """The run after the one that finds it out is right, although DVC's run cache knows the old one."""
    path = images / "weave" / "test" / "good" / "000.png"
    other = tmp_path / "other.png"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_180).save(other)
    lay_pipeline(tmp_path, kind)
    stages = yaml.safe_load((tmp_path / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    chosen = {name: stages[name] for name in ("manifest", "select")}
    for stage in chosen.values():
        stage["params"] = ["dataset"]
    chosen["manifest"]["cmd"] += f" && cp {other} {path}"
    with project(tmp_path / "project", params) as folder:
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": chosen}), encoding="utf-8")
        (folder / ".dvcignore").write_text(".fade/\n", encoding="utf-8")
        config = "[core]\n    no_scm = true\n    analytics = false\n"
        (folder / ".dvc" / "config").write_text(config, encoding="utf-8")

        places = f"{interpreter.python.parent}{os.pathsep}{os.environ['PATH']}"

        def dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [interpreter.python, "-m", "dvc", *arguments],
                cwd=folder, capture_output=True, text=True, check=False,
                env={**os.environ, "PATH": places, "PYTHONPATH": str(ROOT), "FADE_TRACEBACK": ""},
            )  # fmt: skip

        first = dvc("repro")
        assert "weave/test/good/000.png changed since the run began: run again" in first.stderr
        assert first.returncode
        second = dvc("repro")
        assert second.returncode == 0, second.stderr
        frame = read_table(MANIFEST.path)[0].set_index("path")
        assert frame.loc["weave/test/good/000.png", "hash"] == content_key(path.read_bytes())
        assert "up to date" in dvc("status").stdout
