"""What lies in a folder layout without being read."""

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fade.datasets.listing import list_folder, remote_children
from fade.datasets.names import UNREAD_SUFFIXES, plain_name
from fade.datasets.tree import PARTS, has_split
from fade.types import DataPath, ImageRecord


def stray_masks(root: DataPath, records: Iterable[ImageRecord]) -> list[str]:
    """Return the masks of a folder layout that belong to no image, relative to the root.

    ``records`` are those that :func:`read_mvtec` or :func:`read_folder` found there. Masks of images
    that ``limit`` cut off are not stray. Raises DataError.
    """
    found = []
    tests = {record.path.rpartition("/test/")[0] for record in records if record.split == "test"}
    for prefix in sorted(tests if not has_split(root) else {""}):
        truth = root / prefix / "ground_truth"
        loose, defects = list_folder(truth) if truth.is_dir() else ([], [])
        found += [f"{prefix}/ground_truth/{mask}".lstrip("/") for mask in loose]
        for defect in defects:
            folder = root / prefix / "test" / defect
            files = list_folder(folder)[0] if folder.is_dir() else []
            images = {os.path.splitext(file)[0] for file in files}
            for mask in list_folder(truth / defect)[0]:
                stem = os.path.splitext(mask)[0]
                if not images & {stem, stem.removesuffix("_mask")}:
                    found.append(f"{prefix}/ground_truth/{defect}/{mask}".lstrip("/"))
    return found


def unread(root: DataPath, categories: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Return what a folder layout holds that looks as if it were to be read, but is not.

    That is how many images there are of each of :data:`UNREAD_SUFFIXES`, and folders, relative to the
    root, that would be ``train``, ``test`` or ``ground_truth`` but for case, spaces or a hyphen.
    Raises DataError.
    """
    suffixes: Counter[str] = Counter()
    misnamed = []
    for category in [""] if has_split(root) else categories:
        folder = root / category
        for name in _count_unread(folder, Counter()):
            right = plain_name(name).replace("-", "_").replace(" ", "_")
            # where case does not matter, the folder is read
            if right in PARTS and name != right and not (folder / right).is_dir():
                misnamed.append(f"{category}/{name}".lstrip("/"))
        for part in PARTS:
            for name in _count_unread(folder / part, suffixes):
                _count_unread(folder / part / name, suffixes)
    return dict(sorted(suffixes.items())), sorted(misnamed)


def _count_unread(folder: DataPath, suffixes: Counter[str]) -> list[str]:
    """Count a folder's images that are not read; return its sub-folders, none where it is none."""
    folders: list[str] = []

    def take(names: Iterable[tuple[str, bool]]) -> None:
        for name, is_folder in names:
            suffix = os.path.splitext(name)[1].lower()
            if is_folder and name[0] != ".":
                folders.append(name)
            elif suffix in UNREAD_SUFFIXES and name[0] != ".":
                suffixes[suffix] += 1

    if isinstance(folder, Path):
        with suppress(OSError), os.scandir(folder) as entries:  # whoever reads it complains
            take((entry.name, entry.is_dir()) for entry in entries)
    elif folder.is_dir():
        for names, is_folder in zip(remote_children(folder), (False, True), strict=True):
            take((name, is_folder) for name in names)
    return folders
