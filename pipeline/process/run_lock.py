"""One `fade run` at a time in a project, also where runs do not see each other's processes.

Containers and machines that share a folder see that a file is locked. Each other's processes they do
not see, and the same number stands for another process in each.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fade.errors import StoreError, plain

BUSY = "a run is going on in this folder{}: wait for its end, or end it"
LOCK = Path(".dvc") / "tmp" / "fade-run"
"""File that a run holds; it says which process of which machine or container does."""


@contextmanager
def only_run(folder: Path = Path()) -> Iterator[None]:
    """Keep other runs of a project away; the system lets go of what a killed one held.

    Raises:
        StoreError: another one goes on.
    """
    number = _opened(folder / LOCK)
    try:
        if number is not None:
            _hold(number)
        yield
    finally:
        if number is not None:
            os.close(number)


def _opened(file: Path) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        file.parent.mkdir(exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:  # no project of DVC, or DVC says why it cannot write there
        return None


def _hold(number: int) -> None:
    import fcntl

    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = plain(os.pread(number, 200, 0).decode(errors="replace").strip())
        raise StoreError(BUSY.format(f" ({holder})" if holder else "")) from None
    except OSError:  # a file system without locks
        return
    with suppress(OSError):  # a full disk: the lock is held all the same
        os.ftruncate(number, 0)
        os.pwrite(number, f"process {os.getpid()} of {socket.gethostname()}".encode(), 0)
