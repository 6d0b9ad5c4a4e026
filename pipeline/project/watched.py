"""What DVC hashes before the first stage starts: what of it it would choke on, or wait for."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from fade.datasets.listing import fault_of
from fade.datasets.names import is_text
from fade.errors import DataError, StoreError, summarise
from pipeline.artefacts.parameters import DVC_FILE, outs_of, stages_of
from pipeline.config.schema import DatasetParams

NEVER_HASHED = {".git", ".hg", ".dvc"}
"""Names that DVC passes over wherever they lie."""
MAX_FAULTS = 100
"""Largest number of faults of a data set that are looked for."""


def check_watched(dataset: DatasetParams) -> None:
    """Refuse what DVC would choke on, or wait for, when it hashes ``dataset.watch``.

    DVC does that before the manifest stage starts, which would say more. The folder is listed, but no
    file is looked at.

    Raises:
        DataError: it does not exist, or holds what is neither file nor folder, or an unreadable name.
    """
    watch = dataset.watch
    if "://" in watch:
        return
    try:
        mode = os.stat(watch).st_mode
    except OSError as error:
        if error.errno == errno.ENOENT and made_by_a_stage(watch):
            return
        if error.errno == errno.ENOENT and watch != dataset.path:
            raise DataError(
                f"{watch} does not exist: correct dataset.watch, or let `fade scan` write a listing "
                "there"
            ) from None
        what = (
            "does not exist" if error.errno == errno.ENOENT else f"cannot be read: {error.strerror}"
        )
        raise DataError(
            f"{watch} {what}; correct the data set's path (dataset.path and dataset.watch)"
        ) from None
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise DataError(f"{watch} is no plain file; correct dataset.watch")
        return
    if faults := _faults_below(watch):
        raise DataError(summarise(faults))


def check_made() -> None:
    """Refuse what DVC would choke on, or wait for, when it hashes what the project's stages made.

    Raises:
        StoreError: it is, or holds, what is neither file nor folder, or an unreadable name.
    """
    faults: list[str] = []
    with suppress(TypeError, AttributeError):  # of another form: DVC refuses it
        for out in _outs(DVC_FILE):
            if out.is_dir():
                faults += _faults_below(str(out))
            elif os.path.lexists(out) and (fault := fault_of(out)):
                faults.append(f"{out} {fault}")
    if faults:
        raise StoreError(summarise(sorted(faults)))


def _faults_below(top: str) -> list[str]:
    """Lines that say why DVC cannot hash what lies below a folder."""
    faults = dict(islice(_faults(top), MAX_FAULTS))
    for path in _ignored_by_dvc(top, list(faults)):
        faults.pop(path, None)
    return sorted(faults.values())


def _faults(top: str) -> Iterator[tuple[str, str]]:
    """Paths below a folder that DVC cannot hash, each with a line that says why.

    As DVC does, links to folders are not followed, and folders that cannot be listed are passed over.
    """
    folders = [top]
    while folders:
        folder = folders.pop()
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                path = entry.path
                if entry.name in NEVER_HASHED:
                    continue
                if entry.name == ".dvcignore":
                    yield path, f"{path} lies among the data, where DVC allows none; remove it"
                elif not is_text(entry.name):
                    yield path, f"{folder}: file name {entry.name!r} is not UTF-8; rename it"
                elif fault := fault_of(entry):
                    yield path, f"{path} {fault}"
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path)


def _ignored_by_dvc(watch: str, paths: Sequence[str]) -> list[str]:
    """Those of some paths that the project's .dvcignore hides from DVC."""
    inside = Path.cwd() in Path(watch).resolve().parents
    asked = [path for path in paths if is_text(path)]
    if not asked or not inside:
        return []
    command = [sys.executable, "-m", "dvc", "check-ignore", *asked]
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()


def made_by_a_stage(path: str) -> bool:
    """Tell whether DVC makes a path of this project, by a stage or from its cache."""
    place = Path(os.path.normpath(path))
    made = [Path(f"{folder}.dvc") for folder in (place, *place.parents)]
    if any(file.is_file() for file in made):
        return True
    for file in (DVC_FILE, *Path().glob("*/dvc.yaml")):
        with suppress(TypeError, AttributeError):  # of another form: DVC refuses it
            if any(Path(os.path.normpath(out)) in (place, *place.parents) for out in _outs(file)):
                return True
    return False


def _outs(file: Path) -> Iterator[Path]:
    """What the stages of a dvc.yaml make."""
    for stage in stages_of(file).values():
        yield from (file.parent / stage.get("wdir", "") / out for out in outs_of(stage))
