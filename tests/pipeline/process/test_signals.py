"""A command that is ended leaves no half file and no copies in the temporary folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import ROOT

WRITER = """
import os, sys, tempfile
from pathlib import Path
from fade.files import atomic_write
from pipeline.process.signals import end_in_order
end_in_order()
with tempfile.TemporaryDirectory() as folder, atomic_write(Path(sys.argv[1])) as part:
    part.write_bytes(b"half")
    os.kill(os.getpid(), int(sys.argv[2]))
    part.write_bytes(b"whole")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_ended_while_it_writes(tmp_path: Path, number: signal.Signals, ignored: bool) -> None:
    out, scratch = tmp_path / "out" / "a", tmp_path / "scratch"
    scratch.mkdir()
    # also where these tests run under nohup, which ignores one of them
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL
    ended = subprocess.run(
        [sys.executable, "-c", WRITER, str(out), str(int(number))], cwd=ROOT, check=False,
        env={**os.environ, "TMPDIR": str(scratch)},
        preexec_fn=lambda: signal.signal(number, handler),
    )  # fmt: skip
    assert not list(scratch.iterdir())
    assert ended.returncode == (0 if ignored else 128 + number)
    assert [path.name for path in out.parent.iterdir()] == (["a"] if ignored else [])
