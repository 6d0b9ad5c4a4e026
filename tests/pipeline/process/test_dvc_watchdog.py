"""A stage ends with the DVC that started it, and with none else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.process.dvc_watchdog import STARTED_BY_DVC, find_dvc, is_alive
from tests.projects import ROOT

STAGE = """
import sys, time, logging, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background
sys.path.insert(0, {root!r})
from pipeline.process.dvc_watchdog import exit_when_dvc_dies
logging.basicConfig()
exit_when_dvc_dies()
open("ready", "w").write("")
try:
    time.sleep(60)
except KeyboardInterrupt:
    open("ended", "w").write("")
"""


@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_stage_ends_with_its_dvc(tmp_path: Path, by_dvc: bool) -> None:
    (tmp_path / "stage.py").write_text(STAGE.format(root=str(ROOT)))
    # DVC runs commands through a shell, which may stay between
    shell = f"sh -c '{sys.executable} stage.py; true'"
    environment = {key: value for key, value in os.environ.items() if key != STARTED_BY_DVC}
    if by_dvc:
        environment[STARTED_BY_DVC] = "stage"
    (tmp_path / "dvc").write_text(f"import subprocess\nsubprocess.call({shell!r}, shell=True)\n")
    dvc = subprocess.Popen(
        [sys.executable, str(tmp_path / "dvc")], cwd=tmp_path, env=environment,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    ready, ended = tmp_path / "ready", tmp_path / "ended"
    try:
        _await(ready)
        stage = [
            p for p in psutil.Process(dvc.pid).children(recursive=True) if "stage.py" in p.cmdline()
        ]
        dvc.kill()
        dvc.wait()
        if by_dvc:
            _await(ended)
            psutil.wait_procs(stage, timeout=20)
            assert not any(map(is_alive, stage))
        else:
            psutil.wait_procs(stage, timeout=1.5)
            assert any(map(is_alive, stage))
    finally:
        for process in stage:
            if is_alive(process):
                process.kill()


def _await(file: Path) -> None:
    import time

    for _ in range(300):
        if file.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{file.name} never came")


def test_without_dvc_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STARTED_BY_DVC, raising=False)
    assert find_dvc() is None
    monkeypatch.setenv(STARTED_BY_DVC, "evaluate")  # by the environment alone
    assert find_dvc() is None
