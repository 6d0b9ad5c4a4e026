"""Categories in folders: ``train/good/``, ``test/<defect>/`` and ``ground_truth/<defect>/``."""

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from fade.datasets.advice import layout_advice
from fade.datasets.labels import label_number, meaning
from fade.datasets.leftovers import (
    DEFECT_IN_TRAINING,
    OTHER_CATEGORY,
    VALIDATION,
    Note,
)
from fade.datasets.listing import list_folder, require_folder
from fade.datasets.names import check_category, few, known_suffixes, other_form, plain_name, stem
from fade.datasets.records import (
    choose_categories,
    image_record,
    refuse_same_names,
    root_category,
)
from fade.errors import DataError
from fade.types import GOOD, UNLABELLED, DataPath, ImageRecord

PARTS = ("train", "test", "ground_truth")

LAYOUT = "train/good/, test/<defect>/ and ground_truth/<defect>/"

AD_2_TEST = "test_public"
"""Folder of the labelled test images of MVTec AD 2."""
AD_2_PRIVATE = ("test_private", "test_private_mixed")
"""Folders of its test images whose labels its server keeps."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the folder of a category keeps its images.

    Attributes:
        test: folder of the test images, in a folder for each defect and for good ones.
        truth: folder of the masks, in a folder for each defect.
        loose_train: whether good training images may lie in ``train/`` itself.
        single: whether the data set's root may be the only category, called as the root.
        unlabelled: folders of test images without labels.
        loose_test: whether such images may lie in the folder of the test images itself, where it has
            no folder with images.
        validation: whether ``validation/`` holds good images, which are left out.
    """

    test: str = "test"
    truth: str = "ground_truth"
    loose_train: bool = False
    single: bool = True
    unlabelled: tuple[str, ...] = ()
    loose_test: bool = False
    validation: bool = False


def iterate_tree(
    root: DataPath,
    categories: Sequence[str] | None,
    note: Note,
    tree: Tree,
    format: str,
    found: Sequence[str] | None = None,
) -> Iterator[ImageRecord]:
    """Yield the records of a data set in folders.

    Test images are sorted by defect, then by file name, in code-point order. A mask is found by its
    image's name, with or without ``_mask``; one that two images would get is refused.

    Args:
        root: of the data set.
        categories: to read, in this order; None or empty for all, by name.
        note: is told of images that are left out.
        tree: the layout.
        format: its name, for messages.
        found: the names of the categories' folders, if they are known.

    Raises:
        DataError: nothing there has this layout, or something in it is at odds.
    """
    if tree.single and has_split(root, tree):
        name = root_category(root, categories)
        _refuse_ad_2(root, tree)
        yield from _category(root, "", name, tree, note)
        return
    found = category_folders(root, tree) if found is None else found
    if not found:
        where = "neither it nor a folder in it has" if tree.single else "no folder in it has"
        expected = LAYOUT.replace("ground_truth", tree.truth).replace("test/", f"{tree.test}/")
        advice = layout_advice(root)
        if has_split(root, tree):  # which only formats of several categories come here with
            advice = "it looks like a single category: use format folder"
        raise DataError(
            f"{root}: {where} train/ or {tree.test}/; format {format} expects {expected}, "
            f"{'directly or ' if tree.single else ''}in a folder for each category"
            + (f"; {advice}" if advice else "")
        )
    chosen = choose_categories(found, categories, root)
    for name in found:
        if name not in chosen:
            note(f"{name}/", OTHER_CATEGORY)
    for name in chosen:
        _refuse_ad_2(root / name, tree)
        yield from _category(root, f"{name}/", name, tree, note)


def _refuse_ad_2(folder: DataPath, tree: Tree) -> None:
    """Refuse MVTec AD 2 in another format, which would find none of its test images."""
    if tree.test != AD_2_TEST and (folder / AD_2_TEST).is_dir():
        raise DataError(
            f"{folder / AD_2_TEST}: this is the layout of MVTec AD 2; set dataset.format to mvtec-ad-2"
        )


def category_folders(root: DataPath, tree: Tree = Tree()) -> list[str]:
    """Return the names of a data set's categories: folders with train/ or test/ in them."""
    require_folder(root)
    found = [name for name in list_folder(root).folders if has_split(root / name, tree)]
    for name in found:
        check_category(name, str(root / name))
    return found


def has_split(folder: DataPath, tree: Tree = Tree()) -> bool:
    """Tell whether a folder has a folder of training or test images in it."""
    return any((folder / name).is_dir() for name in ("train", tree.test, *tree.unlabelled))


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
        for name in list_folder(folder).folders if folder.is_dir() else ():
            right = plain_name(name).replace("-", "_").replace(" ", "_")
            # where case does not matter, the folder is read
            if right in PARTS and name != right and not (folder / right).is_dir():
                found.append(f"{category}/{name}".lstrip("/"))
    return sorted(found)


