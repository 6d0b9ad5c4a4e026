"""Fixtures of the kill and fault tests: a server that forks stages, and an undisturbed run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.forks import Forks, Run
from tests.interpreter import Interpreter
from tests.projects import STAGES, changed, golden_params, lay_pipeline, project
from tests.stages.undisturbed import BLOCK, PROMPTS, STREAMING, THREADS, Undisturbed


@pytest.fixture(scope="session")
def forks(interpreter: Interpreter) -> Iterator[Forks]:
    with Forks(interpreter.python) as client:
        yield client


@pytest.fixture(scope="session")
def small_params(golden_checkpoint: Path) -> dict[str, Any]:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        text__classification__prompts=[PROMPTS],
        text__segmentation__prompts=[PROMPTS],
        threshold__images=2,
        runtime={"device": "cpu", "batch_size": 2, "loader_workers": 2},
        cluster={"kind": "threads", "workers": THREADS},
    )


@pytest.fixture(scope="session")
def undisturbed(
    small_params: dict[str, Any], forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Undisturbed]:
    """Each stage of a run without a kill, and of a run that keeps no features its wide one.

    The projects are of `fade new`.
    """
    root = tmp_path_factory.mktemp("undisturbed")
    found = {}
    with project(root / "now", small_params) as folder:
        lay_pipeline(folder, "new")
    for stage in STAGES:
        before = shutil.copytree(folder, root / f"before-{stage}")
        end = forks.run(Run(stage, str(folder), small=BLOCK))
        assert end.code == 0, end.stderr
        after = shutil.copytree(folder, root / f"after-{stage}")
        found[stage] = Undisturbed(before, after, end)
    streaming = changed(small_params, features__keep=False)
    with project(shutil.copytree(root / "before-extract", root / "stream"), streaming) as folder:
        pass
    for stage in ("extract", "text", "bank", "stream"):
        before = shutil.copytree(folder, root / f"before-{stage}-for-stream")
        end = forks.run(Run(stage, str(folder), small=BLOCK))
        assert end.code == 0, end.stderr
    found[STREAMING] = Undisturbed(before, folder, end)
    return found
