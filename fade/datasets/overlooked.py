"""Folders that a layout would read but for the way their names are written."""

from collections.abc import Iterable

from fade.datasets.listing import list_folder
from fade.datasets.names import plain_name
from fade.datasets.tree import PARTS, has_split
from fade.types import DataPath


def almost_named(root: DataPath, categories: Iterable[str]) -> list[str]:
    """Return folders, relative to the root, that are not called ``train``, ``test`` or ``ground_truth``.

    They would be but for case, spaces or a hyphen. Raises DataError.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     for name in ("train", "test", "Ground Truth"):
        ...         Path(place, "bottle", name).mkdir(parents=True)
        ...     almost_named(Path(place), ["bottle"])
        ['bottle/Ground Truth']
    """
    found = []
    for category in [""] if has_split(root) else categories:
        folder = root / category
        for name in list_folder(folder)[1] if folder.is_dir() else ():
            right = plain_name(name).replace("-", "_").replace(" ", "_")
            # where case does not matter, the folder is read
            if right in PARTS and name != right and not (folder / right).is_dir():
                found.append(f"{category}/{name}".lstrip("/"))
    return sorted(found)
