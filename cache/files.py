"""Files by name below a location, a folder or a URL: written whole or not at all, read in part."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Protocol, TypeVar

from fade.files import NO_PLAIN_FILE, open_plain
from fade.types import Names

T = TypeVar("T")
R = TypeVar("R")

Location = Path | str
"""A folder, or a URL such as ``s3://bucket/prefix``; small, and opens again in another process."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A file that :meth:`Files.list` found.

    Attributes:
        name: below the location, with slashes; of a folder without files it ends with one.
        changed: when it was last written, in seconds since the epoch.
    """

    name: str
    bytes: int
    changed: float


class Files(Protocol):
    """Files below a location. Names are relative to it, with slashes, and never come from data.

    Every method raises OSError (FileNotFoundError for what is not there) whose ``strerror`` says in
    one line what is wrong, without credentials. What is no plain file, such as a pipe or a folder,
    counts as not there.
    """

    location: Location
    """Opens the same files in another process."""
    remote: bool
    """Whether each call takes the time of a request."""
    at_once: int
    """Bytes that are best read in one call."""

    def read(self, name: str, most: int) -> bytes:
        """A whole file; ValueError if it holds more than ``most`` bytes."""

    def read_into(self, name: str, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer with the file's bytes from an offset on; ValueError if it ends before."""

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a file: whoever reads meanwhile, or after a kill, finds the whole or nothing."""

    def exists(self, name: str) -> bool:
        """Whether a file is there."""

    def names(self, folder: str) -> Names:
        """What lies in a folder itself; nothing if it is not there."""

    def list(self, folder: str) -> Iterator[Listed]:
        """All files below a folder, in the order of their names."""

    def sizes(self, folder: str, names: Sequence[str]) -> Sequence[int]:
        """Bytes of files below a folder; -1 for each that is not there, or no plain file."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, in this order, also such as are gone already, and folders left empty."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """``map``, with calls side by side where that saves time."""


TRIES = 100
"""How often a file is opened anew whose folder another process deletes meanwhile."""


def _opened(path: Path) -> BufferedReader:
    """A plain file to read; FileNotFoundError for anything else."""
    try:
        return open_plain(path)
    except OSError as error:
        if error.errno == errno.EISDIR or error.strerror == NO_PLAIN_FILE:
            raise FileNotFoundError(errno.ENOENT, NO_PLAIN_FILE, str(path)) from None
        raise


class LocalFiles:
    """Files below a folder."""

    remote = False
    at_once = 4 << 20  # so much is still in the processor's cache when checksums are taken

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()  # another process may work elsewhere
        self.location: Location = self.root

    def read(self, name: str, most: int) -> bytes:
        """See :class:`Files`."""
        with _opened(self.root / name) as stream:
            data = stream.read(most + 1)
        if len(data) > most:
            raise ValueError(f"it is larger than {most:,} bytes")
        return data

    def read_into(self, name: str, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """See :class:`Files`."""
        with _opened(self.root / name) as stream:
            for offset, buffer in pieces:
                stream.seek(offset)
                if stream.readinto(buffer) != buffer.nbytes:
                    raise ValueError("it is cut short")

    def write(self, name: str, data: bytes | memoryview) -> None:
        """See :class:`Files`."""
        path = self.root / name
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            with self._made(part) as stream:
                stream.write(data)
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):  # the disk may be full
                part.unlink()
            raise

    def _made(self, path: Path) -> BinaryIO:
        for _ in range(TRIES):  # other processes may delete the folders, which are empty as yet
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                path.parent.mkdir(parents=True, exist_ok=True)
                return path.open("wb")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")

    def exists(self, name: str) -> bool:
        """See :class:`Files`."""
        return (self.root / name).is_file()

    def names(self, folder: str) -> Names:
        """See :class:`Files`."""
        found = Names([], [])
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                (found.folders if entry.is_dir() else found.files).append(entry.name)
        return Names(sorted(found.files), sorted(found.folders))

    def list(self, folder: str) -> Iterator[Listed]:
        """See :class:`Files`."""

        def refused(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        for where, folders, files in os.walk(self.root / folder, onerror=refused):
            folders.sort()
            below = "".join(f"{part}/" for part in Path(where).relative_to(self.root).parts)
            for name in sorted(files):
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    stat = os.lstat(os.path.join(where, name))
                    yield Listed(f"{below}{name}", stat.st_size, stat.st_mtime)
            if below and not files and not folders:
                with contextlib.suppress(FileNotFoundError):
                    yield Listed(below, 0, os.lstat(where).st_mtime)

    def sizes(self, folder: str, names: Sequence[str]) -> Sequence[int]:
        """See :class:`Files`."""

        def size(name: str) -> int:
            try:
                stat = os.stat(self.root / folder / name)
            except (FileNotFoundError, NotADirectoryError):
                return -1
            return stat.st_size if S_ISREG(stat.st_mode) else -1

        return [size(name) for name in names]

    def delete(self, names: Iterable[str]) -> None:
        """See :class:`Files`."""
        for name in names:
            path = self.root / name
            if not name.endswith("/"):
                path.unlink(missing_ok=True)
                path = path.parent
            with contextlib.suppress(OSError):  # not empty, or gone
                while path != self.root:
                    path.rmdir()
                    path = path.parent

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """See :class:`Files`."""
        return map(function, items)


def reason(error: OSError) -> str:
    """What an error says, without its number."""
    return error.strerror or str(error) or os.strerror(error.errno or errno.EIO)
