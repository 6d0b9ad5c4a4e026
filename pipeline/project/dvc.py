"""Runs the pipeline through DVC, and finds out why it failed where DVC would not say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

import psutil

from fade.errors import ParameterError, StoreError, plain
from pipeline.artefacts.named_files import in_words, replaced
from pipeline.artefacts.parameters import listed, misnoted, outdated, stages_before, withdraw
from pipeline.config.schema import Params
from pipeline.config.values import PARAMS_FILE
from pipeline.config.yaml12 import load_yaml
from pipeline.dataset.stamps import check_fresh
from pipeline.process import run_dvc
from pipeline.process.aside import run_aside
from pipeline.process.dvc_files import heal, keep_locks
from pipeline.process.dvc_watchdog import STARTED_BY_RUN, named, running_dvc
from pipeline.process.run_lock import BUSY, only_run
from pipeline.process.signals import ENDS
from pipeline.project.code import refresh_code
from pipeline.project.overrides import applied, overridden, restore
from pipeline.project.preflight import check
from pipeline.project.watched import check_made, check_watched
from pipeline.project.writable import check_writable
from pipeline.stage import EXIT_CODE_FILE

_DVC_IS_BUSY = ("it is being blocked by", "Unable to acquire lock")
"""What DVC says where another one works in the project; its advice to remove files does harm."""
UNKNOWN = 1
"""Exit code where no stage left one: DVC itself failed, or a stage was killed."""


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        code: 0, or the exit code of the stage that failed.
        ran: the stages that ran, in order.
        log: the file with what DVC said, if one could be written.
    """

    code: int
    ran: tuple[str, ...]
    log: Path | None


def repro(
    stages: Sequence[str] = (), *, force: bool = False, overrides: Mapping[str, Any] | None = None
) -> Ended:
    """Run ``dvc repro`` in the working directory, which is the project's.

    What killed runs left is repaired first, and what a stage would refuse is refused before DVC removes
    its outputs. DVC ends with 255 whatever a stage ended with, so a failing stage leaves its exit code
    in a file that its environment names. DVC's own remarks go to a log.

    Args:
        stages: to bring up to date with what they need; all if none.
        force: run them even if nothing changed.
        overrides: parameters for this run alone, by dotted name; params.yaml is put back afterwards.

    Raises:
        ParameterError: no project here, refused parameters, an unknown stage, or params.yaml or weights
            were saved just when a stage ended.
        DataError: DVC could not hash the data set, or it lacks a category.
        ModelError: the model or its weights cannot be found.
        StoreError: another run goes on in this project, it cannot be written to, or DVC could not hash
            what was made.
    """
    known = check_stages(stages)
    check_writable()
    # whose records of parameters would be taken for those of a killed one
    if number := running_dvc(reproduces=True):
        raise StoreError(BUSY.format(f" (process {number})"))
    with only_run():
        return _repro(known, stages, force, overrides or {})


def _repro(
    known: Sequence[str], stages: Sequence[str], force: bool, overrides: Mapping[str, Any]
) -> Ended:
    """What ``repro`` does once no other run goes on; ``known`` are the project's stages."""
    for line in (restore(), *heal()):
        if line:
            print(line, file=sys.stderr)
    _, params = applied(overrides)
    if "manifest" in known:
        check_watched(params.dataset)
    check_made()
    needed = {one for stage in stages for one in (stage, *stages_before(stage))} or set(known)
    run_aside(lambda: check(params, needed))
    ahead = refresh_code() or force or bool(overrides) or bool(outdated(needed))
    _withdraw_misnoted()
    if found := _withdraw_replaced(needed, params):
        print(
            f"{in_words(found)} was replaced since the last run: what read it runs again",
            file=sys.stderr,
        )
    with (
        overridden(overrides) as read_by,
        tempfile.TemporaryDirectory(prefix="fade-") as folder,
        _opened_log() as log,
    ):
        left, said = Path(folder) / "exit-code", Path(folder) / "error"
        options = [*(["--force"] if force else []), *stages]
        with _ended_with_us() as (start, asked):
            process = start(
                [sys.executable, "-P", run_dvc.__file__, "repro", *options],
                env=_environment(left, said, ahead),
                stdout=log or subprocess.DEVNULL,
            )
            read_by(process.pid)
            code = _wait(process, asked) and _exit_code(left, said, asked)
    keep_locks()
    if (wrong := _withdraw_misnoted()) and not code:
        raise ParameterError(
            f"{PARAMS_FILE} changed just when a stage ended ({wrong}): run again; that stage then runs "
            "with the new values"
        )
    path = Path(log.name) if log else None
    ended = Ended(code, _ran(path), path)
    if code:
        return ended
    if found := _withdraw_replaced(needed, params):
        files = in_words(found)
        if found.keys() & set(ended.ran):
            raise ParameterError(f"{files} was replaced while the run went on: run again")
        print(
            f"DVC brought back results of before {files} was replaced: they are made again",
            file=sys.stderr,
        )
        again = _repro(known, stages, False, overrides)
        return Ended(again.code, (*ended.ran, *again.ran), again.log)
    check_fresh(params.dataset)
    return ended


