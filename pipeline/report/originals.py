"""Where a browser that shows the report finds the images themselves."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from fade.types import DataPath


def quoted(path: str) -> str:
    """A path within the data set as a part of an address, whatever bytes its name has.

    >>> quoted("cable/test/bad #1/a&b.png")
    'cable/test/bad%20%231/a%26b.png'
    """
    return quote(path, errors="surrogateescape")


def originals_address(root: DataPath, page: Path) -> str:
    """The address of the data set's folder, with a slash at its end; empty where it has none.

    It is relative where the data set's path is, so that a project that moves with its data keeps
    it, and so that the same parameters make the same page.

    Args:
        root: what paths of images are relative to.
        page: the folder of the page, relative to the project.
    """
    if not isinstance(root, Path):
        return ""
    if root.is_absolute():
        return f"{root.as_uri()}/"
    return f"{quoted(Path(os.path.relpath(root, page)).as_posix())}/"
