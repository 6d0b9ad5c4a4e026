"""Image files to RGB: what Pillow decodes, and what it would get wrong without a word.

Pillow decodes. What it does by itself and is kept: colours of more than 8 bits a channel lose their
low byte (grey of up to 16 bits does not: it is scaled here), CMYK is converted without a colour
profile.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fade.bombs import check_work
from fade.damage import find_damage, is_cut
from fade.depth import (
    grey_maximum,
    grey_values,
    is_deep_colour,
    is_signed,
    refuse_beyond,
    refuse_shallow_colour,
    to_eight_bits,
)
from fade.errors import DataError, FadeError, first_line
from fade.parts import png_chunks

# Named one by one: Pillow also opens formats that start other programs (EPS).
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_ORIENTATION = 0x0112
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _PLANES = 256, 257, 258, 262, 284  # TIFF tags
_WHITE_IS_ZERO, _APART = 0, 2  # values of the last two
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_PNG_EXIF = (b"eXIf", b"iTXtXML:com.adobe.xmp", b"zTXtRaw profile type", b"tEXtRaw profile type")

_TELL_ORIENTATION = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow looks for an orientation in what an image brings along."""

SWAPPED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

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

    Transparency is dropped, not blended; grey is repeated in each channel; grey of 9 to 16 bits is
    scaled from the depth that the file declares (:mod:`fade.depth`), 16 where it declares none, and
    rounded. ``exif_rotation`` turns and flips the image as its orientation tag
    says; without it the pixels stay as stored (TIFF too, which Pillow would turn). Raises DataError
    for files that are empty, cut short, damaged as far as their format tells, animated, too large,
    of an unknown format or not integers.

    Examples:
        >>> decode_rgb(b"P5 2 1 255 " + bytes([0, 255]), "two.pgm").getpixel((1, 0))
        (255, 255, 255)
    """
    with pillow_errors(name):
        image = open_image(data, name)
        turn, deep = turn_after_load(image, exif_rotation), is_deep_colour(image)
        load_pixels(image, data, name)
        if deep:
            refuse_shallow_colour(image, data, name)
        return turned(_to_rgb(image, data, name), turn)


def picture_rgb(image: Image.Image, name: str, *, exif_rotation: bool = False) -> Image.Image:
    """A PIL image as 8-bit RGB; ``name`` stands in error messages.

    One that was opened and whose pixels are not read yet is what :func:`decode_rgb` makes of its
    file. Others are as they are; they are turned where they still have an orientation tag. Raises
    DataError for an image that cannot be read, and for one in memory with more than 8 bits a channel:
    Pillow would clip it at 255, and it does not say which value is white.

    Examples:
        >>> picture_rgb(Image.new("L", (640, 480), 7), "image 0").getpixel((0, 0))
        (7, 7, 7)
    """
    with pillow_errors(name):
        if (data := _unread_file(image)) is not None:
            return decode_rgb(data, name, exif_rotation=exif_rotation)
        if image.mode.startswith(("I", "F")):
            raise DataError(
                f"{name} is a PIL image of mode {image.mode}, which does not say which value is "
                "white; give the path of its file, or 8 bits a channel"
            )
        turn = _orientation(image) if exif_rotation else 1
        return turned(drop_transparency(image.copy()).convert("RGB"), turn)


def _unread_file(image: Image.Image) -> bytes | None:
    """The file of an image whose pixels are not read yet, None where there is no such file."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.fp is None:
        return None
    if getattr(image, "is_animated", False):
        return None
    position = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(position)
    return data


