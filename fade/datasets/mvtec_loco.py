"""MVTec LOCO AD: logical and structural anomalies, with a folder of masks for each image."""

from collections.abc import Iterator, Sequence

from fade.datasets.left_out import Note, ignore
from fade.datasets.tree import Tree, iterate_tree
from fade.types import DataPath, ImageRecord


def iterate_mvtec_loco(
    root: DataPath, categories: Sequence[str] | None, note: Note = ignore
) -> Iterator[ImageRecord]:
    """Yield the images of MVTec LOCO AD as it unpacks, one category or a folder of categories.

    Defects are ``logical_anomalies`` and ``structural_anomalies``. The mask of the image ``000.png``
    is what the files of ``ground_truth/<defect>/000/`` mark together. ``note`` is told of the images
    of ``validation/``, which are left out. Raises DataError.
    """
    yield from iterate_tree(root, categories, note, Tree(validation=True), "mvtec-loco")
