"""What a stage says: lines that steer no terminal, and a log in which tracebacks stay readable."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fade.errors import CONTROL, plain
from pipeline import runner
from pipeline.params import load_params
from tests.projects import ROOT

EVIL = "\x1b[2J\x1b]0;own\x07evil\nmanifest: error: fake line\x9b\u202e.png"
SHOWN = r"\x1b[2J\x1b]0;own\x07evil\nmanifest: error: fake line\x9b\u202e.png"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The stages' log, which gets new handlers here and loses them afterwards."""
    monkeypatch.chdir(tmp_path)
    log, before = runner.log, (runner.log.handlers[:], runner.log.level, runner.log.propagate)
    log.handlers = []
    yield log
    for handler in log.handlers:
        handler.close()
    log.handlers, log.level, log.propagate = before


def lines(text: str) -> list[str]:
    """Lines, none of which holds a control character."""
    found = text.split("\n")
    assert found.pop() == ""
    assert not [line for line in found if CONTROL.search(line)]
    return found


def test_control_characters_are_written_as_escapes() -> None:
    assert plain(EVIL) == SHOWN
    assert plain("Größe 検査.png") == "Größe 検査.png"


def test_a_name_makes_no_second_line(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runner._open_log("manifest")
    log.warning("1 masks belong to no image: %s", EVIL)
    said = f"1 masks belong to no image: {SHOWN}"
    assert lines(capsys.readouterr().err) == [f"manifest: {said}"]
    assert path is not None
    (line,) = lines(path.read_text(encoding="utf-8"))
    assert line.endswith(f"WARNING {said}")


def test_tracebacks_keep_their_lines(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(params: object) -> None:
        raise RuntimeError(EVIL)

    stage = ModuleType("broken_stage")
    stage.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken_stage", stage)
    monkeypatch.setattr(runner, "load_params", lambda: load_params(ROOT / "params.yaml"))
    with pytest.raises(SystemExit):
        runner.run_stage("broken_stage")
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith(f"broken_stage: unexpected RuntimeError: {SHOWN}; the traceback is in")
    (file,) = Path("logs").iterdir()
    written = lines(file.read_text(encoding="utf-8"))
    assert "Traceback (most recent call last):" in written
    assert "    raise RuntimeError(EVIL)" in written