def image_size(data: bytes, name: str, *, exif_rotation: bool = False) -> tuple[int, int]:
    """Return (width, height) in pixels of what :func:`decode_rgb` would return.

    Reads the header (when the orientation is asked for, a whole PNG that may have one). Raises
    DataError for what the header shows: empty, animated, too large or unknown files.

    Examples:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (640, 480)).save(file, "PNG")
        >>> image_size(file.getvalue(), "000.png")
        (640, 480)
    """
    with pillow_errors(name):
        image = open_image(data, name)
        width, height = stored_size(image)
        swapped = exif_rotation and stored_orientation(image, data) in SWAPPED
        return (height, width) if swapped else (width, height)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) in pixels of an opened image as it is stored, not turned."""
    if isinstance(image, TiffImageFile):
        # Pillow's versions differ in whether its size is that of the turned image.
        return int(image.tag_v2[_WIDTH]), int(image.tag_v2[_HEIGHT])
    return image.size


def stored_orientation(image: Image.Image, data: bytes) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8; 1, upright, where it has none.

    ``data`` is the whole file. Reads the header alone; a PNG only where it has such data.
    """
    if image.format == "PNG" and not _has_png_exif(data):
        return 1
    return _orientation(image)


def _has_png_exif(data: bytes) -> bool:
    """Whether some chunk of a PNG may hold an orientation, which may stand behind its pixels."""
    return any(data.startswith(_PNG_EXIF, start - 4) for _, start, _ in png_chunks(data))


@contextmanager
def pillow_errors(name: str) -> Iterator[None]:
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
        reason = first_line(error)
        raise DataError(f"{name} cannot be decoded ({reason}); replace or remove it") from error


def open_image(data: bytes, name: str) -> Image.Image:
    """Read the header and refuse what has no one right picture in it."""
    if not data:
        raise DataError(f"{name} is empty (0 bytes); replace or remove it")
    check_work(data, name)
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


def load_pixels(image: Image.Image, data: bytes, name: str) -> None:
    """Decode the pixels; refuse what Pillow fills up or wraps without a word."""
    colours = len(image.palette.palette) // 3 if image.palette else 0
    if damage := find_damage(image, data):
        raise DataError(f"{name} cannot be decoded ({damage}); replace or remove it")
    image.load()
    if image.format == "PNG" and image.mode == "P":
        highest = np.asarray(image).max()
        if highest >= colours:
            raise DataError(
                f"{name} has a pixel of colour {highest}, but its palette ends at {colours - 1}; "
                "replace or remove it"
            )
    if isinstance(image, TiffImageFile) and image.mode == "L" and is_signed(image):
        refuse_beyond(np.asarray(image).view(np.int8), name)
    if is_cut(image, data):
        raise DataError(f"{name} cannot be decoded (pixels are missing); replace or remove it")


def _too_large(name: str, pixels: int | None) -> DataError:
    count = "too many" if pixels is None else f"{pixels:,}"
    return DataError(
        f"{name} has {count} pixels, the limit is {Image.MAX_IMAGE_PIXELS:,}; "
        "crop it or scale it down"
    )


def _to_rgb(image: Image.Image, data: bytes, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        values = grey_values(image, name)
        grey = to_eight_bits(values, grey_maximum(image, data, values))
        return Image.fromarray(grey).convert("RGB")
    return drop_transparency(image).convert("RGB")


def drop_transparency(image: Image.Image) -> Image.Image:
    """The same image, which no longer says which colour is transparent: Pillow warns of it."""
    image.info.pop("transparency", None)
    return image


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in _UPRIGHT else 1


def turn_after_load(image: Image.Image, exif_rotation: bool) -> int:
    """Return the orientation to make upright after ``load``, which by itself turns TIFFs only."""
    if isinstance(image, TiffImageFile):
        tagged = _orientation(image)
        return 1 if exif_rotation else {6: 8, 8: 6}.get(tagged, tagged)  # back to as stored
    return _orientation(image) if exif_rotation else 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image made upright, given its EXIF orientation.

    It no longer has what tells of one, so that whoever takes it does not turn it once more.
    """
    if orientation == 1:
        return image
    upright = image.transpose(_UPRIGHT[orientation])
    for name in _TELL_ORIENTATION:
        upright.info.pop(name, None)
    return upright
