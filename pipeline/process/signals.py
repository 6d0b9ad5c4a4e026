"""Ends a command in order when somebody ends its process, or lets it finish what it does."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a process, besides an interrupt."""
_GLANCE = 0.1
"""Longest time in seconds until somebody who waits sees that the end was asked for."""


def end_in_order() -> None:
    """Let :data:`ENDS` leave the program as an error would: what it began to write is removed.

    Signals that the caller ignores, as ``nohup`` does, stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ENDS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def see_children_end() -> None:
    """Let the program see how what it starts ends, also where its caller ignores how children do.

    That is inherited: the system then throws exit codes away, and Python takes each for 0.
    """
    number = getattr(signal, "SIGCHLD", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


class Stop:
    """Whether somebody asked the program to end.

    Attributes:
        asked: true from the first interrupt or SIGTERM on.
    """

    def __init__(self) -> None:
        self.asked = False

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until somebody asks."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _GLANCE))


@contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """Let an interrupt and SIGTERM be an answer instead of an end; the second one ends as ever."""
    stop = Stop()
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        restore()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()
