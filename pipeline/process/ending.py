"""Ends a program whose work is done without taking it apart, which takes a tenth of a start.

Python would free each object by itself; the system takes all of them back at once. Import this module
before others: what they registered for the end of the process is done before. Where something was
registered even earlier, as coverage does when Python starts, the process ends as Python ends it.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

_codes: list[int] = []
_FIRST = not atexit._ncallbacks()


def end_at_once(code: int) -> None:
    """Let the process end with this code as soon as its threads and what is registered are done."""
    _codes.append(code)


def _end() -> None:
    if not (_codes and _FIRST):
        gc.freeze()  # a search for garbage at the end takes longer than the rest of it
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return  # Python says so
    os._exit(_codes[-1])


atexit.register(_end)