def _category(
    root: DataPath, prefix: str, category: str, tree: Tree, note: Note
) -> Iterator[ImageRecord]:
    """Yield the records of the category whose folder is ``root / prefix``."""
    folder = root / prefix
    train = _train_images(folder / "train", tree.loose_train, f"{prefix}train", note)
    empty = True
    for record in chain(
        refuse_same_names(image_record(path, category, "train", GOOD) for path in train),
        _labelled(folder, prefix, category, tree),
        _without_labels(folder, prefix, category, tree),
    ):
        empty = False
        yield record
    if empty:
        raise DataError(
            f"{folder}: no image in train/{GOOD} or {tree.test}/<defect>; "
            f"known suffixes are {known_suffixes()}"
        )
    _note_others(folder, prefix, tree, note)


def _labelled(folder: DataPath, prefix: str, category: str, tree: Tree) -> Iterator[ImageRecord]:
    """Yield the records of a category's test images in folders that say what they are."""
    for kind in _test_folders(folder, tree):
        defect = GOOD if meaning(kind) == "good" else kind
        images = _images_of(folder / tree.test / kind)
        masks = _masks(folder / tree.truth / kind, images)
        truth = f"{prefix}{tree.truth}/{kind}"
        _refuse_shared(masks, images, truth)
        _refuse_other_forms(folder / tree.truth, kind, images, masks)
        refuse_masks_beside(folder / tree.test / kind, images, masks)
        yield from refuse_same_names(
            image_record(
                f"{prefix}{tree.test}/{kind}/{file}",
                category,
                "test",
                defect,
                f"{truth}/{mask}" if (mask := masks.get(stem(file))) else None,
            )
            for file in images
        )


def _test_folders(folder: DataPath, tree: Tree) -> list[str]:
    """Return the folders of test images, by name, all of whose names say good or a defect."""
    test = folder / tree.test
    stray, folders = list_folder(test) if test.is_dir() else ([], [])
    flat = bool(stray) and not any(list_folder(test / name).files for name in folders)
    if stray and not (flat and tree.loose_test):
        hint = ", or set dataset.format to folder if nobody knows the labels" if flat else ""
        raise DataError(
            f"{test / stray[0]} lies in no defect's folder; "
            f"move it to {tree.test}/{GOOD} or {tree.test}/<defect>{hint}"
        )
    folders = [name for name in folders if f"{tree.test}/{name}" != tree.truth]
    for name in folders:
        _refuse_unclear(test, name, folders)
    return folders


def _without_labels(
    folder: DataPath, prefix: str, category: str, tree: Tree
) -> Iterator[ImageRecord]:
    """Yield the records of a category's test images that have no label, by folder and name."""
    loose = (tree.test,) if tree.loose_test else ()  # images beside folders of images were refused
    for name in (*tree.unlabelled, *loose):
        if not (folder / name).is_dir():
            continue
        files = list_folder(folder / name).files
        refuse_masks_beside(folder / name, files)
        yield from refuse_same_names(
            image_record(f"{prefix}{name}/{file}", category, "test", UNLABELLED) for file in files
        )


def _refuse_unclear(parent: DataPath, name: str, beside: Sequence[str]) -> None:
    """Refuse a folder that one person takes for good images and the next for a defect."""
    unclear = meaning(name) == "unclear"
    if label_number(name) == 0:  # good beside 1, but a defect's number beside 2 or good
        others = [other for other in beside if label_number(other) not in (0, 1)]
        numbered = any(label_number(other) or other.isdecimal() for other in others)
        unclear = numbered or any(meaning(other) == "good" for other in others)
    if unclear:
        raise DataError(
            f"{parent / name}: the name does not say whether its images are good; rename the folder "
            f"to {GOOD}, or to the defect's name"
        )


def _images_of(folder: DataPath) -> list[str]:
    """Return the names of a folder's images; refuse one whose images all lie deeper."""
    images, folders = list_folder(folder)
    if not images:
        for name in folders:
            if _images_below(folder / name):
                raise DataError(
                    f"{folder} has no image itself, but folders with images, such as {name}, where "
                    "nobody looks; move them up, or list them in a CSV file (format csv)"
                )
    return images


def _images_below(folder: DataPath) -> bool:
    images, folders = list_folder(folder)
    return bool(images) or any(_images_below(folder / name) for name in folders)


