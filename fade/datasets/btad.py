"""BTAD: good images in ``ok/``, defects in ``ko/``."""

from collections.abc import Iterator, Sequence

from fade.datasets.left_out import Note, ignore
from fade.datasets.tree import Tree, iterate_tree
from fade.types import DataPath, ImageRecord


def iterate_btad(
    root: DataPath, categories: Sequence[str] | None, note: Note = ignore
) -> Iterator[ImageRecord]:
    """Yield the images of BTAD as it unpacks, one category (``01``, ``02``, ``03``) or all.

    Good images are those of ``train/ok/`` and ``test/ok/``, defects those of ``test/ko/``, masks those
    of ``ground_truth/ko/``, whatever their suffix. Raises DataError.
    """
    yield from iterate_tree(root, categories, note, Tree(), "btad")
