"""Wrong input ends in one line that names the culprit and the way out, and a documented code."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fade.errors import DataError
from pipeline.config.load import load_params
from tests.forks import Forks, Run
from tests.projects import GOLDEN, ROOT, changed, golden_params, project, run_stages

Params = dict[str, Any]
Case = Callable[[Path, Params], Params]


def _good(images: Path) -> Path:
    return images / "weave" / "test" / "good" / "000.png"


def no_data(images: Path, params: Params) -> Params:
    return changed(params, dataset__path=str(images / "nowhere"))


def no_training_image(images: Path, params: Params) -> Params:
    shutil.rmtree(images / "plate" / "train")
    return params


def too_many_shots(images: Path, params: Params) -> Params:
    return changed(params, vision__shots=[9])


def truncated(images: Path, params: Params) -> Params:
    data = _good(images).read_bytes()
    _good(images).write_bytes(data[: len(data) // 2])
    return params


def zero_bytes(images: Path, params: Params) -> Params:
    _good(images).write_bytes(b"")
    return params


def text_file(images: Path, params: Params) -> Params:
    _good(images).write_text("no image")
    return params


def other_mask_size(images: Path, params: Params) -> Params:
    mask = next((images / "weave" / "ground_truth").rglob("*.png"))
    Image.new("L", (7, 9)).save(mask)
    return params


def unknown_parameter(images: Path, params: Params) -> Params:
    return changed(params, vision__shot=[1])


def wrong_type(images: Path, params: Params) -> Params:
    return changed(params, features__classification_size="96")


def no_reference_at_all(images: Path, params: Params) -> Params:
    return changed(params, vision__shots=[0])


def unknown_model(images: Path, params: Params) -> Params:
    return changed(params, model__name="ViT-B-16-plus-204")


def no_vit(images: Path, params: Params) -> Params:
    return changed(params, model__name="RN50", model__pretrained="seeded")


def no_weights(images: Path, params: Params) -> Params:
    return changed(params, model__pretrained="nowhere.pt")


def not_divisible(images: Path, params: Params) -> Params:
    return changed(params, features__segmentation_sizes=[96, 100])


def too_many_neighbours(images: Path, params: Params) -> Params:
    return changed(params, vision__neighbours=37)


def no_prompt_file(images: Path, params: Params) -> Params:
    return changed(params, text__classification__prompts=["nowhere.json"])


CASES: list[tuple[Case, str, int, tuple[str, ...]]] = [
    (no_data, "manifest", 3, ("nowhere",)),
    (no_training_image, "select", 3, ("plate", "no training image", "shots")),
    (too_many_shots, "select", 2, ("9", "8 training images", "lower vision.shots")),
    (truncated, "extract", 3, ("weave/test/good/000.png", "stored")),
    (zero_bytes, "manifest", 3, ("weave/test/good/000.png", "empty")),
    (text_file, "manifest", 3, ("weave/test/good/000.png",)),
    (other_mask_size, "manifest", 3, ("7 x 9", "mask")),
    (unknown_parameter, "manifest", 2, ("vision.shot ", "did you mean shots?")),
    (wrong_type, "manifest", 2, ("features.classification_size", "'96'")),
    (no_reference_at_all, "manifest", 2, ("vision.query_in_bank",)),
    (unknown_model, "extract", 4, ("ViT-B-16-plus-204", "did you mean ViT-B-16-plus-240")),
    (no_vit, "extract", 4, ("RN50", "no plain CLIP ViT", "choose")),
    (no_weights, "extract", 4, ("nowhere.pt", "no file")),
    (not_divisible, "extract", 2, ("100", "patch size 16", "96 or 112")),
    (too_many_neighbours, "extract", 2, ("vision.neighbours is 37", "36 patches", "lower it")),
    (no_prompt_file, "text", 3, ("nowhere.json",)),
]
BEFORE: dict[str, tuple[str, ...]] = {
    "manifest": (),
    "select": ("manifest",),
    "extract": ("manifest", "select"),
    "text": ("manifest", "select"),
}


@pytest.mark.parametrize(
    ("case", "stage", "code", "clues"), CASES, ids=[case.__name__ for case, *_ in CASES]
)
def test_one_line(
    case: Case,
    stage: str,
    code: int,
    clues: tuple[str, ...],
    tmp_path: Path,
    golden_checkpoint: Path,
    forks: Forks,
) -> None:
    images = tmp_path / "images"
    shutil.copytree(GOLDEN / "images", images)
    params = golden_params("fewshot1_both_seed0", golden_checkpoint)
    params = changed(params, dataset__path=str(images), dataset__watch=str(images))
    params = changed(params, features__segmentation_sizes=[96])
    with project(tmp_path / "project", case(images, params)) as folder:
        for earlier in BEFORE[stage]:
            importlib.import_module(f"stages.{earlier}").run(load_params())
    done = forks.run(Run(stage, str(folder), small=0))
    assert done.code == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{stage}: error: ")
    for clue in clues:
        assert clue in lines[0]
    assert "Traceback" not in done.stderr


def test_a_bad_image_loses_nothing(tmp_path: Path, golden_checkpoint: Path, forks: Forks) -> None:
    """All other images are in the store; after the repair only the bad one is computed."""
    images = tmp_path / "images"
    shutil.copytree(GOLDEN / "images", images)
    whole = _good(images).read_bytes()
    params = golden_params("zeroshot_language", golden_checkpoint)
    params = changed(params, dataset__path=str(images), features__segmentation_sizes=[96])
    truncated(images, params)
    folder = str(run_stages(tmp_path / "project", params, "manifest", "select"))
    failed = forks.run(Run("extract", folder, small=0))
    assert failed.code == 3
    assert "32 to compute" in failed.stderr
    _good(images).write_bytes(whole)
    assert forks.run(Run("manifest", folder, small=0)).code == 0
    repaired = forks.run(Run("extract", folder, small=0))
    assert repaired.code == 0
    assert "the store has all features of 31 of 32 images, 1 to compute" in repaired.stderr


def test_what_changed_after_the_manifest_is_not_used(
    tmp_path: Path, golden_checkpoint: Path
) -> None:
    """Masks are refused where they are measured; the report says so in place of each picture."""
    images = tmp_path / "images"
    shutil.copytree(GOLDEN / "images", images)
    params = changed(
        golden_params("zeroshot_language", golden_checkpoint),
        dataset__path=str(images), dataset__categories=["weave"], features__segmentation_sizes=[96],
    )  # fmt: skip
    folder = run_stages(tmp_path / "project", params)

    def shrink(part: str) -> None:
        for file in (images / "weave" / part).rglob("*.*"):
            with Image.open(file) as opened:
                opened.resize((9, 7)).save(file)

    shrink("ground_truth")
    with pytest.raises(
        DataError, match=r"^weave/ground_truth/\S+ changed since the run began: run"
    ):
        run_stages(folder, params, "evaluate")
    shutil.rmtree(images)
    shutil.copytree(GOLDEN / "images", images)
    run_stages(folder, params, "evaluate", "report")
    page = folder / "results" / "report" / "index.html"
    assert " changed since the run began" not in page.read_text(encoding="utf-8")
    shrink("ground_truth")
    shrink("test")
    run_stages(folder, params, "report")
    for part in ("ground_truth", "test"):
        told = rf"weave/{part}/\S+ changed since the run began: run `fade run` again"
        assert re.search(told, page.read_text(encoding="utf-8"))


def test_names_steer_no_terminal(tmp_path: Path, golden_checkpoint: Path, forks: Forks) -> None:
    """They are written as escapes, in the terminal and in the log file."""
    images = tmp_path / "images"
    shutil.copytree(GOLDEN / "images" / "weave", images / "\x9b31m")
    shutil.copytree(GOLDEN / "images" / "weave", images / "b\u202e")
    params = golden_params("zeroshot_language", golden_checkpoint)
    params = changed(params, dataset__path=str(images), dataset__categories=None)
    with project(tmp_path / "project", params) as folder:
        pass
    done = forks.run(Run("manifest", str(folder)))
    (log,) = (folder / "logs").iterdir()
    assert done.code == 0, done.stderr
    for text in (done.stderr, log.read_text(encoding="utf-8")):
        assert r"\x9b31m/t" in text
        assert r"b\u202e/t" in text
        assert all(line.isprintable() for line in text.splitlines())


def test_a_traceback_for_those_who_ask(tmp_path: Path, forks: Forks) -> None:
    with project(tmp_path, {}):
        pass
    run = Run("manifest", str(tmp_path))
    quiet, loud = forks.run(run), forks.run(replace(run, environment={"FADE_TRACEBACK": "1"}))
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr
    assert quiet.code == 2


def test_no_params_file(tmp_path: Path) -> None:
    """In a fresh interpreter: the way from ``python -m`` to the line is a part of it."""
    done = subprocess.run(
        [sys.executable, "-m", "stages.select"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no params.yaml here" in done.stderr


def test_stages_before_their_inputs(tmp_path: Path, golden_checkpoint: Path, forks: Forks) -> None:
    with project(tmp_path, golden_params("fewshot1_both_seed0", golden_checkpoint)):
        pass
    done = forks.run(Run("evaluate", str(tmp_path)))
    assert done.code == 5
    assert "artefacts/manifest.parquet is missing: run `fade run`" in done.stderr
