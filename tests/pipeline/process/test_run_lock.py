"""One run at a time in a project, also where runs do not see each other's processes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fade.errors import StoreError
from pipeline.process.run_lock import LOCK, only_run
from pipeline.project.dvc import repro
from tests.projects import ROOT

HOLD = """
from pipeline.process.run_lock import only_run
with only_run():
    print("held", flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages:\n  manifest:\n    cmd: echo\n")
    return tmp_path


@contextmanager
def another_run(project: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the project, and that is no DVC: as if it could not be seen."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_run_that_cannot_be_seen_keeps_others_away(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text("# FADE: as it was\n")
    with another_run(project) as other:
        says = f"a run is going on in this folder (process {other.pid} of {socket.gethostname()}): "
        with pytest.raises(StoreError, match=rf"^{re.escape(says)}wait"):
            repro()
        # who had no time to say who it is
        (project / LOCK).write_bytes(b"")
        with pytest.raises(StoreError, match=r"^a run is going on in this folder: wait"):
            repro()
    with only_run():  # what a killed one held is free
        pass
    assert params.read_text() == "# FADE: as it was\n"


def test_without_a_project_of_dvc_nothing_is_held_or_made(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    with only_run(folder), only_run(folder):
        assert list(folder.iterdir()) == []


def test_a_file_system_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int, what: int) -> None:
        raise OSError(45, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with only_run(), only_run():
        pass
