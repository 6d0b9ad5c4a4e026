"""KolektorSDD2: masks beside the images, which alone say what is a defect."""

from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from typing import cast

from fade.datasets.labels import ANOMALY
from fade.datasets.leftovers import DEFECT_IN_TRAINING, Note, ignore
from fade.datasets.listing import list_folder, require_folder
from fade.datasets.names import stem
from fade.datasets.records import image_record, refuse_same_names, root_category
from fade.errors import DataError
from fade.files import read_data
from fade.preprocess import decode_mask
from fade.types import GOOD, DataPath, ImageRecord, Split

MASK_ENDING = "_GT"
_SPLITS: tuple[Split, ...] = ("train", "test")


def iterate_ksdd2(
    root: DataPath, categories: Sequence[str] | None, note: Note = ignore
) -> Iterator[ImageRecord]:
    """Yield the images of KolektorSDD2 as it unpacks: one category, called as the root.

    ``train/`` and ``test/`` hold images, each with its mask beside it: ``10301.png`` and
    ``10301_GT.png``. An image whose mask marks no pixel is good, so masks are opened, each once in a
    process. ``note`` is told of training images with a defect, which are left out. Raises DataError.
    """
    require_folder(root)
    name = root_category(root, categories)
    if not any((root / split).is_dir() for split in _SPLITS):
        raise DataError(
            f"{root} has neither train/ nor test/, and format ksdd2 needs one: check the path"
        )
    for split in _SPLITS:
        if (root / split).is_dir():
            yield from refuse_same_names(_split(root, split, name, note))


def _split(root: DataPath, split: Split, category: str, note: Note) -> Iterator[ImageRecord]:
    files = list_folder(root / split).files
    masks = {name: file for file in files if (name := stem(file)).endswith(MASK_ENDING)}
    for file in files:
        if stem(file) in masks:
            continue
        mask = masks.get(stem(file) + MASK_ENDING)
        if mask is None:
            raise DataError(
                f"{root / split / file} has no mask {stem(file)}{MASK_ENDING}.png beside it, which "
                "says whether it is good; restore the mask, or remove the image"
            )
        image, mask = f"{split}/{file}", f"{split}/{mask}"
        stat = (root / mask).stat()
        marked = _is_marked(cast(Hashable, root / mask), stat.st_size, stat.st_mtime_ns)
        if split == "train" and marked:
            note(image, DEFECT_IN_TRAINING)
            note(mask, DEFECT_IN_TRAINING)
        else:
            yield image_record(image, category, split, ANOMALY if marked else GOOD, mask)


@lru_cache(maxsize=1 << 16)
def _is_marked(mask: Hashable, size: int, time: int) -> bool:
    """Whether a mask marks a pixel; size and time tell whether it was looked at already."""
    return bool(decode_mask(read_data(cast(DataPath, mask)), str(mask)).any())
