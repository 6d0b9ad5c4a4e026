"""What happens to images and masks before FADE sees them: decoding, and resizing to its sizes."""

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from fade.aspect import AspectRatio, Shape
from fade.decode import decode_rgb, image_size
from fade.errors import DataError, ParameterError
from fade.masks import decode_mask

__all__ = [
    "decode_mask", "decode_rgb", "image_size", "resampling", "resize_image", "resize_mask",
    "resize_square",
]  # fmt: skip

_RESAMPLING = "650553ec378db643"
"""What :func:`resampling` finds with Pillow 13."""


@cache
def resampling() -> dict[str, str]:
    """What a feature's address says of the Pillow that resizes: nothing where it does as Pillow 13.

    Pillow 12 shrinks tall images by other steps: a few pixels differ by up to 12 of 255. Such features
    must not share an address.

    >>> from fade.preprocess import resampling
    >>> resampling()
    {}
    """
    found = hashlib.sha256()
    for shape, size in (((120, 40), (32, 16)), ((40, 120), (16, 32)), ((24, 24), (40, 40))):
        steps = np.arange(3 * shape[0] * shape[1])
        pattern = ((steps * steps // 7 + steps * 31) % 256).astype(np.uint8).reshape(*shape, 3)
        resized = Image.fromarray(pattern).resize(size, Image.Resampling.BICUBIC)
        found.update(resized.tobytes())
    digest = found.hexdigest()[:16]
    return {} if digest == _RESAMPLING else {"resampling": digest}


def resize_square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """Resize an RGB image to ``size`` x ``size`` with Pillow's bicubic filter.

    Returns a contiguous, read-only uint8 array of shape (size, size, 3). Raises ParameterError for
    a size below 1 and DataError for an image that is not RGB.
    """
    return resize_image(image, (size, size))


def resize_image(
    image: Image.Image, shape: Shape, aspect: AspectRatio | None = None
) -> npt.NDArray[np.uint8]:
    """Resize an RGB image to (height, width) pixels with Pillow's bicubic filter.

    With an aspect ratio whose sizes are of the smaller edge, right and bottom may be cropped.

    Returns a contiguous, read-only uint8 array of shape (height, width, 3). Raises ParameterError
    for a side below 1 and DataError for an image that is not RGB.

    Examples:
        >>> resize_image(Image.new("RGB", (640, 480), "red"), (224, 224))[0, 0].tolist()
        [255, 0, 0]
        >>> resize_image(Image.new("RGB", (640, 480)), (224, 224)).shape
        (224, 224, 3)
    """
    height, width = _checked(shape)
    if image.mode != "RGB":
        raise DataError(f"image has mode {image.mode}, RGB is needed; decode it with decode_rgb")
    tall, wide = (height, width) if aspect is None else aspect.uncropped((height, width))
    resized = np.asarray(image.resize((wide, tall), Image.Resampling.BICUBIC))
    return _frozen(np.ascontiguousarray(resized[:height, :width]))


def resize_mask(mask: npt.NDArray[np.bool_], size: int | Shape) -> npt.NDArray[np.bool_]:
    """Resize a boolean mask (height, width) to a square or shape: bilinear, antialiased, above 0.5.

    Computed in float32 by Pillow (mode F). Raises ParameterError for a side below 1 and DataError
    for a mask that is not boolean, two-dimensional and filled.

    Examples:
        >>> mask = np.array([[True, True, False, False]] * 4)
        >>> resize_mask(mask, 2).tolist()
        [[True, False], [True, False]]
    """
    height, width = _checked((size, size) if isinstance(size, int) else size)
    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise DataError(
            f"mask has shape {mask.shape} and type {mask.dtype}; "
            "a boolean array (height, width) is needed"
        )
    if mask.shape == (height, width):  # which Pillow copies
        return _frozen(mask.copy())
    resized = Image.fromarray(mask.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return _frozen(np.asarray(resized) > 0.5)


def _checked(shape: Shape) -> Shape:
    if min(shape) < 1:
        raise ParameterError(f"size is {min(shape)} pixels, at least 1 is needed")
    return shape


def _frozen(array: npt.NDArray) -> npt.NDArray:
    array.flags.writeable = False
    return array
