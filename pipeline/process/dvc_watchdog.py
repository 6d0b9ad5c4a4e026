"""The DVC that started a stage: should it die, the stage ends, too."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

import psutil

log = logging.getLogger("fade")

STARTED_BY_DVC = "DVC_STAGE"
"""Environment variable that DVC sets for the commands of its stages."""
ENDING = signal.SIGUSR1
"""Tells a stage to end as an interrupt does."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 10.0
"""After so long a stage that was asked to end is made to."""


def find_dvc() -> psutil.Process | None:
    """The DVC that runs this stage; None if it was started in another way."""
    if STARTED_BY_DVC not in os.environ:
        return None
    try:
        above = psutil.Process().parents()[:3]  # a shell or two may stand between
        return next((process for process in above if _is_dvc(process)), None)
    except psutil.Error:
        return None


def _is_dvc(process: psutil.Process) -> bool:
    # dvc repro, python .../dvc repro, python -m dvc repro
    return "dvc" in (Path(part).stem for part in process.cmdline()[:4])


def lives(process: psutil.Process) -> bool:
    """Whether it runs: a process of its number that started at another time is not it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_with_dvc() -> None:
    """Interrupt this stage when the DVC that started it dies.

    Another run would else find the stage still writing, and DVC take its results for those of other
    parameters.
    """
    parent = find_dvc()
    if parent is None:
        return

    # an interrupt is ignored where a shell started the run in the background
    signal.signal(ENDING, signal.default_int_handler)

    def watch() -> None:
        while lives(parent):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        log.error("DVC has ended, and so does this stage")
        main = threading.main_thread().ident
        if main is not None:  # to that thread: it may be asleep
            signal.pthread_kill(main, ENDING)
        time.sleep(SECONDS_TO_END)
        os._exit(1)

    threading.Thread(target=watch, name="watch-dvc", daemon=True).start()
