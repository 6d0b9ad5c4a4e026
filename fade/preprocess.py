"""Turns image files into the arrays that FADE works on: resized RGB and boolean masks.

Pillow decodes. What it does by itself and is kept: colours of more than 8 bits a channel lose their
low byte (16-bit greyscale does not: it is scaled here), CMYK is converted without a colour profile.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fade.aspect import Shape
from fade.damage import is_cut
from fade.errors import DataError, FadeError, ParameterError

# Named one by one: Pillow also opens formats that start other programs (EPS).
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_ORIENTATION = 0x0112
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _PLANES, _SIGN = 256, 257, 258, 262, 284, 339  # TIFF tags
_WHITE_IS_ZERO, _APART, _SIGNED = 0, 2, 2  # values of the last three
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_UPRIGHT = {  # what makes an image upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_rgb(data: bytes, name: str, *, exif_rotation: bool = False) -> Image.Image:
    """Decode an image file's bytes to 8-bit RGB; ``name`` stands in error messages.

    Transparency is dropped, not blended; grey is repeated in each channel; 16-bit grey values are
    divided by 257 and rounded. ``exif_rotation`` turns and flips the image as its orientation tag
    says; without it the pixels stay as stored (TIFF too, which Pillow would turn). Raises DataError
    for files that are empty, cut short, animated, too large, of an unknown format or not integers.
    """
    with _errors_of_pillow(name):
        image = _open(data, name)
        turn = _turn_after_load(image, exif_rotation)
        _load(image, data, name)
        return _turned(_to_rgb(image, name), turn)


def image_size(data: bytes, name: str, *, exif_rotation: bool = False) -> tuple[int, int]:
    """Return (width, height) in pixels of what :func:`decode_rgb` would return.

    Reads the header (a whole PNG when its orientation is asked for). Raises DataError for what the
    header shows: empty, animated, too large or unknown files.
    """
    with _errors_of_pillow(name):
        image = _open(data, name)
        width, height = image.size
        if isinstance(image, TiffImageFile):
            # Pillow's versions differ in whether its size is that of the turned image.
            width, height = int(image.tag_v2[_WIDTH]), int(image.tag_v2[_HEIGHT])
        turned = exif_rotation and _orientation(image) in (5, 6, 7, 8)
        return (height, width) if turned else (width, height)


def resize_square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """Resize an RGB image to ``size`` x ``size`` with Pillow's bicubic filter.

    Returns a contiguous, read-only uint8 array of shape (size, size, 3). Raises ParameterError for
    a size below 1 and DataError for an image that is not RGB.
    """
    return resize_image(image, (size, size))


def resize_image(image: Image.Image, shape: Shape) -> npt.NDArray[np.uint8]:
    """Resize an RGB image to (height, width) pixels with Pillow's bicubic filter.

    Returns a contiguous, read-only uint8 array of shape (height, width, 3). Raises ParameterError
    for a side below 1 and DataError for an image that is not RGB.
    """
    height, width = _checked(shape)
    if image.mode != "RGB":
        raise DataError(f"image has mode {image.mode}, RGB is needed; decode it with decode_rgb")
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return _frozen(np.ascontiguousarray(resized))


def decode_mask(data: bytes, name: str, *, exif_rotation: bool = False) -> npt.NDArray[np.bool_]:
    """Decode a mask file's bytes to a read-only boolean array (height, width), True = defect.

    A pixel is a defect where its first channel is not 0. Masks with a palette are looked up in it
    first, so that colours decide, not palette positions. ``exif_rotation`` as in
    :func:`decode_rgb`; give it for masks as for their images. Raises DataError as decode_rgb does,
    and where the first channel cannot tell: palette colours without red, colours of 16 bits a
    channel (Pillow drops the low byte).
    """
    with _errors_of_pillow(name):
        image = _open(data, name)
        if _drops_low_bytes(image):
            raise DataError(
                f"{name} is a mask of 16 bits a channel in {image.mode}; save it as 8-bit greyscale"
            )
        turn = _turn_after_load(image, exif_rotation)
        _load(image, data, name)
        mask = Image.fromarray(_nonzero(image, name).astype(np.uint8))
        return _frozen(np.asarray(_turned(mask, turn)) != 0)


def resize_mask(mask: npt.NDArray[np.bool_], size: int | Shape) -> npt.NDArray[np.bool_]:
    """Resize a boolean mask (height, width) to a square or shape: bilinear, antialiased, above 0.5.

    Computed in float32 by Pillow (mode F). Raises ParameterError for a side below 1 and DataError
    for a mask that is not boolean, two-dimensional and filled.
    """
    height, width = _checked((size, size) if isinstance(size, int) else size)
    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise DataError(
            f"mask has shape {mask.shape} and type {mask.dtype}; "
            "a boolean array (height, width) is needed"
        )
    resized = Image.fromarray(mask.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return _frozen(np.asarray(resized) > 0.5)


@contextmanager
def _errors_of_pillow(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into a DataError that names the file."""
    try:
        yield
    except (FadeError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        raise _too_large(name, int(pixels[0]) if pixels else None) from error
    except Image.UnidentifiedImageError as error:
        raise DataError(
            f"{name} is not a readable image ({', '.join(_FORMATS)}); replace or remove it"
        ) from error
    except Exception as error:  # Pillow raises a dozen types for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name} cannot be decoded ({reason}); replace or remove it") from error


def _open(data: bytes, name: str) -> Image.Image:
    """Read the header and refuse what has no one right picture in it."""
    if not data:
        raise DataError(f"{name} is empty (0 bytes); replace or remove it")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.UnidentifiedImageError:
        if not data.startswith(_TIFF_STARTS):
            raise
        raise DataError(
            f"{name} is a TIFF of a kind that is not read, or damaged; save it with 8 or 16 bits a "
            "channel, not floating-point, or replace or remove it"
        ) from None
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise _too_large(name, width * height)
    # A JPEG may carry previews behind its picture (MPO); its first frame is the picture. An animated
    # PNG's further frames lie in chunks of their own: without them it has but one, whatever it says.
    several = image.format != "MPO" and getattr(image, "is_animated", False)
    if several and not (image.format == "PNG" and b"fdAT" not in data):
        raise DataError(f"{name} has several frames; save the one to inspect as a file of its own")
    if image.mode == "F":
        raise DataError(f"{name} has floating-point pixels; save it with 8 or 16 bits a channel")
    if isinstance(image, TiffImageFile):
        _refuse_misread(image, name)
    if image.format == "PNG" and image.mode == "P" and image.palette is None:
        raise DataError(f"{name} is a PNG with a palette that it lacks; replace or remove it")
    return image


def _refuse_misread(image: TiffImageFile, name: str) -> None:
    """Refuse TIFFs whose pixels Pillow would get wrong without a word."""
    tags = image.tag_v2
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if image.mode.startswith("I") and inverted:
        raise DataError(f"{name} is a 16-bit TIFF whose 0 is white; save it with 0 as black")
    apart = tags.get(_PLANES) == _APART and all(tile[0] == "raw" for tile in image.tile)
    if apart and (inverted or not {1, 8}.issuperset(tags.get(_BITS, (1,)))):
        raise DataError(
            f"{name} is an uncompressed TIFF with its channels in planes that are not plain 8 bits; "
            "save it compressed, or with the channels of each pixel together"
        )


def _load(image: Image.Image, data: bytes, name: str) -> None:
    """Decode the pixels; refuse what Pillow fills up or wraps without a word."""
    colours = len(image.palette.palette) // 3 if image.palette else 0
    image.load()
    if image.format == "PNG" and image.mode == "P":
        highest = np.asarray(image).max()
        if highest >= colours:
            raise DataError(
                f"{name} has a pixel of colour {highest}, but its palette ends at {colours - 1}; "
                "replace or remove it"
            )
    if isinstance(image, TiffImageFile) and image.mode == "L" and _is_signed(image):
        _refuse_beyond(np.asarray(image).view(np.int8), name)
    if is_cut(image, data):
        raise DataError(f"{name} cannot be decoded (pixels are missing); replace or remove it")


def _too_large(name: str, pixels: int | None) -> DataError:
    count = "too many" if pixels is None else f"{pixels:,}"
    return DataError(
        f"{name} has {count} pixels, the limit is {Image.MAX_IMAGE_PIXELS:,}; "
        "crop it or scale it down"
    )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        values = _sixteen_bits(image, name)
        grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    image.info.pop("transparency", None)  # dropped anyway, and Pillow warns of it
    return image.convert("RGB")


def _nonzero(image: Image.Image, name: str) -> npt.NDArray[np.bool_]:
    """Return where the first channel of a mask is not 0."""
    if image.mode.startswith("I"):
        return _sixteen_bits(image, name) != 0
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.getchannel(0)) != 0
    has_palette = image.mode in ("P", "PA")
    colours = np.asarray(_to_rgb(image, name))
    first = colours[..., 0] != 0
    if has_palette and (colours.any(axis=-1) != first).any():
        raise DataError(
            f"{name} has palette colours without red, neither clearly defect nor good; "
            "save the mask in black and white"
        )
    return first


