"""Files of a data set in an object store, by paths that behave like pathlib's."""

from __future__ import annotations

import errno
import posixpath
from functools import cached_property
from typing import Any, NamedTuple

from cache.files import reason
from cache.objects import ObjectFiles
from fade.errors import DataError
from fade.types import Names

FILE_BYTES = 4 << 30
"""Largest size of an image or a table, in bytes."""


class Stat(NamedTuple):
    """The part of ``os.stat_result`` that an object has."""

    st_size: int
    st_mtime_ns: int


class ObjectPath:
    """A folder or file below a bucket: what :class:`fade.types.DataPath` asks for, to be read only.

    Each folder is listed once for all paths that come from the same one by ``/``. Pickled, a path
    opens again in another process.

    Args:
        path: below it, without slashes at its ends.
    """

    def __init__(self, bucket: str, path: str) -> None:
        self._bucket, self._path = bucket, path
        self._top = path
        self._files = ObjectFiles(bucket)
        self._listed: dict[str, Names] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectPath, (self._bucket, self._path)

    def __truediv__(self, part: str) -> ObjectPath:
        return self._at(posixpath.normpath(posixpath.join(self._path, part)))

    def __str__(self) -> str:
        return f"{self._bucket}/{self._path}".rstrip("/")

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        """The last part; of a bucket its name."""
        return str(self).rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        """The folder that it lies in."""
        return self._at(posixpath.dirname(self._path))

    def _at(self, path: str) -> ObjectPath:
        found = ObjectPath(self._bucket, "" if path == "." else path)
        found._top, found._listed = self._top, self._listed
        return found

    def absolute(self) -> ObjectPath:
        """Itself: a URL is absolute."""
        return self

    def resolve(self) -> ObjectPath:
        """Itself: there are no links."""
        return self

    def exists(self) -> bool:
        """Whether it is a file or a folder."""
        return self.is_dir() or self.is_file()

    def is_dir(self) -> bool:
        """Whether files lie below it."""
        if self._path.startswith(f"{self._top}/") or not self._top:
            return not self._path or self._base in self.parent.children().folders
        found = self.children()  # what lies beside the data set may be large, or nobody's business
        return bool(found.files or found.folders)

    def is_file(self) -> bool:
        """Whether it is a file."""
        if self._path.startswith(f"{self._top}/"):
            return self._base in self.parent.children().files
        try:
            return bool(self._path) and self._files.exists(self._path)
        except OSError as error:
            raise DataError(f"{self} cannot be read: {reason(error)}") from None

    @cached_property
    def _base(self) -> str:
        return posixpath.basename(self._path)

    def children(self) -> Names:
        """Names of the files and folders in it; none if there is no such folder.

        Raises:
            DataError: it cannot be listed.
        """
        if self._path not in self._listed:
            try:
                self._listed[self._path] = self._files.names(self._path)
            except OSError as error:
                raise DataError(f"{self} cannot be listed: {reason(error)}") from None
        return self._listed[self._path]

    def stat(self) -> Stat:
        """Size and time of the file.

        Raises:
            OSError: it is not there, or cannot be asked for.
        """
        found = self._files.stat(self._path)
        return Stat(found.bytes, round(found.changed * 1e9))

    def read_bytes(self) -> bytes:
        """The whole file.

        Raises:
            OSError: it cannot be read; ``strerror`` says why.
        """
        try:
            return self._files.read(self._path, FILE_BYTES)
        except ValueError as error:
            raise OSError(errno.EFBIG, str(error), str(self)) from None
