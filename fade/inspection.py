"""What an image file shows without being decoded: its size, and what makes its pixels doubtful."""

from dataclasses import dataclass

import numpy as np

from fade.damage import ends_in_zeros
from fade.decode import (
    SWAPPED,
    load_pixels,
    open_image,
    pillow_errors,
    stored_orientation,
    stored_size,
)
from fade.depth import MAX_UINT16, declared_maximum, is_deep_colour

DARK = (1 << 14) - 1
"""The highest value of a camera of 14 bits: a file of 16 bits that never goes beyond is doubtful."""


@dataclass(frozen=True, slots=True)
class FileInspection:
    """What an image file shows.

    Attributes:
        width, height: in pixels, as stored.
        orientation: of EXIF, 1 to 8; 1 is upright, and where there is none.
        highest: the highest value of an image of 16 bits that declares no other depth, if that is no
            more than 14 bits hold; None of all others.
        ends_in_zeros: whether it may be a copy that stopped; its format cannot tell.

    Examples:
        >>> FileInspection(640, 480, orientation=6).shown(exif_rotation=True)
        (480, 640)
    """

    width: int
    height: int
    orientation: int = 1
    highest: int | None = None
    ends_in_zeros: bool = False

    def shown(self, exif_rotation: bool) -> tuple[int, int]:
        """(width, height), turned as the camera says or as stored."""
        swapped = exif_rotation and self.orientation in SWAPPED
        return (self.height, self.width) if swapped else (self.width, self.height)


def inspect_image(data: bytes, name: str) -> FileInspection:
    """Look at an image file; reads the header, and the pixels where they have 16 bits.

    Args:
        data: the whole file.
        name: of the file, for errors.

    Raises:
        DataError: it cannot be read.

    Examples:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.fromarray(np.full((4, 6), 900, np.uint16)).save(file, "PNG")
        >>> inspect_image(file.getvalue(), "dark.png")
        FileInspection(width=6, height=4, orientation=1, highest=900, ends_in_zeros=False)
    """
    with pillow_errors(name):
        image = open_image(data, name)
        width, height = stored_size(image)
        orientation, zeros = stored_orientation(image, data), ends_in_zeros(image, data)
        colours = is_deep_colour(image)
        highest = None
        if (image.mode.startswith("I") or colours) and declared_maximum(image, data) is None:
            load_pixels(image, data, name)
            values = np.asarray(image)
            highest = int(values.max())
            if colours:  # their high bytes
                highest = (highest << 8) + 255 if values.dtype == np.uint8 else highest
            highest = highest if 0 < highest <= DARK < MAX_UINT16 else None
        return FileInspection(width, height, orientation, highest, zeros)
