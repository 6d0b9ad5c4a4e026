"""Writes files whole or not at all, and reads files from elsewhere only if they are plain."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BytesIO, TextIOWrapper
from pathlib import Path
from platform import node
from typing import TYPE_CHECKING

from fade.errors import DataError

if TYPE_CHECKING:
    from fade.types import DataPath


NO_PLAIN_FILE = "it is no plain file"
"""What the errors of this module say of pipes, devices and sockets."""
MAX_BYTES = 4 << 30
"""Largest size of an image, a table or a text, in bytes."""
_GROWN = 1 << 20
"""Bytes that are read at once beyond a file's size, which grew meanwhile."""
_NAME_BYTES = 255
_HOST = hashlib.blake2b(node().encode(), digest_size=4).hexdigest()
_PART = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.part", re.DOTALL)
_DAY = 86_400
_tidied: set[tuple[int, str]] = set()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A file to write that takes the name ``path`` when it is complete: nobody sees half of it.

    Several may write one file at once: the last one stays. What killed writers left in the folder is
    removed.

    Args:
        path: of the file; its folder is made if it is not there.

    Yields:
        Where to write: a name beside the file that nobody else uses.

    Raises:
        OSError: that names the file, whatever wrote it; also where ``path`` is no plain file.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     with atomic_write(Path(place, "scores.csv")) as part:
        ...         _ = part.write_text("image,score")
        ...         os.path.exists(f"{place}/scores.csv")
        ...     os.listdir(place)
        False
        ['scores.csv']
    """
    part = path.with_name(_part_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_target(path)
        _tidy_once(path.parent)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut could leave the name without its content
        os.replace(part, path)
    except OSError as error:  # a full disk does not say which file
        if error.errno is None:  # NumPy and Pillow say it in words, which a file's name would hide
            raise OSError(*_named(error, path.parent), str(path)) from error
        if error.filename in (None, str(part)):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            part.unlink()


def _named(error: OSError, folder: Path) -> tuple[int, str]:
    """Number and words of a write error that has no number."""
    full = not shutil.disk_usage(folder).free
    return (errno.ENOSPC, os.strerror(errno.ENOSPC)) if full else (errno.EIO, str(error))


def write_file(path: Path, data: bytes | str) -> None:
    """Write a file by :func:`atomic_write`; text in UTF-8.

    Raises:
        OSError: that names the file.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_file(Path(place, "new", "é.txt"), "é")
        ...     Path(place, "new", "é.txt").read_bytes()
        b'\xc3\xa9'
    """
    with atomic_write(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def _part_name(name: str) -> str:
    """The file's name, its process and a number that nobody draws twice, as long as names may be."""
    end = f".{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part"
    if len(name.encode()) + len(end) + 1 > _NAME_BYTES:
        name = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return f".{name}{end}"


def _check_target(path: Path) -> None:
    """Refuse to put a file in place of a device or pipe; a folder is refused when it is replaced."""
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.ENXIO, NO_PLAIN_FILE, str(path))


def _tidy_once(folder: Path) -> None:
    """:func:`tidy`, once a process, as folders may be long."""
    key = (os.getpid(), str(folder.absolute()))
    if key not in _tidied:
        _tidied.add(key)
        tidy(folder)


def tidy(folder: Path) -> None:
    """Remove what killed writers of :func:`atomic_write` left in a folder.

    Of writers on other machines nobody knows whether they live: theirs go after a day.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_file(Path(place, "scores.csv"), "image,score")
        ...     tidy(Path(place))
        ...     os.listdir(place)
        ['scores.csv']
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _PART.fullmatch(entry.name)
            if not found:
                continue
            with suppress(OSError):
                old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY
                if not _lives(int(found[2])) if found[1] == _HOST else old:
                    os.unlink(entry.path)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def open_plain(path: Path | str) -> BufferedReader:
    """Open a plain file to read. A pipe would be waited for, a device could go on for ever.

    Raises:
        OSError: it cannot be opened, or is no plain file.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_file(Path(place, "a.txt"), "four")
        ...     with open_plain(f"{place}/a.txt") as file:
        ...         file.read(2)
        b'fo'
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    number = os.open(path, flags | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.ENXIO, NO_PLAIN_FILE, str(path))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_plain(path: Path | str, most: int = MAX_BYTES) -> bytes:
    """The content of a plain file, see :func:`open_plain`.

    Raises:
        OSError: it cannot be read, is no plain file, or holds more than ``most`` bytes.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_file(Path(place, "a.txt"), "four")
        ...     read_plain(f"{place}/a.txt", most=4)
        b'four'
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(
                errno.EFBIG, f"it has {size:,} bytes, at most {most:,} are read", str(path)
            )
        found = file.read(size)  # asked for more, Python takes the memory for it at once
        while more := file.read(min(most - len(found), _GROWN)):
            found += more
        return found


def read_text(path: Path | str) -> str:
    """The text of a plain file in UTF-8, whose lines all end in a line feed; see :func:`read_plain`.

    Raises:
        OSError: it cannot be read, or is no plain file.
        UnicodeDecodeError: it is not UTF-8.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_file(Path(place, "a.txt"), "one\\r\\ntwo")
        ...     read_text(f"{place}/a.txt")
        'one\\ntwo'
    """
    return TextIOWrapper(BytesIO(read_plain(path)), encoding="utf-8").read()


@contextmanager
def readable(name: object) -> Iterator[None]:
    """Refuse a file of a data set that the system does not give (DataError), by its name.

    Examples:
        >>> with readable("mask 7.png"):
        ...     raise PermissionError(errno.EACCES, "Permission denied")
        Traceback (most recent call last):
            ...
        fade.errors.DataError: mask 7.png cannot be read: Permission denied
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from None


def read_data(path: DataPath, name: object = None) -> bytes:
    """The content of a data set's file; one in a folder is read by :func:`read_plain`.

    Args:
        name: what errors call the file; its path if not given.

    Raises:
        DataError: it cannot be read, or is no plain file.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_file(Path(place, "a.png"), b"bytes")
        ...     read_data(Path(place, "a.png"))
        b'bytes'
    """
    with readable(name or path):
        return read_plain(path) if isinstance(path, Path) else path.read_bytes()
