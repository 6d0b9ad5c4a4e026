"""The pipeline with ``cluster.kind: slurm`` on a real SLURM of one machine; see `make test-slurm`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.projects import ROOT, changed, golden_params, project, run_stages

HERE = Path(__file__).parent
STAGES = (
    "manifest", "select", "extract", "text", "bank", "score_language", "score_vision", "evaluate",
)  # fmt: skip
DAEMONS = ("munged", "slurmctld", "slurmd")
SLOW = """
import time
import pipeline.features.plan
from pipeline.stage import run_stage

pipeline.features.plan.SEGMENT_IMAGES = 1
pipeline.features.plan.SEGMENT_BYTES = 1
run_stage("stages.extract")
"""


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Daemons of our own, for as long as these tests take."""
    if not os.environ.get("FADE_SLURM"):
        pytest.skip("SLURM is tested by `make test-slurm`")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in (*DAEMONS, "sbatch") if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurm-wlm munge")
    pytest.importorskip("dask_jobqueue", reason="the extra `slurm` is not installed")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([str(HERE / "start.sh"), str(folder)], check=True, timeout=120)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    del os.environ["SLURM_CONF"]
    subprocess.run([str(HERE / "stop.sh"), str(folder)], check=True)


@pytest.fixture(scope="module")
def params(golden_checkpoint: Path) -> dict[str, Any]:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        dataset__limit=2,
        threshold__images=2,
        runtime={"device": "cpu", "batch_size": 2, "loader_workers": 2},
    )


def on_slurm(params: dict[str, Any], **more: Any) -> dict[str, Any]:
    cluster = {
        "kind": "slurm", "workers": 2, "memory": "2GiB", "interface": "lo", "queue": "all",
        "walltime": "00:10:00", "wait": 120,
        "prologue": [f"export PYTHONPATH={ROOT}", "export FADE_SITE=here"],
    }  # fmt: skip
    return changed(params, cluster={**cluster, **more})


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=400)
    print(output, end="")
    return output


def jobs() -> list[str]:
    """Identifiers of the jobs that SLURM has: pending, running or ending."""
    command = ["squeue", "--noheader", "--format=%A", "--states=PD,R,CG"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def no_jobs_are_left() -> bool:
    for _ in range(100):
        if not jobs():
            return True
        time.sleep(0.2)
    return False


def test_results_are_those_of_one_process(params: dict[str, Any], tmp_path: Path) -> None:
    run_stages(tmp_path / "synchronous", params)
    with project(tmp_path / "slurm", on_slurm(params)) as folder:
        for stage in STAGES:
            process = start("-m", f"stages.{stage}")
            output = finish(process)
            assert process.returncode == 0, output
            assert no_jobs_are_left(), stage
        scripts = list((folder / "logs" / "slurm").iterdir())
        assert scripts, "what workers say is kept"
    for name in ("metrics.csv", "summary.csv", "thresholds.json", "scores.parquet"):
        made = (tmp_path / "slurm" / "results" / name).read_bytes()
        assert made == (tmp_path / "synchronous" / "results" / name).read_bytes(), name
    print("results are byte-identical to kind synchronous")


def test_a_cancelled_job_is_followed_by_another(params: dict[str, Any], tmp_path: Path) -> None:
    with project(tmp_path, on_slurm(changed(params, dataset__limit=None), workers=1)):
        for stage in ("manifest", "select"):
            assert start("-m", f"stages.{stage}").wait() == 0
        process = start("-c", SLOW)
        index = tmp_path / ".fade" / "store" / "spaces"
        for _ in range(600):
            if process.poll() is not None or any(index.glob("*/index/*.json")):
                break
            time.sleep(0.1)
        (first,) = jobs()
        subprocess.run(["scancel", first], check=True)
        output = finish(process)
        assert process.returncode == 0, output
        assert "is gone" in output
        assert no_jobs_are_left()


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({"queue": "nowhere"}, "SLURM refuses such a job (sbatch: error: invalid partition"),
        ({"memory": "900TiB"}, "SLURM refuses such a job (allocation failure"),
        ({"interface": "none7"}, "the scheduler cannot start"),
    ],
)
def test_what_slurm_does_not_take(
    params: dict[str, Any], tmp_path: Path, cluster: dict[str, Any], said: str
) -> None:
    with project(tmp_path, on_slurm(params, **cluster)):
        process = start("-m", "stages.manifest")
        output = finish(process)
    assert process.returncode == 2
    assert said in output
    assert "Traceback" not in output


def test_jobs_that_never_join(params: dict[str, Any], tmp_path: Path) -> None:
    with project(tmp_path, on_slurm(params, prologue=["exit 3"], wait=8)):
        process = start("-m", "stages.manifest")
        output = finish(process)
    assert process.returncode == 1
    assert "not one worker for 8 seconds" in output
