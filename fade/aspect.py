"""Aspect ratios: what an image size stands for where images keep theirs.

A size of s pixels means s x s where images are squashed to squares. An image that keeps its aspect
ratio gets about as many pixels, and patches, in a rectangle: cost and detail stay those of the size.
The class token is computed on a squashed square all the same: it knows nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from math import gcd, sqrt

from fade.errors import DataError, ParameterError

Shape = tuple[int, int]
"""(height, width) of an image in pixels, (rows, columns) of a grid of patches."""

TOLERANCE = 1.05
"""Factor by which aspect ratios may differ and still share a grid; images are stretched by up to this."""


def count_patches(size: int, stride: int, what: str, of: str) -> int:
    """Patches of ``stride`` pixels along a side of ``size``.

    Args:
        what: the side, for the error: "image size".
        of: the stride, for the error: "the patch size 14 of ViT-L-14".

    Raises:
        ParameterError: the side is no multiple of the stride.

    Examples:
        >>> count_patches(224, 14, "image size", "the patch size 14 of ViT-L-14")
        16
    """
    if size < stride or size % stride:
        low = max(size // stride, 1) * stride
        raise ParameterError(f"{what} {size} is no multiple of {of}: use {low} or {low + stride}")
    return size // stride


@dataclass(frozen=True, slots=True)
class AspectRatio:
    """Width to height, reduced: 2 and 1 for an image of 512 x 256 pixels.

    Raises:
        DataError: a side is below 1.

    Examples:
        >>> AspectRatio(512, 256)
        AspectRatio(width=2, height=1)
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1:
            raise DataError(
                f"an aspect ratio of {self.width} to {self.height} is none: sides are at least 1"
            )
        factor = gcd(self.width, self.height)
        object.__setattr__(self, "width", self.width // factor)
        object.__setattr__(self, "height", self.height // factor)

    @property
    def ratio(self) -> float:
        """Width divided by height."""
        return self.width / self.height

    def shape(self, size: int) -> Shape:
        """The rectangle of about ``size`` x ``size`` cells, pixels or patches, of this ratio.

        Each side is rounded, so it is off by half a cell at most; a square is met exactly. Where a
        side would vanish it is 1, and the other one ``size * size`` at most.

        Examples:
            >>> AspectRatio(4, 1).shape(16)
            (8, 32)
        """
        stretch = sqrt(self.ratio)
        most = size * size
        return (
            min(max(round(size / stretch), 1), most),
            min(max(round(size * stretch), 1), most),
        )

    def uncropped(self, shape: Shape) -> Shape:
        """(height, width) that an image is resized to before it is cropped to so many pixels."""
        return shape

    def fits(self, width: int, height: int) -> bool:
        """Whether an image of so many pixels has this ratio, by a factor of :data:`TOLERANCE`.

        Examples:
            >>> AspectRatio(2, 1).fits(1024, 500), AspectRatio(2, 1).fits(640, 480)
            (True, False)
        """
        factor = width / height / self.ratio
        return 1 / TOLERANCE <= factor <= TOLERANCE


@dataclass(frozen=True, slots=True)
class SmallerEdge(AspectRatio):
    """An aspect ratio whose sizes are those of the smaller edge, as in AnomalyDINO (arXiv 2405.14529).

    The other edge follows, cut to whole cells: what is left of them at the right or bottom, less than
    one patch, is cropped. Where a grid is a square, images are squashed to it all the same.
    """

    def shape(self, size: int) -> Shape:
        """The rectangle whose smaller edge has ``size`` cells, pixels or patches.

        Examples:
            >>> SmallerEdge(3, 2).shape(15), SmallerEdge(1, 2).shape(15)
            ((15, 22), (30, 15))
        """
        return (
            size * max(self.height, self.width) // self.width,
            size * max(self.height, self.width) // self.height,
        )

    def uncropped(self, shape: Shape) -> Shape:
        """(height, width) that an image is resized to before it is cropped to so many pixels.

        Examples:
            >>> SmallerEdge(3, 2).uncropped((210, 308)), SmallerEdge(3, 2).uncropped((210, 210))
            ((210, 315), (210, 210))
        """
        return shape if shape[0] == shape[1] else self.shape(min(shape))


Aspect = AspectRatio
"""Earlier name of :class:`AspectRatio`."""


def shape_of(size: int, aspect: AspectRatio | None) -> Shape:
    """What a size stands for: (size, size), or a rectangle where an aspect ratio is kept.

    Examples:
        >>> shape_of(16, None), shape_of(16, AspectRatio(4, 1))
        ((16, 16), (8, 32))
    """
    return (size, size) if aspect is None else aspect.shape(size)


def median_aspect_ratio(sizes: Iterable[tuple[int, int]]) -> AspectRatio:
    """The median aspect ratio of images of (width, height) pixels: that of one of them.

    Of an even number of images, the narrower one in the middle.

    Raises:
        DataError: there is no image.

    Examples:
        >>> median_aspect_ratio([(640, 480), (320, 240), (100, 100)])
        AspectRatio(width=4, height=3)
    """
    counts = Counter(sizes)  # a million images have few sizes
    found = sorted(
        ((AspectRatio(*size), n) for size, n in counts.items()), key=lambda one: one[0].ratio
    )
    if not found:
        raise DataError("there is no image to take an aspect ratio from")
    reached = accumulate(number for _, number in found)
    middle = (counts.total() - 1) // 2
    return next(one for (one, _), upto in zip(found, reached, strict=True) if upto > middle)
