"""Stages killed with SIGKILL at random moments: a plain re-run ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.projects import ROOT, changed, golden_params, project

STAGES = (
    "manifest", "select", "extract", "text", "bank", "score_language", "score_vision", "evaluate",
)  # fmt: skip
RESULTS = (
    "metrics.csv", "summary.csv", "metrics.json", "evaluation.json", "scores.parquet",
    "thresholds.json",
)  # fmt: skip
SMALL_SEGMENTS = """
import sys, importlib
from pipeline.runner import run_stage
module = importlib.import_module("stages." + sys.argv[1])
for name in ("SEGMENT_IMAGES", "BLOCK_IMAGES", "SEGMENT_PROMPTS"):
    if hasattr(module, name):
        setattr(module, name, 3)
run_stage(module.__name__)
"""
KILLS = int(os.environ.get("FADE_KILLS", "3"))
"""Kills of each stage; `make test-kill` asks for more."""


def start(stage: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_SEGMENTS, stage],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def rows(store: Path) -> Iterator[tuple[str, str]]:
    """Every published (space, key), duplicates included."""
    for file in store.glob("spaces/*/index/*.json"):
        entry = json.loads(file.read_text())
        yield from ((file.parent.parent.name, key) for key in entry["keys"])


@pytest.fixture(scope="module")
def params(golden_checkpoint: Path) -> dict[str, Any]:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        threshold__images=2,
        runtime={"device": "cpu", "batch_size": 2, "loader_workers": 2},
    )


@pytest.fixture(scope="module")
def undisturbed(
    params: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], dict[str, float]]:
    """The results of a run without a kill, and how long each stage took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    seconds = {}
    with project(folder, params):
        for stage in STAGES:
            begun = time.monotonic()
            assert start(stage).wait() == 0
            seconds[stage] = time.monotonic() - begun
    return {name: (folder / "results" / name).read_bytes() for name in RESULTS}, seconds


def test_killed_and_run_again(
    params: dict[str, Any],
    undisturbed: tuple[dict[str, bytes], dict[str, float]],
    tmp_path: Path,
) -> None:
    results, seconds = undisturbed
    dice = random.Random(20260923)
    with project(tmp_path, params) as folder:
        for stage in STAGES:
            for _ in range(KILLS):
                process = start(stage)
                # most of a stage is imports: aim at what comes after them
                time.sleep(seconds[stage] * dice.uniform(0.3, 1.0))
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            assert start(stage).wait() == 0, stage
        for name, content in results.items():
            assert (folder / "results" / name).read_bytes() == content, name
        published = list(rows(folder / ".fade" / "store"))
    assert len(published) == len(set(published)), "work was done twice"
