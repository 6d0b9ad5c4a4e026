"""Standard streams that the caller closed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import ROOT

WORK = """
import os, subprocess, sys
from pipeline.process.streams import open_closed_streams
open_closed_streams()
with open({file!r}, "w") as file:
    os.write(1, b"lost")
    subprocess.run([sys.executable, "-c", "print('below')"], check=True)
    print("said")
    print("said", file=sys.stderr)
    assert sys.stdin.read() == ""
    file.write("kept")
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_what_is_printed(closed: str, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    script = tmp_path / "work.py"
    script.write_text(WORK.format(file=str(file)), encoding="utf-8")
    line = f'"{sys.executable}" "{script}" {closed}'
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(["/bin/sh", "-c", line], env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert file.read_text(encoding="utf-8") == "kept"


def test_open_streams_stay() -> None:
    work = "from pipeline.process.streams import open_closed_streams as o; o(); print('said')"
    done = subprocess.run([sys.executable, "-c", work], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "said\n")
