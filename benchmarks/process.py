"""Code in a fresh interpreter: what it printed, how long it took and its largest memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Run:
    """What one process took: seconds, and its largest resident memory in bytes."""

    seconds: float
    peak: int


def compile_once() -> None:
    """Let processes of both sides keep the modules that they compile, as an installation does."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def process(folder: Path, code: str) -> tuple[str, Run]:
    """Run code in a fresh interpreter in the folder (Linux); what it printed, and what it took.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    # not by getrusage, which counts what the parent held when it forked
    script = f"{code}\nprint(open('/proc/self/status').read())"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = re.search(r"^VmHWM:\s+(\d+) kB$", done.stdout, re.MULTILINE)
    return done.stdout, Run(time.perf_counter() - start, 1024 * int(found[1]) if found else 0)
