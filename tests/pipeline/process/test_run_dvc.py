"""DVC as `fade run` starts it: it ends with that run, stages included, and its remarks go to the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fade.errors import StoreError
from pipeline.process import run_dvc
from pipeline.process.dvc_watchdog import (
    STARTED_BY_DVC,
    STARTED_BY_RUN,
    exit_when_dvc_dies,
    find_run,
    is_alive,
    named,
    running_dvc,
)
from pipeline.project.dvc import _exit_code, repro
from tests.clock import set_clock
from tests.projects import ROOT

RUN = """
import os, subprocess, sys, time, psutil
from pipeline.process.dvc_watchdog import STARTED_BY_RUN, named
os.environ[STARTED_BY_RUN] = named(psutil.Process())
command = [sys.executable, "-P", {program!r}, "repro"]
sys.exit(subprocess.call(command, stdout=open("log", "w"), stderr=open("err", "w")))
"""
STAGE = """
import time
from pipeline.process.dvc_watchdog import exit_when_dvc_dies
exit_when_dvc_dies()
open("ready", "w").write("")
try:
    time.sleep(60)
except KeyboardInterrupt:
    open("ended", "w").write("")
    raise SystemExit(130)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    )
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "run.py").write_text(RUN.format(program=run_dvc.__file__))
    return tmp_path


