"""Values of more than 8 bits: the depth that a file declares, and what they are on 8 bits.

Cameras of 10, 12 or 14 bits write their values into 16. Read as 16 bits they are nearly black, so a
file's word counts: BitsPerSample or MaxSampleValue of a TIFF, sBIT of a PNG, maxval of a PGM.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fade.errors import DataError

MAX_UINT16 = 65535
"""The highest value of 16 bits."""
_BITS, _SIGN, _HIGHEST, _HIGHEST_BY_TYPE = 258, 339, 281, 341  # TIFF tags
_SIGNED = 2
_DECLARABLE = {(1 << bits) - 1 for bits in range(9, 16)}


def grey_values(image: Image.Image, name: str) -> npt.NDArray[np.integer]:
    """The values (H, W) of a loaded grey image of more than 8 bits, from 0 to 65535.

    Raises:
        DataError: values beyond that.
    """
    values = np.asarray(image)
    if isinstance(image, TiffImageFile) and values.itemsize == 4 and not is_signed(image):
        values = values.view(np.uint32)  # Pillow knows signed ones only
    refuse_beyond(values, name)
    return values


def to_eight_bits(values: npt.NDArray[np.integer], highest: int) -> npt.NDArray[np.uint8]:
    """Values (H, W) from 0 to ``highest`` as 0 to 255, rounded."""
    return ((values.astype(np.uint32) * 255 + highest // 2) // highest).astype(np.uint8)


def grey_maximum(image: Image.Image, data: bytes, values: npt.NDArray[np.integer]) -> int:
    """The value that stands for white: what the file declares where its values agree, or 65535.

    A PNG that declares fewer bits than it has shall fill the upper ones, so that white is 65535;
    many writers fill the lower ones instead, which shows in the values.

    Args:
        image: loaded.
        data: the whole file.
        values: of the image, see :func:`grey_values`.
    """
    declared = declared_maximum(image, data)
    if declared is None or int(values.max()) > declared:
        return MAX_UINT16
    spare = MAX_UINT16 >> declared.bit_length()
    fills_upper = image.format == "PNG" and not (values & spare).any()
    return MAX_UINT16 if fills_upper else declared


def declared_maximum(image: Image.Image, data: bytes) -> int | None:
    """The highest value below 65535 that a file of 9 to 16 bits says it can hold, if it says so.

    ``image`` is opened, and not loaded yet where it is a PGM or PPM, which Pillow scales by itself;
    ``data`` is the whole file.
    """
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        found = {(1 << bits) - 1 for bits in tags.get(_BITS, (1,))} & _DECLARABLE
        for tag in (_HIGHEST, _HIGHEST_BY_TYPE):
            value = tags.get(tag, ())
            # the highest value that occurs is written there, too: only a full depth tells one
            found |= set(value if isinstance(value, tuple) else (value,)) & _DECLARABLE
        return int(max(found)) if found else None
    if image.format == "PNG":
        bits = _significant_bits(data)
        return (1 << bits) - 1 if 8 < bits < 16 else None
    if image.format == "PPM" and isinstance(image, ImageFile.ImageFile):
        return max((m for m in _maxvals(image) if m < MAX_UINT16), default=None)
    return None


def is_deep_colour(image: Image.Image) -> bool:
    """Whether Pillow reads a colour image of 16 bits a channel as one of 8: low bytes are lost."""
    if not isinstance(image, ImageFile.ImageFile) or image.mode.startswith("I"):
        return False
    if image.format == "PPM" and image.mode == "RGB":
        return any(maxval > 255 for maxval in _maxvals(image))
    return ";16" in str(image.tile)


def _maxvals(image: ImageFile.ImageFile) -> list[int]:
    """The maxval of an opened PPM or PGM, in a list; it lacks where Pillow reads it as it is."""
    found = image.tile[0][3] if image.tile else ()
    return [part for part in found if isinstance(part, int)] if isinstance(found, tuple) else []


def refuse_shallow_colour(image: Image.Image, data: bytes, name: str) -> None:
    """Refuse a loaded colour image of 16 bits a channel that fills the lower ones only.

    Raises:
        DataError: it would be nearly black.
    """
    declared = declared_maximum(image, data)
    if declared and image.mode == "RGB" and np.asarray(image).max() <= declared >> 8:
        raise DataError(
            f"{name} has colours of {declared.bit_length()} bits in 16, which would be read as nearly "
            "black; save it with 8 bits a channel, or scaled to 16"
        )


def is_signed(image: TiffImageFile) -> bool:
    """Whether a TIFF says that its values have a sign."""
    return bool(image.tag_v2.get(_SIGN, (1,))[0] == _SIGNED)


def refuse_beyond(values: npt.NDArray[np.integer], name: str) -> None:
    """Refuse values that are no grey of 16 bits.

    Raises:
        DataError: some are.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > MAX_UINT16:
        raise DataError(
            f"{name} has values from {low} to {high}, beyond 0 to {MAX_UINT16}; "
            "save it with 8 or 16 bits a channel"
        )


def _significant_bits(data: bytes) -> int:
    """The highest number of a PNG's sBIT chunk, of its colours; 16 without one."""
    at = data.find(b"sBIT", 8, data.find(b"IDAT", 8))
    if at < 0:
        return 16
    length = int.from_bytes(data[at - 4 : at], "big")
    bits = data[at + 4 : at + 4 + length]
    colours = bits[:-1] if data[25] in (4, 6) else bits  # without the one of transparency
    return max(colours, default=16)
