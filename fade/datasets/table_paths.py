"""Paths in a table, held against the folders that they name."""

import os
import posixpath
from contextlib import suppress
from pathlib import Path

from fade.datasets.hashes import HashedNames
from fade.datasets.listing import list_folder, remote_children
from fade.datasets.names import is_image, is_text, known_suffixes, other_form
from fade.errors import DataError
from fade.types import DataPath


class TablePaths:
    """Checks the paths of a table against its root; each folder is listed only once."""

    def __init__(self, root: DataPath) -> None:
        self._place = root
        self._remote = None if isinstance(root, Path) else root
        self._root = os.path.realpath(root) if isinstance(root, Path) else str(root)
        self._folders: dict[str, HashedNames | str] = {}
        self._links: set[str] = set()

    def check(self, value: str, what: str) -> str:
        """Return the path, normalised, or raise DataError that starts with ``what``."""
        if reason := self._unsafe(value):
            raise DataError(f"{what} {value!r} {reason}; give a path inside the table's data set")
        path = posixpath.normpath(value)
        if not is_image(path):
            raise DataError(f"{what} {value!r} has no suffix of {known_suffixes()}")
        folder, _, file = path.rpartition("/")
        files = self._files(folder)
        if isinstance(files, str):
            raise DataError(f"{what} {value!r} {files}; correct the path{self._twin(path)}")
        if file not in files:
            raise DataError(f"{what} {value!r} does not exist; correct the path{self._twin(path)}")
        if path in self._links and not self._inside(path):
            raise DataError(f"{what} {value!r} links to a file outside the data set; copy it")
        return path

    def _twin(self, path: str) -> str:
        """What to add where a part of a path that is not there is there in another Unicode form."""
        folder = self._place
        for part in path.split("/"):
            with suppress(OSError, ValueError, DataError):
                found = list_folder(folder)
                if twin := other_form(part, [*found.files, *found.folders]):
                    return f": the same text in another Unicode form is {twin}"
            folder = folder / part
        return ""

    def _unsafe(self, value: str) -> str | None:
        if value.startswith(("/", "\\")) or value[1:2] == ":":
            return "is an absolute path"
        if "\\" in value:
            return "has backslashes where / is needed"
        if ".." in value.split("/"):
            return "has .. in it"
        return None

    def _files(self, folder: str) -> HashedNames | str:
        """Return the names of a folder's files, or why it has none."""
        if folder not in self._folders:
            self._folders[folder] = self._listing(folder)
        return self._folders[folder]

    def _listing(self, folder: str) -> HashedNames | str:
        found = HashedNames()
        prefix = f"{folder}/" if folder else ""
        if self._remote is not None:  # it has no links
            names = remote_children(self._remote / folder).files
            return HashedNames(names) if names else "does not exist"
        try:
            if not self._inside(folder):
                return "links to a folder outside the data set"
            with os.scandir(os.path.join(self._root, folder)) as entries:
                for entry in entries:
                    if entry.is_file() and is_text(entry.name):
                        found.add(entry.name)
                        if entry.is_symlink():
                            self._links.add(prefix + entry.name)
        except (OSError, ValueError):
            return "does not exist"
        return found

    def _inside(self, path: str) -> bool:
        real = os.path.realpath(os.path.join(self._root, path))
        return os.path.commonpath((real, self._root)) == self._root
