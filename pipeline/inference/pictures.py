"""Images that people give: paths, PIL images and arrays, opened as RGB and encoded."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.layout import content_key
from fade.aspect import AspectRatio
from fade.decode import picture_rgb
from fade.errors import DataError
from fade.files import read_plain
from fade.preprocess import decode_rgb, resize_image
from fade.types import Feature
from pipeline.config.schema import Params
from pipeline.dataset.pixel_remarks import PixelRemarks
from pipeline.features.models import start_encoding
from pipeline.features.pair import of_vision
from pipeline.inference.prediction import Picture

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.features.models import ImageEncoder

_PIPES = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
"""Pipes that a shell makes for a command, which end with it; others could be waited for forever."""


def open_picture(
    image: Picture, number: int, exif_rotation: bool, remarks: PixelRemarks | None = None
) -> tuple[str, Image.Image]:
    """A name for an image, and it in RGB.

    Args:
        image: a path, a PIL image or uint8 RGB (height, width, 3).
        number: its position, for a name where it has none.
        exif_rotation: whether a file or PIL image is turned as its camera says.
        remarks: takes what is odd about a file.

    Raises:
        DataError: it cannot be read, or is no picture.
    """
    from PIL import Image

    if isinstance(image, str | Path):
        try:
            mode = os.stat(image).st_mode
            piped = stat.S_ISFIFO(mode) and str(image).startswith(_PIPES)
            if not stat.S_ISREG(mode) and not piped:
                raise DataError(f"{image} is no plain file; give an image file")
            data = Path(image).read_bytes() if piped else read_plain(image)
        except (OSError, ValueError) as error:
            if os.path.islink(image) and not os.path.exists(image):
                raise DataError(f"{image} is a link to nothing; restore or remove it") from None
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{image} cannot be read: {reason}") from None
        picture = decode_rgb(data, str(image), exif_rotation=exif_rotation)
        if remarks is not None:
            remarks.add_image(str(image), data)
        return str(image), picture
    name = f"image {number}"
    if isinstance(image, Image.Image):
        return name, picture_rgb(image, name, exif_rotation=exif_rotation)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return name, Image.fromarray(image)
        raise DataError(
            f"{name} has shape {image.shape} and type {image.dtype}: give uint8 RGB of shape "
            "(height, width, 3)"
        )
    raise DataError(f"{name} is a {type(image).__name__}: give a path, a PIL image or an array")


def pixel_key(picture: Image.Image) -> str:
    """What equal pictures have in common: the hash of their pixels and size."""
    return content_key(repr(picture.size).encode() + picture.tobytes())


def check_aspect(
    name: str, picture: Image.Image, params: Params, aspect: AspectRatio | None
) -> None:
    """Refuse a picture of other proportions than a run keeps (DataError); None keeps none."""
    width, height = picture.size
    if aspect is not None and not aspect.fits(width, height):
        raise DataError(
            f"{name} is {width} x {height} pixels, but features.aspect is {params.features.aspect} "
            f"and the run's images have the aspect ratio {aspect.width}:{aspect.height}: crop or turn "
            "it, or make a run with features.aspect square"
        )


def encode_pictures(
    pictures: Sequence[Image.Image],
    encoder: ImageEncoder,
    params: Params,
    aspect: AspectRatio | None,
) -> list[dict[Feature, np.ndarray]]:
    """Features of some images as the store would keep them.

    Args:
        pictures: in RGB, of any size.
        params: of the run; they say which features test images need.
        aspect: that the run keeps.
    """
    found: list[dict[Feature, np.ndarray]] = [{} for _ in pictures]
    wanted = params.test_features()
    shapes = {feature: encoder.pixels(feature, aspect) for feature in wanted}
    for shape in sorted(set(shapes.values())):
        here = [feature for feature in wanted if shapes[feature] == shape]
        pixels = np.stack([resize_image(picture, shape, aspect) for picture in pictures])
        encoded: dict[Feature, np.ndarray] = {}
        for model in (False, True):
            if of_model := [feature for feature in here if of_vision(feature) == model]:
                encoded |= start_encoding(encoder, pixels, of_model, "float32")()
        for feature in here:
            rows = encoded[feature].astype(params.features.dtype)
            for one, row in zip(found, rows, strict=True):
                one[feature] = row
    return found
