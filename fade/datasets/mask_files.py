"""Masks that lie where known data sets keep them, told by names alone."""

import os
from pathlib import Path

from fade.datasets.folders_below import folders_below
from fade.datasets.ksdd2 import MASK_ENDING
from fade.datasets.real_iad import DEFECTS, MASK_SUFFIX

_BESIDE = {"ground_truth": {"train", "test", "good"}, "Masks": {"Images"}}
"""Folders of masks, and the folders of images of which one lies beside them."""


def mask_files(root: str) -> set[str]:
    """The files below a folder that are the masks of a data set in a known layout.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     for name in ("10000.png", "10000_GT.png", "10001.png"):
        ...         _ = Path(place, name).write_bytes(b"")
        ...     [Path(file).name for file in mask_files(place)]
        ['10000_GT.png']
    """
    found = set()
    for folder, below, files in folders_below(root):
        # KolektorSDD2 and Real-IAD have them beside their images
        masked = {f"{os.path.splitext(file)[0]}{MASK_ENDING}" for file in files}
        beside = {file for file in files if os.path.splitext(file)[0] in masked}
        if DEFECTS in Path(os.path.abspath(folder)).parts:
            images = {os.path.splitext(f)[0] for f in files if not f.endswith(MASK_SUFFIX)}
            beside |= {
                f for f in files if f.endswith(MASK_SUFFIX) and os.path.splitext(f)[0] in images
            }
        found |= {str(Path(folder, file)) for file in beside}
        for masks, images in _BESIDE.items():
            if masks in below and not images.isdisjoint(below):
                for place, _, inside in os.walk(Path(folder, masks)):
                    found |= {str(Path(place, file)) for file in inside}
    return found
