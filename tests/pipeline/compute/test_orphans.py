"""Worker processes end when their stage is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.projects import ROOT

CODE = """
import os, sys, time
from pathlib import Path
from pipeline.compute.tasks import map_tasks
from pipeline.config.cluster import ClusterParams

def note(number):
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(0.2)
    return number

if __name__ == "__main__":
    map_tasks(note, list(range(3000)), ClusterParams(kind="processes", workers=2), "test")
"""


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # an ended process that nobody has waited for yet runs no more
    stat = Path(f"/proc/{process}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def within(seconds: float, process: int) -> bool:
    deadline = time.monotonic() + seconds
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(process)


def test_workers_end_with_a_killed_stage(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "code.py").write_text(CODE)
    stage = subprocess.Popen(
        [sys.executable, str(tmp_path / "code.py"), str(tmp_path / "work")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "work").iterdir())) < 2:
        assert stage.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stage.kill()  # it alone: as the system does that runs out of memory
    stage.wait()
    workers = [int(file.name) for file in (tmp_path / "work").iterdir()]
    try:
        for worker in workers:
            assert within(20, worker), "an orphan waits for tasks"
    finally:
        for worker in workers:
            if alive(worker):
                os.kill(worker, signal.SIGKILL)
