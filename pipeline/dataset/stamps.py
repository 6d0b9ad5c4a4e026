"""Whether the files that a manifest was made of are still those that it was made of.

DVC hashes the data set when the manifest's stage has ended. A file that is replaced between its
reading and its hashing would be noted with its new hash and used with its old content, for ever. So
the stage keeps a stamp of each file, and looks at them again when it ends. The next stage, or the end
of ``fade run``, looks once more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.layout import content_key
from fade.errors import DataError, summarise
from fade.files import open_plain, read_plain
from fade.types import DataPath
from pipeline.artefacts.catalogue import AGAIN, CHANGED, MANIFEST
from pipeline.artefacts.parameters import withdraw
from pipeline.artefacts.tables import GROUP_ROWS, table_columns, table_parts, table_writer
from pipeline.config.schema import DatasetParams

# every stage imports this module, and runs again when one that it imports changes: so they are few

STAMPS = Path(".fade") / "stamps.parquet"
"""File with the stamps of the manifest that was made last, until the next stage has checked them."""
MAX_NAMED = 100
"""Largest number of changed files that an error looks for."""
_COLUMNS = {"path": "string", "stamp": "int64", "hash": "string"}

Entry = tuple[str, int, str | None]
"""A file's path, its stamp, and the hash of its content; None where any change counts."""


def stamp(root: DataPath, path: str) -> int:
    """A number that changes when a file is replaced or written; 0 for one that is gone.

    It stands for size, times in nanoseconds and inode. Files that are not on this machine have none,
    as DVC does not hash them: theirs is 0, too.
    """
    if not isinstance(root, Path):
        return 0
    try:
        stat = os.stat(root / path)
    except OSError:
        return 0
    told = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    digest = hashlib.blake2b(repr(told).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@contextmanager
def recorded(root: DataPath) -> Iterator[Callable[[Iterable[Entry]], None]]:
    """Write stamps of files below a folder as they come; their file appears when all are there.

    Files that are not on this machine have no stamps, and nothing is written for them.

    Yields:
        A function that takes the next entries.
    """
    if not isinstance(root, Path):
        STAMPS.unlink(missing_ok=True)  # of another data set
        yield lambda entries: None
        return
    waiting: list[Entry] = []
    with table_writer(STAMPS, _COLUMNS, root=str(root.absolute())) as write:

        def flush() -> None:
            while waiting:
                part = waiting[:GROUP_ROWS]
                del waiting[:GROUP_ROWS]
                columns = map(list, zip(*part, strict=True))
                write(dict(zip(_COLUMNS, columns, strict=True)))

        def add(entries: Iterable[Entry]) -> None:
            waiting.extend(entries)
            if len(waiting) >= GROUP_ROWS:
                flush()

        yield add
        flush()


def check_recorded(dataset: DatasetParams) -> None:
    """Refuse a manifest whose files are not those that it was made of.

    A file with another stamp is read: one whose content is the same counts as the same.

    Raises:
        DataError: naming the files that were replaced.
    """
    if not STAMPS.is_file():
        return
    root = Path(table_columns(STAMPS)[1]["root"])
    found: list[str] = []
    for part in table_parts(STAMPS, list(_COLUMNS)):
        for path, before, key in zip(*(part[name].to_pylist() for name in _COLUMNS), strict=True):
            if stamp(root, path) != before and not _holds(root / path, key):
                found.append(path)
        if len(found) >= MAX_NAMED:
            break
    if found:
        raise DataError(f"{summarise(found)} {CHANGED}: {_advice(dataset)}")


def _holds(path: Path, key: str | None) -> bool:
    """Whether a file's content has a hash."""
    try:
        return key is not None and content_key(read_plain(path)) == key
    except OSError:
        return False


def check_fresh(dataset: DatasetParams) -> None:
    """Look at the stamps once more after DVC has hashed the data set; afterwards they are gone.

    Raises:
        DataError: files were replaced: the manifest was taken back, so that one more run is right.
    """
    try:
        check_recorded(dataset)
    except DataError:
        take_back()
        raise
    with suppress(OSError):  # in a project of somebody else they stay, and are looked at again
        STAMPS.unlink(missing_ok=True)


@contextmanager
def fresh_manifest(dataset: DatasetParams) -> Iterator[None]:
    """Run a stage on a manifest of the files that are there; else take the manifest back.

    Raises:
        DataError: of the stage, with what to do where files were replaced.
    """
    check_fresh(dataset)
    try:
        yield
    except DataError as error:
        if CHANGED not in str(error):
            raise
        take_back()
        raise DataError(str(error).replace(AGAIN, _advice(dataset))) from None


def _advice(dataset: DatasetParams) -> str:
    """What to do when files were replaced; a listing has to learn of it."""
    watch = Path(dataset.watch)
    with suppress(OSError), open_plain(watch) as file:
        if file.read(4) == b"PAR1":
            return f"run `fade scan`, which brings {watch} up to date, then run again"
    return "run again"


def take_back() -> None:
    """Remove the manifest, and what DVC would bring it back from: it is made anew then."""
    withdraw(["manifest"])
    for file in (MANIFEST.path, STAMPS):
        with suppress(OSError):
            file.unlink()
