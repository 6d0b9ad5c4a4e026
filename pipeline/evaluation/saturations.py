"""How much of each defect of MVTec LOCO is enough to find, by ``defects_config.json`` and mask files."""

from __future__ import annotations

import io
import json
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from fade.aspect import Shape
from fade.errors import DataError
from fade.files import read_data
from fade.preprocess import decode_mask, resize_mask
from fade.saturation import SaturatedRegion, Saturation
from fade.types import DataPath
from pipeline.dataset.masks import mask_files

CONFIG = "defects_config.json"
_TRUTH = "ground_truth/"


class _Entry(BaseModel, strict=True):
    """What a pixel value stands for."""

    pixel_value: Annotated[int, Field(ge=1, le=255)]
    saturation_threshold: Annotated[float, Field(gt=0, le=1e12)]
    relative_saturation: bool


def read_saturations(root: DataPath, folder: str) -> dict[int, Saturation]:
    """The saturation of each pixel value of masks.

    Args:
        folder: of the category, relative to it, ending in ``/``; empty for the root itself.

    Raises:
        DataError: the file is missing, or an entry lacks a number that it must have.
    """
    name = f"{folder}{CONFIG}"
    try:
        entries = json.loads(read_data(root / name, name))
    except DataError as error:
        raise DataError(
            f"{error}; it says when a defect counts as found: unpack the data set again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no JSON ({error}): unpack the data set again") from None
    found: dict[int, Saturation] = {}
    for number, entry in enumerate(entries if isinstance(entries, list) else [None], start=1):
        try:
            read = _Entry.model_validate(entry)
        except ValidationError:
            read = None
        if read is None or (read.relative_saturation and read.saturation_threshold > 1):
            raise DataError(
                f"{name}, entry {number}: it needs a pixel_value from 1 to 255, a saturation_threshold "
                "above 0, and relative_saturation true or false; a relative threshold is at most 1"
            )
        found[read.pixel_value] = Saturation(read.saturation_threshold, read.relative_saturation)
    return found


def saturated_regions(
    root: DataPath, mask: str, shape: Shape, *, exif_rotation: bool = False
) -> list[SaturatedRegion]:
    """The regions of an image, one a mask file, at the size at which its map is measured.

    What is enough shrinks with the region: it stays the same share of its pixels. A region that has no
    pixel left is left out.

    Args:
        mask: as a record has it, below ``ground_truth/``.
        shape: (height, width).

    Raises:
        DataError: a file cannot be read, or ``defects_config.json`` does not know its pixel value.
    """
    folder = mask.rpartition(_TRUTH)[0] if _TRUTH in mask else ""
    saturations = read_saturations(root, folder)
    found = []
    for file in mask_files(root, mask):
        data = read_data(root / file)  # known to be readable, and unchanged
        pixels = decode_mask(data, file, exif_rotation=exif_rotation)
        if not pixels.any():
            continue
        value = _pixel_value(data, file)
        if value not in saturations:
            raise DataError(
                f"{file} has the pixel value {value}, which {folder}{CONFIG} does not list: unpack the "
                "data set again"
            )
        left = np.flatnonzero(resize_mask(pixels, shape))
        area = int(np.count_nonzero(pixels))
        if len(left):
            enough = saturations[value].pixels(area) * len(left) / area
            found.append(SaturatedRegion(left, enough))
    return found


def _pixel_value(data: bytes, file: str) -> int:
    """The one value, apart from 0, of a mask that is known to be readable."""
    with Image.open(io.BytesIO(data)) as image:
        values: NDArray[Any] = np.unique(np.asarray(image.convert("L")))
    marked = values[values > 0]
    if len(marked) != 1:
        raise DataError(
            f"{file} has {len(marked)} pixel values beside 0, but a mask of MVTec LOCO has one: unpack "
            "the data set again"
        )
    return int(marked[0])
