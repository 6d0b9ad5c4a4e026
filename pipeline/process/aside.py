"""Work in a fork of this process: what it loads is given back when it is done."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import NoReturn

from fade import errors

DONE = "done"
"""In place of the name of a refusal."""
STOPS = {signal.SIGINT, signal.SIGTERM}


def fork() -> int:
    """As :func:`os.fork`: 0 in the child, its number in this process."""
    # Python 3.12 warns of the threads that libraries keep for their work; in a child they begin anew
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def run_aside(work: Callable[[], object]) -> None:
    """Do work for what it refuses; a network that it builds to look at takes no memory afterwards.

    It is done here where a fork would gain nothing or leave threads behind, and done again here where
    the child did not come to its end, so that the error is seen here.

    Raises:
        FadeError: as the work does.
    """
    if sys.platform != "linux" or threading.active_count() > 1 or "torch" in sys.modules:
        work()
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    ours, theirs = os.pipe()
    # one that came between the fork and what ends the child would leave it behind
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    child = fork()
    if not child:
        os.close(ours)
        _answer(work, theirs, blocked)
    try:
        os.close(theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        with open(ours, "rb") as pipe:
            answer = pipe.read()
    finally:
        os.kill(child, signal.SIGKILL)  # which an interrupt or SIGTERM of this process alone spared
        os.waitpid(child, 0)
    kind, message = json.loads(answer) if answer else ("", "")
    if refusal := getattr(errors, kind, None):
        raise refusal(message)
    if kind != DONE:
        work()


def _answer(work: Callable[[], object], pipe: int, blocked: Iterable[int]) -> NoReturn:
    """Do the work and write which refusal it raised, if any; nothing of other errors."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        said = DONE, ""
        try:
            work()
        except errors.FadeError as refusal:
            said = type(refusal).__name__, str(refusal)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with open(pipe, "w", encoding="utf-8") as file:
            json.dump(said, file)
    finally:
        os._exit(0)
