"""Masks of a data set: a file each, or a folder whose files together are one mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cache.layout import content_key
from fade.datasets.listing import list_folder
from fade.errors import DataError
from fade.files import read_data
from fade.masks import has_colours_without_red
from fade.preprocess import decode_mask
from fade.types import DataPath
from pipeline.dataset.stamps import AGAIN, CHANGED


def mask_files(root: DataPath, mask: str) -> list[str]:
    """Paths of a mask's files, relative to the root: itself, or what lies in its folder.

    Args:
        mask: as a record has it; a folder's ends in ``/``.

    Raises:
        DataError: the folder cannot be listed.
    """
    if not mask.endswith("/"):
        return [mask]
    return [mask + name for name in list_folder(root / mask.rstrip("/")).files]


def read_mask(
    root: DataPath,
    mask: str,
    *,
    exif_rotation: bool = False,
    lossy: list[str] | None = None,
) -> tuple[NDArray[np.bool_], str]:
    """A mask's pixels, (height, width), True where there is a defect, and the hash of its content.

    Args:
        mask: as a record has it.
        exif_rotation: whether each file is turned as its EXIF says.
        lossy: takes the names of files with colours that count as good; None: nobody looks for them.

    Raises:
        DataError: a file cannot be read, or two files of one mask differ in size.
    """
    pixels: NDArray[np.bool_] | None = None
    contents = []
    for file in mask_files(root, mask):
        data = read_data(root / file, file)
        part = decode_mask(data, file, exif_rotation=exif_rotation)
        if pixels is not None and pixels.shape != part.shape:
            raise DataError(
                f"{file} is {part.shape[1]} x {part.shape[0]} pixels, the files of {mask} before it "
                f"{pixels.shape[1]} x {pixels.shape[0]}: they must have the same size"
            )
        pixels = part if pixels is None else pixels | part
        if lossy is not None and has_colours_without_red(data, file):
            lossy.append(file)
        contents.append(data)
    if pixels is None:
        raise DataError(f"{mask} holds no mask any more: restore it, or run again without it")
    if len(contents) == 1:
        return pixels, content_key(contents[0])
    return pixels, content_key("\n".join(map(content_key, contents)).encode())


def read_unchanged_mask(
    root: DataPath, mask: str, key: str, *, exif_rotation: bool = False
) -> NDArray[np.bool_]:
    """The pixels of a mask that the manifest knows by ``key``.

    Raises:
        DataError: unreadable, or changed since the manifest was made.
    """
    pixels, found = read_mask(root, mask, exif_rotation=exif_rotation)
    if found != key:
        raise DataError(f"{mask} {CHANGED}: {AGAIN}")
    return pixels
