"""Files of DVC that a kill cut short: noticed, and repaired only where no DVC works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from pipeline.process.dvc_files import COPIES, RUNS, RWLOCK, cut_short, heal, keep_locks
from pipeline.process.dvc_watchdog import running_dvc

LOCK = Path("dvc.lock")
ENTRY = """\
  select:
    cmd: python -m stages.select
    deps:
    - path: artefacts/manifest.parquet
      hash: md5
      md5: 7215ee9c7d9dc229d2921a40e899ec5f
      size: 812
    params:
      params.yaml:
        vision.shots:
        - 0
    outs:
    - path: artefacts/selection.parquet
      hash: md5
      md5: 7215ee9c7d9dc229d2921a40e899ec5f
      size: 812
"""
SOUND = f"schema: '2.0'\nstages:\n{ENTRY}{ENTRY.replace('select', 'bank')}"
UNTIL_ASKED = "print(flush=True); input()"
HELD = '{"read": {"/p/a": [{"pid": 1, "cmd": "dvc"}]}, "write": {"/p/b": {"pid": 1, "cmd": "dvc"}}}'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    RWLOCK.parent.mkdir(parents=True)
    return tmp_path


def test_sound_files_stay(project: Path) -> None:
    LOCK.write_text(SOUND)
    for text in (HELD, "{}", '{"write": {}}'):
        RWLOCK.write_text(text)
        assert (cut_short(), heal()) == ([], [])
    assert LOCK.read_text() == SOUND


def test_a_stage_without_dependencies_is_sound() -> None:
    """Such as the demo's images."""
    LOCK.write_text(
        "schema: '2.0'\nstages:\n  images:\n    cmd: x\n    outs:\n    - path: data/demo\n"
    )
    assert cut_short() == []


def test_no_files_are_no_damage() -> None:
    keep_locks()
    assert (cut_short(), heal()) == ([], [])


def test_a_lock_cut_anywhere_comes_back_from_its_copy() -> None:
    LOCK.write_text(SOUND)
    keep_locks()
    for size in range(len(SOUND)):
        LOCK.write_text(SOUND[:size])
        assert cut_short() == [LOCK], size
        keep_locks()  # a cut file does not take the copy's place
        if size % 50 == 0:
            assert "is back from a copy" in heal()[0]
            assert LOCK.read_text() == SOUND


@pytest.mark.parametrize(
    "text",
    ["", "schema: '2.0'\n", "schema: '2.0'\nstages:\n", "stages:\n  select:\n", "- 1\n", "\0\0\n",
     "stages:\n  select:\n    deps:\n    - path: a\n", SOUND.replace("path: artefacts", "pat: a", 1)],
)  # fmt: skip
def test_without_a_copy_a_damaged_lock_goes(text: str) -> None:
    LOCK.write_text(text)
    (line,) = heal()
    assert "dvc.lock was cut short by a killed run and is removed" in line
    assert not LOCK.exists()


def test_marks_of_a_merge_are_named() -> None:
    LOCK.write_text(SOUND)
    keep_locks()
    LOCK.write_text(f"<<<<<<< HEAD\n{SOUND}=======\n{SOUND}>>>>>>> theirs\n")
    assert heal() == ["dvc.lock holds the marks of a merge and is back from a copy"]
    assert LOCK.read_text() == SOUND


def test_a_damaged_copy_is_not_put_back() -> None:
    LOCK.write_text("")
    (COPIES / LOCK).parent.mkdir(parents=True)
    (COPIES / LOCK).write_text(SOUND[:80])
    heal()
    assert not LOCK.exists()


def test_a_folder_of_the_run_cache_without_an_entry_goes(tmp_path: Path) -> None:
    """DVC fails at it for ever: "join() argument must be str, bytes, or os.PathLike object"."""
    empty, other = (tmp_path / RUNS / key[:2] / key for key in ("ab12", "ab34"))
    empty.mkdir(parents=True)
    other.mkdir()
    (other / "entry").write_text("cmd: x\n")
    assert heal(tmp_path) == []
    assert [path.name for path in (tmp_path / RUNS / "ab").iterdir()] == ["ab34"]


def test_the_lock_of_the_demo_is_kept_too() -> None:
    lock = Path("demo/dvc.lock")
    lock.parent.mkdir()
    lock.write_text(SOUND)
    keep_locks()
    lock.write_text("")
    assert heal() == ["demo/dvc.lock was cut short by a killed run and is back from a copy"]
    assert lock.read_text() == SOUND


@pytest.mark.parametrize("text", ["", HELD[:40], "[]", '{"write": {"a": 1}}', '{"other": {}}'])
def test_a_damaged_rwlock_goes(text: str) -> None:
    RWLOCK.write_text(text)
    assert cut_short() == [RWLOCK]
    assert heal() == [f"{RWLOCK} was cut short by a killed run and is removed"]
    assert not RWLOCK.exists()


@pytest.mark.parametrize("number", [None, 1, 2**22 + 1, -1])
def test_notes_of_killed_processes_go_whoever_has_their_number_now(number: int | None) -> None:
    """In containers numbers are small and come again: DVC would call the project busy for ever."""
    number = os.getpid() if number is None else number
    for one in ("dvc repro", "/opt/fade/bin/dvc repro"):
        RWLOCK.write_text(json.dumps({"write": {"/project/out": {"pid": number, "cmd": one}}}))
        assert heal() == []
        assert not RWLOCK.exists()


def wait_for_start(process: subprocess.Popen[bytes]) -> None:
    """Until then the system may tell of no command."""
    assert process.stdout is not None
    process.stdout.readline()


@pytest.mark.parametrize("program", ["dvc", "other"])
def test_notes_of_a_process_that_lives_stay(project: Path, program: str) -> None:
    """Also where DVC is part of another program, or works in a folder that cannot be seen."""
    (project / program).write_text(UNTIL_ASKED)
    with subprocess.Popen(
        [sys.executable, program, "repro"], cwd=project, stdin=PIPE, stdout=PIPE
    ) as process:
        wait_for_start(process)
        note = {"pid": process.pid, "cmd": f"{program} repro"}
        try:
            RWLOCK.write_text(json.dumps({"read": {"/p/a": [note]}, "write": {}}))
            assert heal() == []
            assert RWLOCK.exists()
        finally:
            process.communicate(b"\n")
    assert heal() == []
    assert not RWLOCK.exists()


def test_nothing_is_touched_while_a_dvc_works(project: Path) -> None:
    """It may be about to write what it has emptied."""
    program = project.parent / "dvc"
    program.write_text(UNTIL_ASKED)
    RWLOCK.write_text("")
    with subprocess.Popen(
        [sys.executable, str(program)], cwd=project, stdin=PIPE, stdout=PIPE
    ) as process:
        wait_for_start(process)
        try:
            assert running_dvc() == process.pid
            assert running_dvc(reproduces=True) is None
            assert running_dvc(project.parent / "other") is None
            assert heal() == []
            assert RWLOCK.exists()
        finally:
            process.communicate(b"\n")
    assert running_dvc() is None
    assert heal()
