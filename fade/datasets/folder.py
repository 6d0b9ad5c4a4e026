"""Own images in folders: one category, a folder of categories, or good images alone."""

from collections.abc import Iterator, Sequence

from fade.datasets.leftovers import Note, ignore
from fade.datasets.listing import list_folder
from fade.datasets.records import image_record, refuse_same_names, root_category
from fade.datasets.tree import (
    Tree,
    category_folders,
    has_split,
    iterate_tree,
    refuse_masks_beside,
)
from fade.types import GOOD, DataPath, ImageRecord

_TREE = Tree(loose_train=True, loose_test=True)


def iterate_folder(
    root: DataPath, categories: Sequence[str] | None, note: Note = ignore
) -> Iterator[ImageRecord]:
    """Yield one category, or a folder of categories, in the layout of MVTec AD.

    A root that has ``train/`` or ``test/`` itself is one category, named after the root. Good
    training images may also lie in ``train/`` itself, where it has no ``good/``. Images in ``test/``
    itself, where it has no folder with images, have no label. Every part but one of train and test is
    optional. A root of images without any of these folders is one category of
    good training images. Raises DataError.
    """
    single = has_split(root)
    found = [] if single else category_folders(root)
    images = [] if single or found else list_folder(root).files
    if images:
        name = root_category(root, categories)
        refuse_masks_beside(root, images)
        yield from refuse_same_names(image_record(file, name, "train", GOOD) for file in images)
        return
    yield from iterate_tree(root, categories, note, _TREE, "folder", found)
