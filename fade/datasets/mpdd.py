"""MPDD: metal parts in MVTec AD's layout."""

from collections.abc import Iterator, Sequence

from fade.datasets.left_out import Note, ignore
from fade.datasets.tree import Tree, iterate_tree
from fade.types import DataPath, ImageRecord


def iterate_mpdd(
    root: DataPath, categories: Sequence[str] | None, note: Note = ignore
) -> Iterator[ImageRecord]:
    """Yield the images of MPDD as it unpacks, one category or all. Raises DataError.

    The layout is MVTec AD's: ``train/good/``, ``test/<defect>/``, ``ground_truth/<defect>/``.
    """
    yield from iterate_tree(root, categories, note, Tree(), "mpdd")
