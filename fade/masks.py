"""Mask files to boolean arrays, True where defect."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

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

_PHOTOMETRIC, _COMPRESSION = 262, 259  # TIFF tags
_WHITE_IS_ZERO = 0
_FAX = (2, 3, 4)  # compressions of scanners and fax machines, which mean white paper


def decode_mask(data: bytes, name: str, *, exif_rotation: bool = False) -> npt.NDArray[np.bool_]:
    """Decode a mask file's bytes to a read-only boolean array (height, width), True = defect.

    A pixel is a defect where its first channel is not 0. By kind of file:

    - Transparency counts only where colours cannot tell: if the first channel is 0 nowhere, a pixel
      is a defect where it is not fully transparent.
    - Palettes are looked up, so that colours decide, not positions in the palette. Only if the first
      channel of all colours that occur is not 0, the palette's first colour is the background.
    - A TIFF of 1 bit is a boolean array, whatever it is to look like: 1 is a defect. Those with a
      fax compression are pictures: white is a defect.

    Args:
        data: the whole file.
        name: of the file, for errors.
        exif_rotation: as in :func:`fade.decode.decode_rgb`; give it for masks as for their images.

    Raises:
        DataError: as decode_rgb does, and where the first channel cannot tell: palette colours
            without red, colours of 16 bits a channel (Pillow drops the low byte).

    Examples:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.fromarray(np.array([[0, 255]], np.uint8)).save(file, "PNG")
        >>> decode_mask(file.getvalue(), "000_mask.png").tolist()
        [[False, True]]
    """
    with pillow_errors(name):
        image = open_image(data, name)
        if is_deep_colour(image):
            raise DataError(
                f"{name} is a mask of 16 bits a channel in {image.mode}; save it as 8-bit greyscale"
            )
        turn = turn_after_load(image, exif_rotation)
        load_pixels(image, data, name)
        pixels = _marked(image, name)
        if turn != 1:
            pixels = np.asarray(turned(Image.fromarray(pixels.astype(np.uint8)), turn)) != 0
    pixels.flags.writeable = False
    return pixels


def has_colours_without_red(data: bytes, name: str) -> bool:
    """Whether a mask file has pixels of a colour without red, which :func:`decode_mask` takes for good.

    Labelling tools give each kind of defect a colour of its own. Palettes with such colours are refused
    by :func:`decode_mask`; what is fully transparent has no colour.

    Args:
        data: the whole file.
        name: of the file, for errors.

    Raises:
        DataError: as decode_mask does.

    Examples:
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (2, 2), (0, 0, 255)).save(file, "PNG")
        >>> has_colours_without_red(file.getvalue(), "000_mask.png")
        True
    """
    with pillow_errors(name):
        image = open_image(data, name)
        if image.mode in ("1", "L", "LA", "P", "PA") or image.mode.startswith("I"):
            return False
        load_pixels(image, data, name)
        rgb = np.asarray(drop_transparency(image).convert("RGB"))
        found = (rgb[..., 0] == 0) & rgb[..., 1:].any(axis=-1)
        if image.has_transparency_data:
            found &= np.asarray(image.convert("RGBA"))[..., 3] != 0
        return bool(found.any())


def _marked(image: Image.Image, name: str) -> npt.NDArray[np.bool_]:
    """Return where a loaded mask (H, W) marks a defect."""
    if image.mode == "1":
        pixels = np.asarray(image)
        return ~pixels if _is_inverted_array(image) else pixels
    if image.mode.startswith("I"):
        return grey_values(image, name) != 0
    if image.mode in ("P", "PA"):
        return _marked_by_palette(image, name)
    transparent = image.has_transparency_data
    rgba = np.asarray(image.convert("RGBA")) if transparent else None
    if image.mode in ("L", "LA"):
        first = np.asarray(image.getchannel(0)) != 0
    else:
        first = np.asarray(drop_transparency(image).convert("RGB"))[..., 0] != 0
    if rgba is not None and first.all():
        opaque = rgba[..., 3] != 0
        return first if opaque.all() or not opaque.any() else opaque
    return first


def _marked_by_palette(image: Image.Image, name: str) -> npt.NDArray[np.bool_]:
    rgba = np.asarray(image.convert("RGBA"))
    first, opaque = rgba[..., 0] != 0, rgba[..., 3] != 0
    if (rgba[..., :3].any(axis=-1) != first).any():
        raise DataError(
            f"{name} has palette colours without red, neither clearly defect nor good; "
            "save the mask in black and white"
        )
    if not first.all():
        return first
    if opaque.any() and not opaque.all():
        return opaque
    places = np.asarray(image.getchannel(0)) != 0
    return places if places.any() and not places.all() else first


def _is_inverted_array(image: Image.Image) -> bool:
    """Tell whether Pillow inverts a TIFF of 1 bit that is no picture."""
    return (
        isinstance(image, TiffImageFile)
        and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        and image.tag_v2.get(_COMPRESSION, 1) not in _FAX
    )
