"""Files that DVC writes in place, and that a kill at this moment leaves cut short.

DVC empties dvc.lock and .dvc/tmp/rwlock before it writes them. Afterwards every DVC command fails. A
copy of the last sound dvc.lock is kept among DVC's temporary files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pipeline.process.dvc_watchdog import running_dvc

LOCKS = tuple(Path(name) for name in ("dvc.lock", "demo/dvc.lock", "pipeline/demo/dvc.lock"))
"""Lock files of DVC: the pipeline's, and the demo's in a project and in a clone."""
COPIES = Path(".dvc") / "tmp" / "fade-locks"
RWLOCK = Path(".dvc") / "tmp" / "rwlock"
"""File in which DVC notes which of its processes read or write which outputs."""


def keep_locks(folder: Path = Path()) -> None:
    """Keep copies of the lock files that are sound; where none can be kept there is none."""
    for lock in LOCKS:
        with suppress(OSError):
            data = (folder / lock).read_bytes()
            copy = folder / COPIES / lock
            if _is_whole(copy, data) and (not copy.is_file() or copy.read_bytes() != data):
                _replace(copy, data)


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
    damaged = cut_short(folder)
    if not damaged or running_dvc(folder):
        return []
    done = []
    for file in damaged:
        copy = folder / COPIES / file
        # an older copy does no harm: DVC holds it against the files that are there
        if file != RWLOCK and copy.is_file() and _is_lock(data := copy.read_bytes()):
            _replace(folder / file, data)
            done.append(f"{file} was cut short by a killed run and is back from a copy")
            continue
        (folder / file).unlink()
        text = f"{file} was cut short by a killed run and is removed"
        if file != RWLOCK:
            text += ": its stages run again, and find their features in the store"
        done.append(text)
    return done


def _damaged(file: Path, sound: Callable[[bytes], bool]) -> bool:
    try:
        return not sound(file.read_bytes())
    except OSError:
        return False  # there is none, or DVC says why it cannot be read


def _is_whole(copy: Path, data: bytes) -> bool:
    """Whether these are the bytes of a dvc.lock, and not the beginning of its copy."""
    with suppress(OSError):
        if (kept := copy.read_bytes()) != data and kept.startswith(data):
            return False
    return _is_lock(data)


def _is_lock(data: bytes) -> bool:
    """Whether these are the bytes of a dvc.lock that DVC takes."""
    try:
        content = yaml.safe_load(data) if data.endswith(b"\n") else None
    except (ValueError, RecursionError, yaml.YAMLError):
        return False
    stages = content.get("stages") if isinstance(content, dict) else None
    return isinstance(stages, dict) and all(map(_is_entry, stages.values()))


_PARTS: tuple[tuple[str, Any], ...] = (("deps", []), ("outs", []), ("params", {}))
"""Parts of a lock file's entry, each with its value where it is missing."""


def _is_entry(entry: Any) -> bool:
    """Whether this is a stage's entry: a command, dependencies and outputs with paths, parameters."""
    if not isinstance(entry, dict) or not isinstance(entry.get("cmd"), str | list):
        return False
    deps, outs, params = (entry.get(name, empty) for name, empty in _PARTS)
    if not isinstance(deps, list) or not isinstance(outs, list):
        return False
    files = [*deps, *outs]
    return (
        all(isinstance(file, dict) and isinstance(file.get("path"), str) for file in files)
        and isinstance(params, dict)
        and all(isinstance(values, dict) for values in params.values())
    )


def _is_rwlock(data: bytes) -> bool:
    """Whether these are the bytes of an rwlock that DVC takes."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(content, dict) or not content.keys() <= {"read", "write"}:
        return False
    readers, writers = content.get("read", {}), content.get("write", {})
    if not isinstance(readers, dict) or not isinstance(writers, dict):
        return False
    held = [*writers.values()]
    for several in readers.values():
        held += several if isinstance(several, list) else [several]
    return all(
        isinstance(one, dict)
        and isinstance(one.get("pid"), int)
        and isinstance(one.get("cmd"), str)
        for one in held
    )


def _replace(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
