"""What a changed parameter costs once features are there, at the size of MVTec's categories.

Two categories of 58 test images with random features of the right shape in a store, 56 x 56 grids,
one shot; MVTec has 15 categories and 1,725 test images. What a category more takes is measured in
this process, as the difference of two categories and one, and counted for all 1,725 images, in
categories of 58. The rest is counted once: DVC, starting the stages, and what they do once a run.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from PIL import Image

from benchmarks.machine import Machine, seconds
from benchmarks.table import Row
from cache.layout import batched
from cache.store import Store
from fade.encoder import Encoder
from fade.prompts import fill
from pipeline.artefacts.catalogue import MANIFEST, SELECTION, TEST
from pipeline.artefacts.tables import read_table
from pipeline.compute.tasks import map_tasks
from pipeline.config.cluster import ClusterParams
from pipeline.config.load import load_params
from pipeline.config.originals import original
from pipeline.config.schema import Params
from pipeline.features.models import feature_space, load_encoder
from pipeline.scoring.prompt_embeddings import embed
from pipeline.scoring.texts import class_name, ensembles, uses

ROOT = Path(__file__).parent.parent
ALL, TESTS, SIDE, SIZE = 15 * 115, 58, 256, 896
"""Test images of MVTec, those of one category here, pixels."""
CATEGORIES = "first", "second"
CROWD = 3
"""Times that a category's images are scored to compare numbers of processes, start included; less often
on a slower machine, whose processes are as long at work."""
SEGMENT = 16
"""Images of a segment at this size."""


class DrawnTexts:
    """Stands for an encoder of texts: random directions."""

    def __init__(self, encoder: Encoder) -> None:
        self.text_digest, self.dim = encoder.text_digest, encoder.dim

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """All of them are read."""

    def encode_texts(
        self, prompts: Sequence[str], advance: Callable[[int], object] | None = None
    ) -> np.ndarray:
        """One vector of unit length a prompt."""
        drawn = np.random.default_rng(len(prompts)).standard_normal((len(prompts), self.dim))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def _dvc(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path.cwd()),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _images(folder: Path, tests: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for part, count in (
        ("train/good", 2),
        ("test/good", tests // 3),
        ("test/hole", tests - tests // 3),
    ):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
            coarse.resize((SIDE, SIDE)).save(folder / part / f"{i:03}.png")
    masks = folder / "ground_truth" / "hole"
    masks.mkdir(parents=True)
    for i in range(tests - tests // 3):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        top, left = rng.integers(0, SIDE - 40, 2)
        mask[top : top + 40, left : left + 40] = 255
        Image.fromarray(mask).save(masks / f"{i:03}_mask.png")


@contextlib.contextmanager
def _project(tests: int) -> Iterator[Path]:
    """A project that ran once: categories with features drawn at random."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, category in enumerate(CATEGORIES):
            _images(folder / "images" / category, tests, seed)
        content = yaml.safe_load(original("params.yaml"))
        content["dataset"] |= {"format": "mvtec", "path": "images", "watch": "images"}
        content["model"] |= {"name": "ViT-B-16-plus-240", "pretrained": "seeded"}
        content["features"] |= {"classification_size": 240, "segmentation_sizes": [SIZE]}
        content["vision"] |= {"shots": [1], "seeds": [0], "query_in_bank": False}
        content["evaluate"]["size"] = 448
        content["threshold"]["images"] = 0
        (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        for file in ("dvc.yaml", ".dvcignore"):
            shutil.copy(ROOT / file, folder / file)
        for package in ("fade", "cache", "pipeline", "stages", "prompts"):
            shutil.copytree(ROOT / package, folder / package)
        os.chdir(folder)
        try:
            _dvc("init", "--no-scm")
            _dvc("repro", "select")
            _fill(load_params())
            _dvc("repro")
            yield folder
        finally:
            os.chdir(before)


def _store(params: Params) -> Store:
    return Store(
        importlib.import_module("pipeline.artefacts.catalogue").store_root(params.features.store)
    )


def _fill(params: Params) -> None:
    """Write features of all images and prompts: unit vectors drawn at random."""
    encoder, store = load_encoder(params), _store(params)
    manifest, _ = read_table(MANIFEST.path)
    selection, _ = read_table(SELECTION.path)
    tests = manifest.loc[manifest["split"] == "test", "hash"].tolist()
    keys = dict.fromkeys([*selection["hash"], *tests])
    rng = np.random.default_rng(0)
    for feature in {*params.reference_features(), *params.test_features()}:
        space = feature_space(encoder, feature, params)
        store.register(space)
        for part in batched(list(keys), SEGMENT):
            drawn = rng.standard_normal((len(part), *space.shape), np.float32)
            drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
            store.write(space, part, drawn.astype(space.dtype))
    texts = [
        text
        for use in uses(params)
        for name in CATEGORIES
        for text in fill(
            ensembles(params, use, name), class_name(params, use, name), params.text.template
        )[0]
    ]
    embed(list(dict.fromkeys(texts)), cast(Encoder, DrawnTexts(encoder)), store)


def _change(section: str, **leaves: Any) -> None:
    file = Path("params.yaml")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    place = content
    for name in section.split("."):
        place = place[name]
    place |= leaves
    file.write_text(yaml.safe_dump(content), encoding="utf-8")


def _stage(name: str) -> float:
    """Time of a stage's work in this process, all imported."""
    stage = importlib.import_module(f"stages.{name}")
    start = time.perf_counter()
    stage.run(load_params())
    return time.perf_counter() - start


def _repro(expected: set[str]) -> float:
    start = time.perf_counter()
    output = _dvc("repro")
    taken = time.perf_counter() - start
    ran = set(re.findall(r"Running stage '(\w+)'", output))
    assert ran == expected, (ran, output)
    return taken


def _finish() -> float:
    """Time of the last stages' work, their imports left out."""
    return seconds(lambda: _stage("evaluate") + _stage("report"))


def _scaled(whole: float, category: float, tests: int) -> float:
    """Time for all images, given that of both categories and what one of them takes."""
    return whole + (ALL / tests - len(CATEGORIES)) * category


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark; a quick run takes a few images."""
    tests = 6 if quick else TESTS
    with _project(tests):
        return [*_reruns(tests), *_scoring(machine)]


def _reruns(tests: int) -> list[Row]:
    idle = seconds(lambda: _repro(set()), 3)
    _change("fusion", vision_weight=0.5)
    weight = _repro({"evaluate", "report"})
    both = _finish()
    _change("text.classification", classifier="softmax")
    _change("text.segmentation", classifier="softmax")
    softmax = _repro({"text", "stream", "score_language", "evaluate", "report"})
    _change("text.segmentation", classifier="max")
    _stage("text")
    language = _stage("score_language") / len(CATEGORIES)
    _change("dataset", categories=list(CATEGORIES[:1]))
    _dvc("repro")
    category = both - _finish()
    _change("dataset", categories=None)
    _dvc("repro")
    changed = f"changed to new report, {ALL:,} images"
    rows = [
        ("dvc repro with no change", idle, 5),
        (f"fusion.vision_weight {changed}", _scaled(weight, category, tests), 30),
        (f"text classifier {changed}", _scaled(softmax, category + language, tests), 90),
    ]
    return [Row(name, taken, None, f"{most} s", taken <= most) for name, taken, most in rows]


def _nothing(task: int) -> int:
    return task


def _scoring(machine: Machine) -> list[Row]:
    """Vision scoring: against its floor, on one and two processes, and dask's own time."""
    params = load_params()
    plan = importlib.import_module("pipeline.scoring.plan")
    receipts = importlib.import_module("pipeline.artefacts.receipts")
    vision = importlib.import_module("pipeline.scoring.vision")
    store, receipt = _store(params), receipts.read_receipt(TEST)
    work = vision.plan_vision(params, receipt, store)
    assert not work.lacking  # all maps are there
    shutil.rmtree(Path(store.root) / store.folder(work.plans[0].output))
    work = vision.plan_vision(params, receipt, store)
    tasks = list(work.tasks(receipt, store))
    tasks = tasks[: machine.fewer(len(tasks), len(tasks) // 2)]
    tests = sum(len(task.block.keys) for task in tasks)

    def timed(kind: str, workers: int, function: Any, work: Sequence[Any]) -> float:
        cluster = ClusterParams(kind=kind, workers=workers, threads_per_worker=1)  # type: ignore[arg-type]
        start = time.perf_counter()
        map_tasks(function, work, cluster, "bench")
        return time.perf_counter() - start

    timed("threads", 2, plan.score_block, tasks[:2])
    ours = timed("threads", 2, plan.score_block, tasks)
    patches, dim = tasks[0].block.features[0].shape
    query = np.random.default_rng(0).standard_normal((patches, dim), np.float32)
    product = seconds(lambda: query @ query.T, 5)
    read = tests * patches * dim * 2 * 2 / machine.memory
    floor = tests * product + read
    # a process takes a second or two to start
    crowd = machine.fewer(CROWD, 2)
    one, two = (timed("processes", n, plan.score_block, crowd * tasks) for n in (1, 2))
    empty = timed("threads", 2, _nothing, range(500)) / 500
    share = empty / (ours / len(tasks))
    return [
        Row(f"vision scoring, {tests} images, one shot, 56 x 56", ours, None, "1.3 x its floor",
            ours <= 1.3 * floor, (floor / ours, "sgemm and bytes read")),
        Row(f"vision scoring, {crowd * tests} images, 2 processes beside one (one BLAS thread each)",
            two, one, "ratio 1.8", one / two >= 1.8),
        Row("dask, time a task beside that of such a block", empty, ours / len(tasks),
            "5 % of its work", share < 0.05),
    ]  # fmt: skip
