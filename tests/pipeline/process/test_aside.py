"""Work in a fork: what it refuses arrives, what it loads does not, and no death of it goes unnoticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="work is forked on Linux alone")

HEAD = """
import os, signal, sys, threading, time
from pathlib import Path
from fade.errors import DataError
from pipeline.process.aside import run_aside
here = os.getpid()
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HEAD + code], cwd=folder, text=True, capture_output=True,
        env={"PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip


def test_work_leaves_nothing_but_what_it_says(tmp_path: Path) -> None:
    done = run(
        "print('before')\n"
        "def work():\n    import sqlite3\n    print('aside', os.getpid() == here)\n"
        "run_aside(work)\n"
        "print('sqlite3' in sys.modules)",
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("before\naside False\nFalse\n", "")


def test_refusals_arrive_as_they_are(tmp_path: Path) -> None:
    done = run(
        "def work():\n    raise DataError('no image')\n"
        "try:\n    run_aside(work)\nexcept DataError as error:\n    print(error, error.exit_code)",
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("no image 3\n", "")


@pytest.mark.parametrize("end", ["1 / 0", "os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(3)"])
def test_work_that_did_not_come_to_its_end_is_done_here(tmp_path: Path, end: str) -> None:
    done = run(
        f"def work():\n    if os.getpid() == here: print('here')\n    else: {end}\nrun_aside(work)",
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("here\n", "")


def test_where_threads_run_there_is_no_fork(tmp_path: Path) -> None:
    done = run(
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "run_aside(lambda: print(os.getpid() == here))",
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize(
    "fork", ["fork", "lambda: [child := fork(), child and time.sleep(0.5)][0]"]
)
def test_work_ends_with_who_asked_for_it(tmp_path: Path, fork: str) -> None:
    """Whether the interrupt comes while this process waits or as soon as the child is there."""
    done = run(
        "from pipeline.process import aside\n"
        "fork = aside.fork\n"
        f"aside.fork = {fork}\n"
        "signal.signal(2, signal.default_int_handler)\n"  # in the background a shell ignores it
        "def work():\n"
        "    if os.getpid() == here: return\n"
        "    os.kill(here, signal.SIGINT)\n"
        "    time.sleep(5)\n"
        "    Path('late').touch()\n"
        "try:\n    run_aside(work)\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
        "try:\n    os.waitpid(-1, 0)\nexcept ChildProcessError:\n    print('no child')",
        tmp_path,
    )
    assert done.stdout == "interrupted\nno child\n"
