"""A category in folders: ``train/good/``, ``test/<defect>/`` and ``ground_truth/<defect>/``."""

import os
from collections.abc import Iterator, Sequence

from fade.datasets.listing import list_folder, require_folder
from fade.datasets.names import check_category, few, known_suffixes
from fade.datasets.records import image_record, refuse_same_names
from fade.errors import DataError
from fade.types import GOOD, DataPath, ImageRecord

PARTS = ("train", "test", "ground_truth")

LAYOUT = "train/good/, test/<defect>/ and ground_truth/<defect>/"


def category_folders(root: DataPath) -> list[str]:
    """Return the names of a data set's categories: folders with train/ or test/ in them."""
    require_folder(root)
    found = [name for name in list_folder(root)[1] if has_split(root / name)]
    for name in found:
        check_category(name, str(root / name))
    return found


def has_split(folder: DataPath) -> bool:
    """Tell whether a folder has train/ or test/ in it."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def iterate_category(
    root: DataPath, prefix: str, category: str, *, loose_train: bool = False
) -> Iterator[ImageRecord]:
    """Yield the records of the category whose folder is ``root / prefix``."""
    folder = root / prefix
    empty = True
    train = _train_images(folder / "train", loose_train)
    for record in refuse_same_names(
        image_record(f"{prefix}{path}", category, "train", GOOD) for path in train
    ):
        empty = False
        yield record
    stray, defects = list_folder(folder / "test") if (folder / "test").is_dir() else ([], [])
    if stray:
        raise DataError(
            f"{folder / 'test' / stray[0]} lies in no defect's folder; "
            f"move it to test/{GOOD} or test/<defect>"
        )
    for defect in defects:
        images = list_folder(folder / "test" / defect)[0]
        masks = _masks(folder / "ground_truth" / defect)
        truth = f"{prefix}ground_truth/{defect}"
        _refuse_shared(masks, images, truth)
        for record in refuse_same_names(
            image_record(
                f"{prefix}test/{defect}/{file}",
                category,
                "test",
                defect,
                f"{truth}/{mask}" if (mask := masks.get(os.path.splitext(file)[0])) else None,
            )
            for file in images
        ):
            empty = False
            yield record
    if empty:
        raise DataError(
            f"{folder}: no image in train/{GOOD} or test/<defect>; "
            f"known suffixes are {known_suffixes()}"
        )


def _train_images(train: DataPath, loose: bool) -> list[str]:
    """Return the good training images as paths that start with ``train/``."""
    if not train.is_dir():
        return []
    files, folders = list_folder(train)
    if GOOD in folders:
        return [f"train/{GOOD}/{file}" for file in list_folder(train / GOOD)[0]]
    if files and loose:
        return [f"train/{file}" for file in files]
    if files or folders:
        what = "its images directly" if files else f"only {few(folders)}"
        raise DataError(f"{train} has {what} but no folder {GOOD}; put good images in it")
    return []


def _masks(folder: DataPath) -> dict[str, str]:
    """Return the mask's file name for each image name that the folder has a mask for."""
    if not folder.is_dir():
        return {}
    plain: dict[str, str] = {}
    marked: dict[str, str] = {}
    for file in list_folder(folder)[0]:
        stem = os.path.splitext(file)[0]
        if stem in plain:
            raise DataError(
                f"{folder}: {plain[stem]} and {file} are masks of the same image; keep one"
            )
        plain[stem] = file
        if stem.endswith("_mask"):
            marked[stem.removesuffix("_mask")] = file
    return plain | marked


def _refuse_shared(masks: dict[str, str], images: Sequence[str], truth: str) -> None:
    """Refuse a mask that is called as one image and, without ``_mask``, as another."""
    of_both = {
        stem
        for name in masks
        if (stem := name.removesuffix("_mask")) != name and masks[name] == masks.get(stem)
    }
    found = [file for file in images if os.path.splitext(file)[0] in of_both]
    if not found:
        return
    stems = {os.path.splitext(file)[0] for file in found}
    for file in images:
        stem = os.path.splitext(file)[0]
        if stem.endswith("_mask") and stem.removesuffix("_mask") in stems:
            raise DataError(
                f"{truth}/{masks[stem]} is called as the mask of {stem.removesuffix('_mask')} and as "
                f"that of {file}; rename it, or one of the images"
            )
