"""Who started a stage: the stage ends with its DVC, and DVC with the `fade run` that started it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

log = logging.getLogger("fade")

STARTED_BY_DVC = "DVC_STAGE"
"""Environment variable that DVC sets for the commands of its stages."""
STARTED_BY_RUN = "FADE_RUN"
"""Environment variable: the number and start of the `fade run` that started DVC."""
ENDING = signal.SIGUSR1
"""Signal that tells a stage to end as an interrupt does."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 10.0
"""Seconds after which a stage that was asked to end is killed."""
_PROGRAMS = {"dvc", "run_dvc"}
_REPRODUCE = {"repro", "run"}
"""Commands of DVC that run stages; `dvc exp run` is one."""


def find_dvc() -> psutil.Process | None:
    """The DVC that runs this stage; None if it was started in another way."""
    if STARTED_BY_DVC not in os.environ:
        return None
    try:
        above = psutil.Process().parents()[:3]  # a shell or two may stand between
        return next((process for process in above if _is_dvc(process)), None)
    except psutil.Error:
        return None


def running_dvc(folder: Path = Path(), *, reproduces: bool = False) -> int | None:
    """The number of a process that runs a DVC command in a project, other than those above this one.

    Args:
        reproduces: whether only commands count that run stages.
    """
    here = folder.resolve()
    try:
        own = {process.pid for process in psutil.Process().parents()}
    except psutil.Error:
        own = set()
    for process in psutil.process_iter():
        try:
            if process.pid in own or not _is_dvc(process) or not is_alive(process):
                continue
            if reproduces and not _REPRODUCE & set(process.cmdline()[:6]):
                continue
            # a project below this one is another, such as an experiment's of DVC
            place = Path(process.cwd())
            if here == next((p for p in (place, *place.parents) if (p / ".dvc").is_dir()), place):
                return int(process.pid)
        except psutil.Error:  # it has ended, or is another user's
            continue
    return None


def may_be_dvc(number: int, command: str) -> bool:
    """Whether a process of this number may be the DVC that noted its number and command."""
    try:
        process = psutil.Process(number)
        same = " ".join(process.cmdline()).endswith(command)
        return (same or _is_dvc(process)) and is_alive(process)
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False
    except psutil.Error:  # another user's
        return True


def _is_dvc(process: psutil.Process) -> bool:
    # dvc repro, python .../dvc repro, python -m dvc repro, python -P .../run_dvc.py repro
    return any(Path(part).stem in _PROGRAMS for part in process.cmdline()[:4])


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs: a process of its number that started at another time is not it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def named(process: psutil.Process) -> str:
    """A process as text that tells it from a later one of the same number, wherever the clock is set."""
    if not psutil.LINUX:
        return f"{process.pid} {process.create_time():.2f}"
    # Linux counts from the boot, whose time moves with the clock
    since_boot = process.create_time() - psutil.boot_time()
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    return f"{process.pid} {since_boot:.2f}@{boot}"


def find_run() -> tuple[psutil.Process | None, bool]:
    """The `fade run` above, and whether there is to be one: it may be gone already."""
    told = os.environ.get(STARTED_BY_RUN, "")
    try:
        process = psutil.Process(int(told.partition(" ")[0]))
        same = named(process) == told
    except ValueError:
        return None, False
    except psutil.Error:
        return None, True
    return (process if same else None), True


def exit_when_dvc_dies() -> bool:
    """Interrupt this stage when the DVC that started it dies, or the `fade run` that started DVC.

    Another run would else find the stage still writing, and DVC take its results for those of other
    parameters.

    Returns:
        Whether DVC started this stage.

    Raises:
        KeyboardInterrupt: the `fade run` is gone already, or its DVC.
    """
    parent = find_dvc()
    run, expected = find_run()
    # a DVC that `fade run` started is known by its name; others may be a program of any name
    by_run = expected and STARTED_BY_DVC in os.environ
    if by_run and None in (parent, run):
        log.error("%s has ended, and so does this stage", "DVC" if run else "`fade run`")
        raise KeyboardInterrupt
    if parent is None:
        return False
    watched = {"DVC": parent}
    if run is not None:
        watched["`fade run`"] = run

    # an interrupt is ignored where a shell started the run in the background
    signal.signal(ENDING, signal.default_int_handler)

    def end(gone: str) -> None:
        log.error("%s has ended, and so does this stage", gone)
        main = threading.main_thread().ident
        if main is not None:  # to that thread: it may be asleep
            signal.pthread_kill(main, ENDING)
        time.sleep(SECONDS_TO_END)
        os._exit(1)

    def watch() -> None:
        while True:
            for name, process in watched.items():
                if not is_alive(process):
                    end(name)
            time.sleep(SECONDS_BETWEEN_LOOKS)

    threading.Thread(target=watch, name="watch-dvc", daemon=True).start()
    return True
