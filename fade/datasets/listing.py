"""What a folder holds, here or in an object store."""

import errno
import os
from pathlib import Path
from typing import cast

from fade.datasets.names import is_image, is_text
from fade.errors import DataError
from fade.types import DataPath, Names, RemotePath

LOOP = "is a link that leads back to itself; remove it"


def list_folder(folder: DataPath) -> Names:
    """Return the names of a folder's images and sub-folders; hidden ones left out.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     for name in ("2.png", "1.JPG", "notes.txt", ".hidden.png"):
        ...         _ = Path(place, name).write_bytes(b"")
        ...     Path(place, "good").mkdir()
        ...     list_folder(Path(place))
        Names(files=['1.JPG', '2.png'], folders=['good'])
    """
    if not isinstance(folder, Path):
        files, folders = ([n for n in part if n[0] != "."] for part in remote_children(folder))
        return Names(list(filter(is_image, files)), folders)
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                fault = fault_of(entry)
                if fault and (is_image(entry.name) or fault == LOOP):
                    raise DataError(f"{entry.path} {fault}")
                if entry.is_dir():
                    folders.append(_readable(entry.name, folder))
                elif is_image(entry.name):
                    files.append(_readable(entry.name, folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror or error}") from error
    return Names(sorted(files), sorted(folders))


def list_files(folder: DataPath) -> list[str]:
    """Return the names of all files of a folder, sorted; hidden ones and unreadable names left out."""
    if not isinstance(folder, Path):
        return [name for name in remote_children(folder).files if name[0] != "."]
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name for entry in entries
                if entry.name[0] != "." and is_text(entry.name) and entry.is_file()
            )  # fmt: skip
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror or error}") from error


def remote_children(folder: DataPath) -> Names:
    """Return the names of the files and folders in a folder that is not on this machine."""
    return cast(RemotePath, folder).children()


def fault_of(entry: os.DirEntry[str] | Path) -> str | None:
    """Return why an entry of a folder is neither a file nor a folder, and what to do about it.

    A path that exists may be given, too. Only links are looked up; None for files and folders, also
    behind a link.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     Path(place, "000.png").symlink_to("gone.png")
        ...     with os.scandir(place) as entries:
        ...         print(fault_of(next(entries)))
        is a link to nothing; restore or remove it
    """
    if entry.is_symlink():
        try:
            entry.stat()
        except FileNotFoundError:
            return "is a link to nothing; restore or remove it"
        except OSError as error:
            if error.errno == errno.ELOOP:
                return LOOP
            raise
    if entry.is_file() or entry.is_dir():
        return None
    return "is no plain file; restore or remove it"


def _readable(name: str, folder: DataPath) -> str:
    if not is_text(name):
        raise DataError(f"{folder}: file name {name!r} is not UTF-8; rename it")
    return name


def require_folder(root: DataPath) -> None:
    """Refuse a root that is no folder."""
    if not root.exists():
        raise DataError(f"{root} does not exist; correct the data set's path (dataset.path)")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the data set's folder (dataset.path)")