def start(folder: Path, command: str) -> subprocess.Popen[bytes]:
    (folder / "dvc.yaml").write_text(f"stages:\n  one:\n    cmd: {command}\n    outs: [out]\n")
    return subprocess.Popen(
        [sys.executable, "run.py"], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def refuse_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins while one goes on, or began at the same moment, is one line."""
    monkeypatch.chdir(folder)
    with pytest.raises(
        StoreError, match=r"^a run is going on in this folder \(process \d+\): wait"
    ):
        repro()
    said = folder / "said"
    command = [sys.executable, "-P", run_dvc.__file__, "repro"]
    subprocess.call(command, env={**os.environ, run_dvc.ERROR_FILE: str(said)}, stdout=-3)
    with pytest.raises(StoreError, match=r"^a run is going on in this folder: wait"):
        _exit_code(folder / "none", said)
    # not in a project above, nor for what runs no stage
    assert running_dvc(folder.parent) is None
    assert running_dvc(reproduces=True)


def test_all_ends_with_a_run_that_is_killed_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(folder, f"{sys.executable} stage.py")
    below: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 60
        while not (folder / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        below = psutil.Process(run.pid).children(recursive=True)
        refuse_another(folder, monkeypatch)
        run.kill()
        run.wait()
        psutil.wait_procs(below, timeout=20)
        assert not any(map(is_alive, below))
        assert (folder / "ended").exists()
    finally:
        for process in below:
            if is_alive(process):
                process.kill()


def test_remarks_go_to_the_log(folder: Path) -> None:
    assert start(folder, "echo told > out").wait() == 0
    assert "Running stage 'one':" in (folder / "log").read_text()
    assert (folder / "err").read_text() == ""
    assert start(folder, "exit 7").wait() == 255
    log = (folder / "log").read_text()
    assert "ERROR: failed to reproduce 'one'" in log
    assert "\x1b" not in log
    assert (folder / "err").read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_log_whose_disk_is_full_ends_no_run(folder: Path) -> None:
    (folder / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: echo told > out\n    outs: [out]\n"
        "  two:\n    cmd: exit 7\n    deps: [out]\n"
    )
    command = [sys.executable, "-P", run_dvc.__file__, "repro"]
    with open("/dev/full", "w") as log, (folder / "err").open("w") as err:
        environment = {**os.environ, run_dvc.ERROR_FILE: log.name}
        code = subprocess.call(command, cwd=folder, env=environment, stdout=log, stderr=err)
    assert (code, (folder / "err").read_text()) == (255, "")
    assert (folder / "out").read_text() == "told\n"


def test_a_run_is_known_by_number_and_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STARTED_BY_RUN, raising=False)
    assert find_run() == (None, False)
    own = psutil.Process()
    monkeypatch.setenv(STARTED_BY_RUN, named(own))
    assert find_run() == (own, True)
    monkeypatch.setenv(STARTED_BY_RUN, f"{own.pid} 12.50")  # its number belongs to another by now
    assert find_run() == (None, True)
    assert not exit_when_dvc_dies()  # no DVC started this process
    monkeypatch.setenv(STARTED_BY_DVC, "one")
    for left in (named(own), f"{own.pid} 12.50"):  # DVC is gone, or all of them
        monkeypatch.setenv(STARTED_BY_RUN, left)
        with pytest.raises(KeyboardInterrupt):
            exit_when_dvc_dies()


@pytest.mark.parametrize("seconds", [-3600, 60])
def test_a_run_is_known_when_the_clock_is_set(
    seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = psutil.Process()
    monkeypatch.setenv(STARTED_BY_RUN, named(own))
    set_clock(monkeypatch, seconds)
    assert find_run() == (own, True)


def test_dvc_parses_a_text_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who changes what was parsed changes nobody else's; comments are kept where DVC asks for them."""
    from dvc.utils import serialize, strictyaml
    from dvc.utils.serialize import _yaml

    calls = []
    parse = _yaml.parse_yaml

    def counted(text: str, path: str, typ: str = "safe") -> object:
        calls.append(typ)
        return parse(text, path, typ)

    for module in (_yaml, serialize, strictyaml):
        monkeypatch.setattr(module, "parse_yaml", counted)
    run_dvc.parse_once()
    text = "a: {b: [1, no], c: 0o17} # c\n"
    first = _yaml.parse_yaml(text, "params.yaml")
    first["a"]["b"].append(3)
    assert _yaml.parse_yaml(text, "params.yaml") == {"a": {"b": [1, "no"], "c": 15}}
    (tmp_path / "dvc.yaml").write_text(text)
    assert serialize.load_yaml(str(tmp_path / "dvc.yaml"))["a"]["b"] == [1, "no"]
    assert strictyaml.load(str(tmp_path / "dvc.yaml"))[0] == {"a": {"b": [1, "no"], "c": 15}}
    assert calls == ["safe"] * 2  # once for each path
    _yaml.parse_yaml_for_update(text, "dvc.lock")
    assert calls == ["safe", "safe", "rt"]


@pytest.mark.parametrize("names", ["a", "a.b", "a.b.c", "d.1", "d.*", "none", "a.none", "e.f"])
def test_dvc_finds_the_same_parameters(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    from dvc.dependency import param

    content = {"a": {"b": {"c": None}}, "d": [1, 2], "e.f": 3}
    monkeypatch.setattr(param, "dpath", param.dpath)  # put back after the test

    def find() -> object:
        try:
            return param.dpath.get(content, names, separator=".")
        except (KeyError, ValueError) as error:
            return type(error), str(error)

    expected = find()
    run_dvc.find_parameters_directly()
    assert find() == expected


def test_dvc_brings_results_back_with_their_parameters(folder: Path) -> None:
    one = {"cmd": "cat params.yaml > out", "outs": ["out"], "params": ["a"], "deps": ["dep"]}
    (folder / "dep").write_text("x")
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"one": one}}))
    said = []
    for program in (["-P", run_dvc.__file__], ["-m", "dvc"], ["-P", run_dvc.__file__]):
        for value in (1, 2):
            (folder / "params.yaml").write_text(f"a: {value}\n")
            command = [sys.executable, *program, "repro"]
            said.append(subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout)
            assert (folder / "out").read_text() == f"a: {value}\n"
    assert ["Running" in text for text in said] == [True, True, *[False] * 4]
    notes = list((folder / ".dvc" / "cache" / "runs").glob("*/*/*"))
    assert len(notes) == 2


def test_dvc_writes_the_same_lock(folder: Path) -> None:
    """What DVC itself would write, and read again, byte for byte; comments that people add stay."""
    (folder / "params.yaml").write_text("a: 1e-5\nb: 'yes'\nc: '1e5'\nd: {e: null, f: [no]}\n")
    two = {"cmd": "echo > two", "outs": ["two"], "params": ["c", "d"]}
    one = {"cmd": "echo > one", "outs": ["one"], "params": ["a", "b"]}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"one": one, "two": two}}))
    lock = folder / "dvc.lock"
    found = []
    for command in (["-m", "dvc"], ["-P", run_dvc.__file__]):
        subprocess.run(
            [sys.executable, *command, "repro", "--force"], cwd=folder, check=True, stdout=-3
        )
        found.append(lock.read_text())
        if len(found) == 1:
            lock.unlink()
    assert found[0] == found[1]
    assert "c: '1e5'" in found[0]
    lock.write_text(f"# mine\n{found[0]}")
    subprocess.run([sys.executable, "-P", run_dvc.__file__, "repro", "-f"], cwd=folder, stdout=-3)
    assert lock.read_text().startswith("# mine\n")
