"""What a person waits for: the command line's help, and stages that need no model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.machine import Machine, seconds
from benchmarks.table import Row

ROOT = Path(__file__).parent.parent
IMPORTED = """
import sys, importlib
importlib.import_module("stages.{stage}")
import pandas, fade.sampling
assert not {{"torch", "open_clip"}} & set(sys.modules)
"""


def _run(*command: str) -> None:
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    shown = seconds(lambda: _run("-m", "pipeline.cli.main", "--help"), 3)
    started = seconds(lambda: _run("-c", IMPORTED.format(stage="select")), 3)
    with_torch = seconds(lambda: _run("-c", "import torch, pandas"), 1)
    return [
        Row("fade --help", shown, None, "0.5 s", shown < 0.5),
        Row("start of a stage without torch", started, with_torch, "less than with it",
            started < with_torch),
    ]  # fmt: skip
