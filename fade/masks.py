"""Mask files to boolean arrays, True where defect."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from fade.decode import (
    drop_transparency,
    load_pixels,
    open_image,
    pillow_errors,
    turn_after_load,
    turned,
)
from fade.depth import grey_values, is_deep_colour
from fade.errors import DataError


def decode_mask(data: bytes, name: str, *, exif_rotation: bool = False) -> npt.NDArray[np.bool_]:
    """Decode a mask file's bytes to a read-only boolean array (height, width), True = defect.

    A pixel is a defect where its first channel is not 0. Masks with a palette are looked up in it
    first, so that colours decide, not palette positions. ``exif_rotation`` as in
    :func:`decode_rgb`; give it for masks as for their images. Raises DataError as decode_rgb does,
    and where the first channel cannot tell: palette colours without red, colours of 16 bits a
    channel (Pillow drops the low byte).
    """
    with pillow_errors(name):
        image = open_image(data, name)
        if is_deep_colour(image):
            raise DataError(
                f"{name} is a mask of 16 bits a channel in {image.mode}; save it as 8-bit greyscale"
            )
        turn = turn_after_load(image, exif_rotation)
        load_pixels(image, data, name)
        mask = Image.fromarray(_nonzero(image, name).astype(np.uint8))
        pixels = np.asarray(turned(mask, turn)) != 0
    pixels.flags.writeable = False
    return pixels


def _nonzero(image: Image.Image, name: str) -> npt.NDArray[np.bool_]:
    """Return where the first channel of a mask is not 0."""
    if image.mode.startswith("I"):
        return grey_values(image, name) != 0
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.getchannel(0)) != 0
    has_palette = image.mode in ("P", "PA")
    colours = np.asarray(drop_transparency(image).convert("RGB"))
    first = colours[..., 0] != 0
    if has_palette and (colours.any(axis=-1) != first).any():
        raise DataError(
            f"{name} has palette colours without red, neither clearly defect nor good; "
            "save the mask in black and white"
        )
    return first