def _withdraw_misnoted() -> str:
    """Make stages run again for which DVC noted other parameters than they used; which ones."""
    wrong = misnoted()
    if wrong:
        withdraw(wrong)
    return listed(wrong)


def _withdraw_replaced(stages: Collection[str], params: Params) -> dict[str, list[str]]:
    """Make stages run again whose files were replaced; these, and which files."""
    found = replaced(stages, params)
    if found:
        withdraw(found)
    return found


@contextmanager
def _opened_log() -> Iterator[IO[str] | None]:
    """A log file for DVC; none where none can be written."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path("logs") / f"{stamp}-run-{os.getpid()}.log"
    try:
        path.parent.mkdir(exist_ok=True)
        log = path.open("w", encoding="utf-8")
    except OSError:
        yield None
        return
    with log:
        yield log


def _ran(log: Path | None) -> tuple[str, ...]:
    try:
        text = log.read_text(encoding="utf-8", errors="replace") if log else ""
    except OSError:
        text = ""
    return tuple(re.findall(r"^Running stage '(.+)':$", text, re.MULTILINE))


def _exit_code(left: Path, said: Path, asked: Sequence[int] = ()) -> int:
    """The code that a stage left; where none did, DVC's own words are shown.

    Args:
        asked: numbers of the signals that asked for the end.
    """
    try:
        return int(left.read_text(encoding="ascii"))
    except (OSError, ValueError):
        text = ""
        with suppress(OSError):
            text = said.read_text(encoding="utf-8")
    if asked:  # before a stage could say so
        print("interrupted; what was finished is kept, run again to go on", file=sys.stderr)
        return 128 + asked[0]
    if any(words in text for words in _DVC_IS_BUSY):  # two that began at the same moment
        raise StoreError(BUSY.format(""))
    for line in text.splitlines():
        print(plain(line), file=sys.stderr)
    return UNKNOWN


def _environment(left: Path, said: Path, ahead: bool) -> dict[str, str]:
    # stages are started as `python -m`: this python's folder must come first
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return {
        **os.environ,
        "PATH": os.pathsep.join(folders),
        EXIT_CODE_FILE: str(left),
        run_dvc.ERROR_FILE: str(said),
        STARTED_BY_RUN: named(psutil.Process()),
        **({run_dvc.STAGES_AHEAD: "1"} if ahead else {}),
    }


@contextmanager
def _ended_with_us() -> Iterator[tuple[Callable[..., subprocess.Popen[bytes]], list[int]]]:
    """Start a process (as subprocess.Popen does) that whoever ends this one ends, too.

    DVC would else go on without it. With it comes a list of the signals that asked for the end.
    """
    process: subprocess.Popen[bytes] | None = None
    asked: list[int] = []

    def end(number: int, frame: object) -> None:
        asked.append(number)
        if process:
            process.send_signal(number)

    def start(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        nonlocal process
        process = subprocess.Popen(*args, **kwargs)
        for number in asked:
            process.send_signal(number)
        return process

    before = {
        number: signal.signal(number, end)
        for number in ENDS
        if threading.current_thread() is threading.main_thread()
    }
    try:
        yield start, asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(process: subprocess.Popen[bytes], asked: list[int]) -> int:
    """DVC's exit code; interrupts are added to the signals that asked for the end."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # the terminal told DVC too, and it ends when its stage has put its work away
            asked.append(signal.SIGINT)


def check_stages(stages: Sequence[str], file: Path = Path("dvc.yaml")) -> list[str]:
    """Refuse stages that the project does not have (ParameterError); those that it has."""
    try:
        known = list(load_yaml(file.read_text(encoding="utf-8"))["stages"])
    except FileNotFoundError:
        raise ParameterError(
            f"no {file} here ({Path.cwd()}): run in a project folder, or make one with `fade new DIR` "
            "(`fade new . --force` keeps a params.yaml that is here)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        detail = " ".join(str(error).split())
        raise ParameterError(f"{file} lists no stages ({detail}): restore it") from None
    for stage in stages:
        if stage not in known:
            close = get_close_matches(stage, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise ParameterError(f"there is no stage {stage!r} ({hint})")
    return known
