"""How programs end whose work is done."""

import subprocess
import sys

import pytest

from tests.projects import ROOT

WORK = """
import pipeline.process.ending as ending, atexit, threading, time
atexit.register(print, "registered")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
print("work")
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("ending.end_at_once(10); raise SystemExit(1)", 10), ("raise SystemExit(3)", 3)],
)
def test_threads_and_what_is_registered_come_first(end: str, code: int) -> None:
    line = [sys.executable, "-c", WORK + end]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.splitlines() == ["work", "thread", "registered"]


def test_what_was_registered_before_is_done_too() -> None:
    """As coverage and debuggers do when Python starts."""
    before = "import atexit; atexit.register(print, 'before')"
    work = f"{before}{WORK}ending.end_at_once(0)"
    done = subprocess.run([sys.executable, "-c", work], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["work", "thread", "registered", "before"]
