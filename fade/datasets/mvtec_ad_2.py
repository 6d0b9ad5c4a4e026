"""MVTec AD 2: labelled images in ``test_public/``, those without a label in ``test_private/``."""

from collections.abc import Iterator, Sequence

from fade.datasets.left_out import Note, ignore
from fade.datasets.tree import AD_2_PRIVATE, AD_2_TEST, Tree, iterate_tree
from fade.types import DataPath, ImageRecord

_TREE = Tree(
    test=AD_2_TEST,
    truth=f"{AD_2_TEST}/ground_truth",
    unlabelled=AD_2_PRIVATE,
    validation=True,
)


def iterate_mvtec_ad_2(
    root: DataPath, categories: Sequence[str] | None, note: Note = ignore
) -> Iterator[ImageRecord]:
    """Yield the images of MVTec AD 2 as it unpacks, one category or a folder of categories.

    Good training images are those of ``train/good/``, test images those of ``test_public/good/`` and
    ``test_public/bad/``, masks those of ``test_public/ground_truth/bad/``; then come those of
    ``test_private/`` and ``test_private_mixed/``, which have no label. ``note`` is told of the images of
    ``validation/``, which are left out. Raises DataError.
    """
    yield from iterate_tree(root, categories, note, _TREE, "mvtec-ad-2")
