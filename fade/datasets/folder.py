"""Own images in folders: one category, or a folder of categories."""

from collections.abc import Iterator, Sequence

from fade.datasets.names import check_category
from fade.datasets.records import choose_categories
from fade.datasets.tree import LAYOUT, category_folders, has_split, iterate_category
from fade.errors import DataError
from fade.types import DataPath, ImageRecord


def read_folder(root: DataPath, categories: Sequence[str] | None = None) -> list[ImageRecord]:
    """Read one category, or a folder of categories, in the layout of :func:`read_mvtec`.

    A root that has ``train/`` or ``test/`` itself is one category, named after the root. Good
    training images may also lie in ``train/`` itself, where it has no ``good/``. Every part but one
    of train and test is optional. Raises DataError.
    """
    return list(iterate_folder(root, categories))


def iterate_folder(root: DataPath, categories: Sequence[str] | None) -> Iterator[ImageRecord]:
    """Yield what :func:`read_folder` returns."""
    if has_split(root):
        name = root.resolve().name
        check_category(name, str(root))
        choose_categories([name], categories, root)
        yield from iterate_category(root, "", name, loose_train=True)
        return
    found = category_folders(root)
    if not found:
        raise DataError(
            f"{root}: neither it nor a folder in it has train/ or test/; expected {LAYOUT}, "
            "directly or in a folder for each category"
        )
    for name in choose_categories(found, categories, root):
        yield from iterate_category(root, f"{name}/", name, loose_train=True)
