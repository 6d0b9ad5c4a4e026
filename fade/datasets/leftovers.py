"""Accounts for every file below a data set's root: used, left out by a reader, or of no use to it."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fade.datasets.hashes import HashedNames
from fade.datasets.listing import list_folder, remote_children
from fade.datasets.names import UNREAD_SUFFIXES, is_image, is_text
from fade.types import DataPath, ImageRecord

Note = Callable[[str, str], None]
"""Takes the path that a reader leaves out, relative to the root, and the reason.

The path is that of an image or mask, or ends in ``/`` and stands for all files of a folder.
"""

BEYOND_LIMIT = "beyond dataset.limit"
OTHER_CATEGORY = "of a category that dataset.categories does not name"
DEFECT_IN_TRAINING = "a training image with a defect"
VALIDATION = "a validation image, which no stage uses"
HIDDEN = "hidden"
NO_IMAGE = "no image by the name"
UNREAD_KIND = "a kind of image that is not read"
NOT_LISTED = "not listed in the table"
STRAY_MASK = "a mask of no image"
NOT_LOOKED_INTO = "in a folder that this format does not look into"


def ignore(path: str, reason: str) -> None:
    """Take note of nothing."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """Files of one folder that are not used, for one reason.

    Attributes:
        folder: relative to the root, with ``/``; empty for the root.
        reason: why they are not used.
        count: how many files; a hidden folder counts as one.
        example: the name of the first of them.

    Examples:
        >>> Leftover("bottle/test", "no image", 2, "notes.txt").path
        'bottle/test/notes.txt'
    """

    folder: str
    reason: str
    count: int
    example: str

    @property
    def path(self) -> str:
        """The example, relative to the root."""
        return f"{self.folder}/{self.example}".lstrip("/")


class Account:
    """Takes in what a reader finds and leaves out, then tells what else there is.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> account = Account()
        >>> account.note("good/1.png", "it is empty")
        >>> with TemporaryDirectory() as place:
        ...     Path(place, "good").mkdir()
        ...     Path(place, "good", "1.png").touch()
        ...     [(one.path, one.reason) for one in account.leftovers(Path(place))]
        [('good/1.png', 'it is empty')]
    """

    def __init__(self) -> None:
        self._used = HashedNames()
        self._noted: dict[str, HashedNames] = {}
        self._folders: dict[str, str] = {}
        self._mask_folders: set[str] = set()

    def use(self, record: ImageRecord) -> None:
        """Take in an image that is used, and its mask."""
        self._used.add(record.path)
        mask = record.found_mask or ""
        if mask.endswith("/"):
            self._mask_folders.add(mask.rstrip("/"))
        elif mask:
            self._used.add(mask)

    def note(self, path: str, reason: str) -> None:
        """Take in what a reader leaves out: a file, or a folder with ``/`` at its end."""
        if path.endswith("/"):
            self._folders[path.rstrip("/")] = reason
        else:
            self._noted.setdefault(reason, HashedNames()).add(path)

    def leftovers(
        self, root: DataPath, tables: Iterable[str] = (), *, listed: bool = False
    ) -> list[Leftover]:
        """Return all files below the root that are not used, by folder and reason.

        ``tables`` are files that list the images, relative to the root; ``listed`` tells whether
        they do. Raises DataError for folders that cannot be listed.
        """
        tables = frozenset(tables)
        found: dict[tuple[str, str], list[str]] = {}
        counts: dict[tuple[str, str], int] = {}
        for folder, names, hidden in _walk(root):
            prefix = f"{folder}/" if folder else ""
            whole = next((self._folders[f] for f in _parents(folder) if f in self._folders), None)
            for name in names:
                path = prefix + name
                in_mask = folder in self._mask_folders and is_image(name)
                if in_mask or path in tables or path in self._used:
                    continue
                reason = whole or next(
                    (r for r, paths in self._noted.items() if path in paths), None
                )
                reason = reason or _reason(folder, name, listed)
                counts[folder, reason] = counts.get((folder, reason), 0) + 1
                found.setdefault((folder, reason), [name])
            if hidden:
                counts[folder, HIDDEN] = len(hidden)
                found[folder, HIDDEN] = hidden[:1]
        return [
            Leftover(folder, reason, counts[folder, reason], names[0])
            for (folder, reason), names in sorted(found.items())
        ]


def _reason(folder: str, name: str, listed: bool) -> str:
    """Why a file is not used of which the reader said nothing."""
    if os.path.splitext(name)[1].lower() in UNREAD_SUFFIXES:
        return UNREAD_KIND
    if not is_image(name):
        return NO_IMAGE
    if listed:
        return NOT_LISTED
    return STRAY_MASK if "ground_truth" in folder.split("/") else NOT_LOOKED_INTO


def _parents(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _walk(root: DataPath) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each folder below a root with the names of its files and of what is hidden in it."""
    waiting = [""]
    seen: set[str] = set()
    while waiting:
        folder = waiting.pop()
        place = root / folder if folder else root
        if isinstance(place, Path):
            real = os.path.realpath(place)
            if real in seen:  # a link to a folder above, or to one that was there already
                continue
            seen.add(real)
            files, folders, hidden = _local(place)
        else:
            names, folders = remote_children(place)
            hidden = [name for name in (*names, *folders) if name[0] == "."]
            files = [name for name in names if name[0] != "."]
            folders = [name for name in folders if name[0] != "."]
        yield folder, files, hidden
        waiting += [f"{folder}/{name}".lstrip("/") for name in reversed(folders)]


def _local(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of the files, folders and hidden entries of a folder, sorted."""
    files: list[str] = []
    folders: list[str] = []
    hidden: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name if is_text(entry.name) else ascii(entry.name)
                kind = hidden if name[0] == "." else folders if entry.is_dir() else files
                kind.append(name)
    except OSError:
        list_folder(folder)  # says why
    return sorted(files), sorted(folders), sorted(hidden)
