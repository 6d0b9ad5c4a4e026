"""MVTec AD: a folder for each category."""

from collections.abc import Iterator, Sequence

from fade.datasets.advice import layout_advice
from fade.datasets.left_out import Note, ignore
from fade.datasets.tree import LAYOUT, Tree, category_folders, has_split, iterate_tree
from fade.errors import DataError
from fade.types import DataPath, ImageRecord

_TREE = Tree(single=False)


def iterate_mvtec(
    root: DataPath, categories: Sequence[str] | None, note: Note = ignore
) -> Iterator[ImageRecord]:
    """Yield a data set in MVTec-AD layout: a folder for each category.

    In it ``train/good/``, ``test/<defect>/`` and ``ground_truth/<defect>/``. Test images are sorted
    by defect, then by file name, in code-point order. A mask is found by its image's name, with or
    without ``_mask``; one that two images would get is refused. Raises DataError.
    """
    found = category_folders(root)
    if not found:
        single = has_split(root)
        if single:
            hint = "it looks like a single category: use format folder"
        else:
            hint = layout_advice(root) or "check the path"
        raise DataError(f"{root}: no folder in it has {LAYOUT} (MVTec layout); {hint}")
    yield from iterate_tree(root, categories, note, _TREE, "mvtec", found)
