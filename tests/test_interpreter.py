"""A Python whose libraries are loaded already does what Python does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.interpreter import Interpreter
from tests.projects import ROOT

SHOW = (
    "import os, sys; print(sys.argv, os.getcwd(), os.environ['MARK'], sys.stdin.read(), flush=True)"
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", SHOW, "an argument"],
        ["-c", f"{SHOW}; sys.exit(3)"],
        ["-c", f"{SHOW}; sys.exit('a reason')"],
        ["-c", f"{SHOW}; os.kill(os.getpid(), 9)"],
        ["-c", "import atexit; atexit.register(print, 'at the end')"],
        ["-m", "own", "one", "two"],
        ["-P", "-m", "json.tool", "--help"],
        ["own.py", "one"],
        ["-P", "own.py"],
    ],
)
def test_a_program_ends_as_in_any_other(
    interpreter: Interpreter, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "own.py").write_text("import sys, beside; print(sys.argv, __name__, beside.value)")
    (tmp_path / "beside.py").write_text("value = 7")
    ends = []
    for python in (sys.executable, str(interpreter.python)):
        done = subprocess.run(
            [python, *arguments], cwd=tmp_path, input="text", capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": "", "MARK": "x"},
        )  # fmt: skip
        last = done.stderr.strip().splitlines()[-1:]
        ends.append((done.returncode, done.stdout, last))
    assert ends[0] == ends[1]


def test_a_projects_own_modules_are_loaded_anew(interpreter: Interpreter, tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    for number in (1, 2):
        (tmp_path / "pipeline" / "__init__.py").write_text(f"print({'*' * number!r})")
        done = subprocess.run(
            [interpreter.python, "-c", "import pipeline"], cwd=tmp_path, stdout=subprocess.PIPE,
            check=True, text=True,
        )  # fmt: skip
        assert done.stdout.strip() == "*" * number


def test_a_server_lives_as_long_as_one_holds_it(tmp_path: Path) -> None:
    bare = (
        "import sys, tests.interpreter as own; own._load = lambda: None; own._serve(*sys.argv[1:])"
    )
    address = str(tmp_path / "socket")
    server = subprocess.Popen(
        [sys.executable, "-c", bare, address, str(tmp_path / "python")], cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    with server:
        assert server.stdout is not None
        assert server.stdout.readline()
        with Interpreter(tmp_path):
            with Interpreter(tmp_path):
                pass
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(0.5)
        assert server.wait(60) == 0


def test_a_program_is_killed_with_its_group(interpreter: Interpreter) -> None:
    """What other processes are told of is the client, which hands no SIGKILL on."""
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
    client = subprocess.Popen(
        [interpreter.python, "-c", code], stdout=subprocess.PIPE, text=True, process_group=0
    )
    with client:
        assert client.stdout is not None
        process = psutil.Process(int(client.stdout.readline()))
        assert process.pid != client.pid
        os.killpg(client.pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.wait(60)


def test_dask_reads_the_environment(interpreter: Interpreter) -> None:
    code = "import dask; print(dask.config.get('distributed.worker.memory.pause'))"
    done = subprocess.run(
        [interpreter.python, "-c", code], stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "0.5"},
    )  # fmt: skip
    assert done.stdout.strip() == "0.5"
