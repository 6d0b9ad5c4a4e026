"""Pictures and maps as image files, each written whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fade.errors import StoreError
from fade.files import atomic_write


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in a line that a file cannot be written (StoreError).

    Examples:
        >>> with writing(Path("results/map.png")):
        ...     raise PermissionError(13, "Permission denied")
        Traceback (most recent call last):
            ...
        fade.errors.StoreError: results/map.png cannot be written: Permission denied
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{error.filename or path} cannot be written: {error.strerror or error}"
        ) from None


def write_picture(pixels: NDArray, path: Path) -> None:
    """Write an image file whose suffix says the format; floating-point numbers as TIFF.

    Args:
        pixels: (h, w) or RGB (h, w, 3) uint8; (h, w) uint16; or (h, w) floating-point numbers for a
            TIFF file.

    Raises:
        OSError: that names the file.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as place:
        ...     write_picture(np.zeros((4, 6, 3), np.uint8), Path(place, "map.png"))
        ...     Image.open(f"{place}/map.png").size
        (6, 4)
    """
    with atomic_write(path) as part:
        if pixels.dtype.kind == "f":
            import tifffile

            tifffile.imwrite(part, pixels, photometric="minisblack")
            return
        from PIL import Image

        image, suffix = Image.fromarray(np.ascontiguousarray(pixels)), path.suffix.lower()
        Image.preinit()  # PNG and JPEG: the forty other formats take longer than a picture
        form = Image.EXTENSION.get(suffix) or Image.registered_extensions()[suffix]
        image.save(part, format=form)
