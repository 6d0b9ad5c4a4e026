"""Files that DVC writes in place, and that a kill at this moment leaves cut short.

DVC empties dvc.lock and .dvc/tmp/rwlock before it writes them. Afterwards every DVC command fails. A
copy of the last valid dvc.lock is kept among DVC's temporary files. A folder of the run cache without an
entry, which DVC leaves when it removes a damaged one, makes the same stage fail for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, StrictInt, StrictStr

from fade.files import write_file
from pipeline.process.dvc_watchdog import may_be_dvc, running_dvc
from pipeline.process.plain_yaml import NotPlain, load

LOCKS = (Path("dvc.lock"), Path("demo/dvc.lock"))
"""Lock files of DVC: the pipeline's, and that of the demo's images."""
COPIES = Path(".dvc") / "tmp" / "fade-locks"
RWLOCK = Path(".dvc") / "tmp" / "rwlock"
"""File in which DVC notes which of its processes read or write which outputs."""

RUNS = Path(".dvc") / "cache" / "runs"
"""DVC's run cache: what stages made of which inputs."""


def keep_locks(folder: Path = Path()) -> None:
    """Keep copies of the lock files that are valid; where none can be kept there is none."""
    for lock in LOCKS:
        with suppress(OSError):
            data = (folder / lock).read_bytes()
            copy = folder / COPIES / lock
            if _is_whole(copy, data) and (not copy.is_file() or copy.read_bytes() != data):
                write_file(copy, data)


def cut_short(folder: Path = Path()) -> list[Path]:
    """DVC's files in a project that are damaged."""
    found = [
        lock
        for lock in LOCKS
        if _damaged(folder / lock, partial(_is_whole, folder / COPIES / lock))
    ]
    return [*found, RWLOCK] if _damaged(folder / RWLOCK, _is_rwlock) else found


def heal(folder: Path = Path()) -> list[str]:
    """Repair what killed processes of DVC left cut short; a sentence for each file.

    Nothing is touched while a DVC works in this folder.
    """
    _forget_dead(folder / RWLOCK)
    damaged = cut_short(folder)
    entries = (folder / RUNS).glob("*/*")
    empty = [runs for runs in entries if runs.is_dir() and not any(runs.iterdir())]
    if not (damaged or empty) or running_dvc(folder):
        return []
    for runs in empty:
        runs.rmdir()
    done = []
    for file in damaged:
        copy = folder / COPIES / file
        conflict = b"<<<<<<< " in (folder / file).read_bytes()
        why = "holds the marks of a merge" if conflict else "was cut short by a killed run"
        # an older copy does no harm: DVC holds it against the files that are there
        if file != RWLOCK and copy.is_file() and _is_lock(data := copy.read_bytes()):
            write_file(folder / file, data)
            done.append(f"{file} {why} and is back from a copy")
            continue
        (folder / file).unlink()
        text = f"{file} {why} and is removed"
        if file != RWLOCK:
            text += ": its stages run again, and find their features in the store"
        done.append(text)
    return done


def _forget_dead(rwlock: Path) -> None:
    """Remove an rwlock of killed processes alone: DVC takes whoever has such a number for one of them.

    In a container all numbers are small, so that another process soon has it, or is to have it.
    """
    try:
        noted = _Rwlock.model_validate_json(rwlock.read_bytes())
    except (OSError, ValueError):
        return
    lists = [one if isinstance(one, list) else [one] for one in noted.read.values()]
    processes = [*noted.write.values(), *(process for some in lists for process in some)]
    if processes and not any(may_be_dvc(one.pid, one.cmd) for one in processes):
        with suppress(OSError):
            rwlock.unlink()


def _damaged(file: Path, valid: Callable[[bytes], bool]) -> bool:
    try:
        return not valid(file.read_bytes())
    except OSError:
        return False  # there is none, or DVC says why it cannot be read


def _is_whole(copy: Path, data: bytes) -> bool:
    """Whether these are the bytes of a dvc.lock, and not the beginning of its copy."""
    return not _begins(copy, data) and _is_lock(data)


def is_beginning(folder: Path) -> bool:
    """Whether dvc.lock is the mere beginning of its copy, which may be valid YAML all the same."""
    with suppress(OSError):
        return _begins(folder / COPIES / LOCKS[0], (folder / LOCKS[0]).read_bytes())
    return False


def _begins(copy: Path, data: bytes) -> bool:
    with suppress(OSError):
        return (kept := copy.read_bytes()) != data and kept.startswith(data)
    return False


class _File(BaseModel):
    path: StrictStr


class _Entry(BaseModel):
    cmd: StrictStr | list[Any]
    deps: list[_File] = []
    outs: list[_File] = []
    params: dict[Any, dict[Any, Any]] = {}


class _Lock(BaseModel):
    """A dvc.lock that DVC takes."""

    stages: dict[Any, _Entry]


class _Process(BaseModel):
    pid: StrictInt
    cmd: StrictStr


class _Rwlock(BaseModel, extra="forbid"):
    """An rwlock that DVC takes."""

    read: dict[str, list[_Process] | _Process] = {}
    write: dict[str, _Process] = {}


def _is_lock(data: bytes) -> bool:
    """Whether these are the bytes of a dvc.lock that DVC takes."""
    try:
        _Lock.model_validate(_values(data.decode()) if data.endswith(b"\n") else None)
    except (ValueError, RecursionError, yaml.YAMLError):
        return False
    return True


def _values(text: str) -> Any:
    try:
        return load(text)
    except NotPlain:
        return yaml.safe_load(text)


def _is_rwlock(data: bytes) -> bool:
    """Whether these are the bytes of an rwlock that DVC takes."""
    try:
        _Rwlock.model_validate_json(data)
    except ValueError:
        return False
    return True
