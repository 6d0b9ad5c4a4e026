"""Standard streams that the caller closed, as ``>&-`` in a shell does."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Open a standard stream that is closed on nothing.

    Without this the next file that is opened gets the stream's number, and what a library or a process
    below this one prints lands in that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  (open until the end)
            if stream.fileno() <= 2:
                os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
