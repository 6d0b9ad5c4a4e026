"""Ctrl-C at a stage, from its first moments on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import ROOT

INTERRUPTED = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("working", [False, True])
def test_an_interrupt_gives_no_traceback(tmp_path: Path, working: bool) -> None:
    """While modules load, and while the stage works."""
    if working:
        (tmp_path / "interrupted.py").write_text(INTERRUPTED)
        late = (
            "import pipeline.config.load as p\np.load_params = lambda: __import__('interrupted')\n"
        )
        (tmp_path / "sitecustomize.py").write_text(late)
    else:
        (tmp_path / "numpy.py").write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, "-m", "stages.select"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        # what a shell starts in the background ignores interrupts, and so would this
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert ("interrupted" in done.stderr) == working