def _train_images(train: DataPath, loose: bool, prefix: str, note: Note) -> list[str]:
    """Return the good training images as paths that start with ``prefix``, by folder and name."""
    if not train.is_dir():
        return []
    files, folders = list_folder(train)
    for name in folders:
        _refuse_unclear(train, name, folders)
    good = [name for name in folders if meaning(name) == "good"]
    found = []
    for name in good:
        images = _images_of(train / name)
        refuse_masks_beside(train / name, images)
        found += [f"{prefix}/{name}/{file}" for file in images]
    if not good and files and loose:
        found = [f"{prefix}/{file}" for file in files]
        refuse_masks_beside(train, files)
    elif not good and (files or folders):
        what = "its images directly" if files else f"only {few(folders)}"
        raise DataError(f"{train} has {what} but no folder {GOOD}; put good images in it")
    for name in folders:
        if name not in good:
            for file in list_folder(train / name).files:
                note(f"{prefix}/{name}/{file}", DEFECT_IN_TRAINING)
    return found


_MASK_NAME = re.compile(
    r"(.+)[ _.-](gt|masks?|labels?|seg(mentation)?|annotations?|ground[ _-]?truth)[ _-]?\d*", re.I
)
"""A mask's name without suffix where it lies beside its image; the first group is the image's."""


def refuse_masks_beside(folder: DataPath, files: Sequence[str], masks: Container[str] = ()) -> None:
    """Refuse masks among images of one folder, as KolektorSDD and KolektorSDD2 have them.

    Args:
        masks: names of images whose masks lie elsewhere.
    """
    likely = {file: found[1] for file in files if (found := _MASK_NAME.fullmatch(stem(file)))}
    stems = set(map(stem, files)) if likely else set()
    for file, image in likely.items():
        if image in stems and stem(file) not in masks and image not in masks:
            raise DataError(
                f"{folder / file} looks like the mask of an image beside it; move masks to "
                "ground_truth/<defect>/, set dataset.format to ksdd2 if this is KolektorSDD2, or "
                "rename the file if it is an image"
            )


def _note_others(folder: DataPath, prefix: str, tree: Tree, note: Note) -> None:
    """Tell of the images in folders that are known, but not used."""
    if tree.validation and (folder / "validation").is_dir():
        loose, folders = list_folder(folder / "validation")
        for file in loose:
            note(f"{prefix}validation/{file}", VALIDATION)
        for name in folders:
            for file in list_folder(folder / "validation" / name).files:
                note(f"{prefix}validation/{name}/{file}", VALIDATION)


def _masks(folder: DataPath, images: Sequence[str]) -> dict[str, str]:
    """Return the mask for each image name that the folder has one for.

    It is a file's name, or ``name/`` for a folder of several files that together are the mask of
    the image of that name, as MVTec LOCO has it.
    """
    if not folder.is_dir():
        return {}
    plain: dict[str, str] = {}
    marked: dict[str, str] = {}
    files, folders = list_folder(folder)
    for file in files:
        name = stem(file)
        if name in plain:
            raise DataError(
                f"{folder}: {plain[name]} and {file} are masks of the same image; keep one"
            )
        plain[name] = file
        if name.endswith("_mask"):
            marked[name.removesuffix("_mask")] = file
    found = plain | marked
    if folders:
        for name in sorted(set(folders) & set(map(stem, images))):
            parts = list_folder(folder / name).files
            if parts and name in found:
                raise DataError(
                    f"{folder}: {found[name]} and {name}/ are masks of the same image; keep one"
                )
            if parts:
                found[name] = f"{name}/{parts[0]}" if len(parts) == 1 else f"{name}/"
    return found


def _refuse_shared(masks: dict[str, str], images: Sequence[str], truth: str) -> None:
    """Refuse a mask that is called as one image and, without ``_mask``, as another."""
    stems = set(map(stem, images))
    for file in images:
        name = stem(file)
        other = name.removesuffix("_mask")
        if other != name and other in stems and name in masks and masks[name] == masks.get(other):
            raise DataError(
                f"{truth}/{masks[name]} is called as the mask of {other} and as that of {file}; "
                "rename it, or one of the images"
            )


def _refuse_other_forms(
    truth: DataPath, kind: str, images: Sequence[str], masks: Container[str]
) -> None:
    """Refuse masks that look as if they were called as their images, and have other characters."""
    twin = None
    if not kind.isascii() and truth.is_dir() and not (truth / kind).is_dir():
        twin = other_form(kind, list_folder(truth).folders)
    elif lacking := [
        name for name in map(stem, images) if not name.isascii() and name not in masks
    ]:
        files = list(map(stem, list_folder(truth / kind).files)) if (truth / kind).is_dir() else []
        twins = (other_form(f"{name}{end}", files) for name in lacking for end in ("", "_mask"))
        twin = next(filter(None, twins), None)
    if twin:
        raise DataError(
            f"{truth / kind}: {twin} is called as an image or its folder, but in another Unicode form, "
            "and would be no mask of theirs; give both the same form, e.g. with convmv"
        )