def _sixteen_bits(image: Image.Image, name: str) -> npt.NDArray[np.integer]:
    values = np.asarray(image)
    if isinstance(image, TiffImageFile) and values.itemsize == 4 and not _is_signed(image):
        values = values.view(np.uint32)  # Pillow knows signed ones only
    _refuse_beyond(values, name)
    return values


def _is_signed(image: TiffImageFile) -> bool:
    return image.tag_v2.get(_SIGN, (1,))[0] == _SIGNED


def _refuse_beyond(values: npt.NDArray[np.integer], name: str) -> None:
    """Refuse values that are no grey of 16 bits."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(
            f"{name} has values from {low} to {high}, beyond 0 to 65535; "
            "save it with 8 or 16 bits a channel"
        )


def _drops_low_bytes(image: Image.Image) -> bool:
    """Tell whether Pillow will read 16 bits a channel as 8."""
    return (
        isinstance(image, ImageFile.ImageFile)
        and ";16" in str(image.tile)
        and not image.mode.startswith("I")
    )


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in _UPRIGHT else 1


def _turn_after_load(image: Image.Image, exif_rotation: bool) -> int:
    """Return the orientation to make upright after ``load``, which by itself turns TIFFs only."""
    if isinstance(image, TiffImageFile):
        tagged = _orientation(image)
        return 1 if exif_rotation else {6: 8, 8: 6}.get(tagged, tagged)  # back to as stored
    return _orientation(image) if exif_rotation else 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])


def _checked(shape: Shape) -> Shape:
    if min(shape) < 1:
        raise ParameterError(f"size is {min(shape)} pixels, at least 1 is needed")
    return shape


def _frozen(array: npt.NDArray) -> npt.NDArray:
    array.flags.writeable = False
    return array
