"""`dvc repro` killed together with its stage: the next one goes on, and no lock is in its way.

Takes a minute, so only `make test-kill` runs it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.process.dvc_files import cut_short
from tests.stages.test_kill import KILLS
from tests.stages.undisturbed import rows
from tests.test_dvc_repro import Clone
from tests.test_promises import made, parameters

pytestmark = [
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(KILLS <= 3, reason="only `make test-kill` kills DVC itself"),
]


def killed_when(clone: Clone, reached: Callable[[], bool]) -> None:
    """Start `dvc repro extract`, and kill it with all its children once something is reached."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "extract"],
        cwd=clone.folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_dvc_is_killed_and_run_again(golden_checkpoint: Path, tmp_path: Path) -> None:
    clone = Clone(tmp_path, golden_checkpoint)
    artefacts = clone.folder / "artefacts"
    killed_when(clone, lambda: any((clone.folder / "logs").glob("*-manifest-*")))
    killed_when(clone, (artefacts / "manifest.parquet").exists)
    killed_when(clone, lambda: clone.segments() > 0)
    before = set(rows(clone.folder))
    assert before
    assert not (artefacts / "receipts" / "test.parquet").exists()
    clone.dvc("repro", "extract")
    assert (artefacts / "receipts" / "test.parquet").is_file()
    published = list(rows(clone.folder))
    assert len(published) == len(set(published)), "work was done twice"
    assert before <= set(published)
    assert "didn't change" in clone.dvc("repro", "extract")


@pytest.mark.parametrize(
    "moment", [f"{name} {n}" for name in ("dvc.lock", "rwlock") for n in (1, 2)]
)
def test_dvc_is_killed_while_a_file_of_its_own_is_empty(
    golden_checkpoint: Path, tmp_path: Path, moment: str
) -> None:
    place = made(tmp_path / "project", parameters(golden_checkpoint), "new")
    assert place.fade("run", "manifest")[0] == 0
    place.to_save(dataset__limit=2)
    shutil.copy(place.folder / "other.yaml", place.folder / "params.yaml")
    code, said = place.fade("run", "select", kill_at=moment)
    assert code == 1, said
    assert [file.name for file in cut_short(place.folder)] == [moment.split()[0]]
    code, said = place.dvc("repro", "select")
    assert code, "DVC reads that file no longer: is it still to be healed?"
    code, said = place.fade("run", "select")
    assert (code, "was cut short by a killed run" in said) == (0, True), said
    assert place.used("manifest", "dataset.limit") == (2, 2)
    assert "everything was up to date" in place.fade("run", "select")[1]
