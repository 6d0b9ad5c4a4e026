"""Ends a command in order when somebody ends its process."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a process, besides an interrupt."""


def end_in_order() -> None:
    """Let :data:`ENDS` leave the program as an error would: what it began to write is removed.

    Signals that the caller ignores, as ``nohup`` does, stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ENDS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
