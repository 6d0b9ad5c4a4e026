"""A Python whose libraries are loaded already does what Python does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interpreter import Interpreter

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
