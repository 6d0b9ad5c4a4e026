"""Pictures as bytes: images, maps and overlays, no larger than a screen shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError
from pipeline.inference.prediction import Prediction
from pipeline.report.gallery import BRIGHT, DARK, heat, overlay

if TYPE_CHECKING:
    from PIL import Image

MapStyle = Literal["grey", "heat", "overlay", "mask"]
THUMBNAIL, MIN_SCREEN, MAX_SCREEN = 224, 640, 1280
"""Longer sides, in pixels, of pictures in lists, and of those that are opened: at least and at most."""
QUALITY = 82
Pixels = NDArray[np.uint8]


def fitted_size(size: tuple[int, int], most: int, least: int = 0) -> tuple[int, int]:
    """(width, height) with the longer side at most and at least so many pixels, proportions kept.

    >>> fitted_size((4000, 1000), 1280), fitted_size((100, 50), 1280), fitted_size((100, 50), 1280, 640)
    ((1280, 320), (100, 50), (640, 320))
    """
    longer = max(size)
    factor = min(max(longer, least), most) / longer
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def fitted(picture: Image.Image, most: int, least: int = 0) -> Pixels:
    """An RGB image (h, w, 3) of the size that :func:`fitted_size` gives."""
    import cv2

    pixels = np.asarray(picture)
    size = fitted_size(picture.size, most, least)
    if size == picture.size:
        return pixels
    how = cv2.INTER_AREA if size < picture.size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)


def encoded(pixels: Pixels, suffix: Literal[".png", ".webp"]) -> bytes:
    """An image file of grey (h, w) or RGB (h, w, 3) pixels.

    Raises:
        DataError: they cannot be encoded.
    """
    import cv2

    turned = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    options = [cv2.IMWRITE_WEBP_QUALITY, QUALITY] if suffix == ".webp" else []
    done, found = cv2.imencode(suffix, turned, options)
    if not done:
        raise DataError(f"a picture of shape {pixels.shape} cannot be encoded")
    return found.tobytes()


def drawn_map(prediction: Prediction, style: MapStyle, image: Pixels | None = None) -> Pixels:
    """A prediction's map as pixels of its size.

    Args:
        style: its shades of grey, its colours, laid over the image, or what is above the threshold.
        image: RGB (h, w, 3) of the prediction's size, for an overlay.

    Raises:
        DataError: the run made no maps, or has no threshold for a mask.
    """
    shades = prediction.shades()
    if shades is None:
        raise DataError("the run made no maps: fusion.segmentation_mode is none")
    if style == "grey":
        return shades
    if style == "heat":
        return heat(shades)
    mask = prediction.mask()
    if style == "mask":
        if mask is None:
            raise DataError(f"there is no pixel threshold: {prediction.remark}")
        return mask.astype(np.uint8) * 255
    assert image is not None
    return overlay(image, shades, mask)


def with_patch(image: Pixels, grid: tuple[int, int], row: int, column: int) -> Pixels:
    """An RGB image with a box around one patch of its grid (rows, columns).

    Raises:
        DataError: the grid has no such patch.
    """
    import cv2

    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise DataError(f"there is no patch in row {row}, column {column}")
    height, width = image.shape[:2]
    left, top = column * width // grid[1], row * height // grid[0]
    right, bottom = (column + 1) * width // grid[1], (row + 1) * height // grid[0]
    drawn = np.ascontiguousarray(image).copy()
    for colour, line in ((DARK, 5), (BRIGHT, 2)):
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour, line)
    return drawn
