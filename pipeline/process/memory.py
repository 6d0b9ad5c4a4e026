"""Memory that a process no longer needs."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library can (glibc).

    It keeps freed arrays for later ones of the same thread. After a plan is made the threads of the
    work come, which cannot use them: without this a stage holds both at its peak.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_bytes() -> int:
    """The most memory that this process has had at once since it began."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
