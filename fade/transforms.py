"""Transforms of reference images, which put further normal patches into a bank.

Sources: AnomalyDINO (arXiv 2405.14529), section 3: rotations; SubspaceAD (arXiv 2602.23013): random
rotations; SuperADD (arXiv 2605.14808): brightness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fade.aspect import Shape
from fade.errors import ParameterError

Kind = Literal["none", "rotate", "turn", "mirror", "flip", "brightness"]

Augmentation = Literal[
    "none", "flips", "turns_and_mirrors", "rotations", "random_rotations", "brightness"
]

RANDOM_ROTATIONS = 30
"""Of each reference, as SubspaceAD was published; the angles are drawn once, for all references."""

VERSION = 1
"""Raised by hand when a transform gives other pixels; part of every address of a transformed image."""


@dataclass(frozen=True, slots=True, order=True)
class Transform:
    """One transform of an image, applied before it is resized.

    Attributes:
        kind: ``rotate`` by any angle with reflected borders; ``turn`` by quarters; ``mirror`` left to
            right, then turn; ``flip`` upside down (0) or left to right (1); ``brightness`` times a
            factor; ``none``.
        value: degrees, axis or factor.

    Examples:
        >>> image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
        >>> Transform("flip", 1).apply(image).tolist(), Transform("turn", 90).apply(image).shape
        ([[[3, 4, 5], [0, 1, 2]]], (2, 1, 3))
    """

    kind: Kind = "none"
    value: float = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ParameterError(f"transform {self.kind!r} is none of {', '.join(get_args(Kind))}")
        if self.kind in ("turn", "mirror") and self.value % 90:
            raise ParameterError(f"{self.kind} by {self.value:g} degrees: use 0, 90, 180 or 270")
        if self.kind == "flip" and self.value not in (0, 1):
            raise ParameterError(f"flip of axis {self.value:g}: use 0 (upside down) or 1")
        if self.kind == "brightness" and not 0 < self.value <= 10:
            raise ParameterError(
                f"brightness times {self.value:g}: use a factor over 0, at most 10"
            )

    @property
    def label(self) -> str:
        """What stands in an address and in names, e.g. ``rotate-45``."""
        return "none" if self.kind == "none" else f"{self.kind}-{self.value:g}"

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The transformed image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (H, W, 3) uint8, or (W, H, 3) after a turn by 90 or 270 degrees.
        """
        if self.kind == "rotate":
            return rotate(image, self.value)
        if self.kind == "turn":
            return np.ascontiguousarray(np.rot90(image, int(self.value) // 90))
        if self.kind == "mirror":
            return np.ascontiguousarray(np.rot90(image[:, ::-1], int(self.value) // 90))
        if self.kind == "flip":
            return np.ascontiguousarray(np.flip(image, int(self.value)))
        if self.kind == "brightness":
            return np.rint(image * np.float64(self.value)).clip(0, 255).astype(np.uint8)
        return image

    def sources(self, grid: Shape, size: Shape | None = None) -> np.ndarray:
        """For each patch of the transformed image, the nearest patch of the image itself.

        Args:
            grid: (rows, columns) of the image's patches.
            size: (height, width) of the image, which is rotated before it becomes that grid; of its
                aspect ratio by default.

        Returns:
            Positions, counted row by row; of the shape that ``apply`` gives.

        Examples:
            >>> Transform("rotate", 90).sources((2, 2)).tolist()
            [[1, 3], [0, 2]]
        """
        positions = np.arange(grid[0] * grid[1]).reshape(grid)
        if self.kind == "rotate":
            return _rotated_places(positions, self.value, size or grid)
        return positions if self.kind == "brightness" else self.apply(positions)


NONE = Transform()


def rotations(count: int = 8) -> list[Transform]:
    """Rotations by equal steps, the unrotated image first: 0, 45, ..., 315 degrees."""
    if not 1 <= count <= 360:
        raise ParameterError(f"{count} rotations: use 1 to 360")
    return [NONE, *(Transform("rotate", 360 * i / count) for i in range(1, count))]


def random_rotations(count: int, seed: int, most: int = 345) -> list[Transform]:
    """The image itself and rotations by whole degrees from 0 to ``most``, drawn with a seed."""
    angles = np.random.default_rng(seed).integers(0, most + 1, count)
    return [NONE, *(Transform("rotate", int(angle)) for angle in angles)]


def turns_and_mirrors() -> list[Transform]:
    """The eight symmetries of the square: four turns of the image and four of its mirror image."""
    turned = [Transform("turn", angle) for angle in (90, 180, 270)]
    return [NONE, *turned, *(Transform("mirror", angle) for angle in (0, 90, 180, 270))]


def flips() -> list[Transform]:
    """The image, upside down, and left to right."""
    return [NONE, Transform("flip", 0), Transform("flip", 1)]


def transforms_of(name: Augmentation) -> list[Transform]:
    """What becomes of each reference, itself first.

    Examples:
        >>> [transform.label for transform in transforms_of("flips")]
        ['none', 'flip-0', 'flip-1']
    """
    makers: dict[Augmentation, Callable[[], list[Transform]]] = {
        "none": lambda: [NONE],
        "flips": flips,
        "turns_and_mirrors": turns_and_mirrors,
        "rotations": rotations,
        "random_rotations": lambda: list(dict.fromkeys(random_rotations(RANDOM_ROTATIONS, seed=0))),
        "brightness": brightness,
    }
    return makers[name]()


def brightness(low: float = 0.8, high: float = 1.2, count: int = 5) -> list[Transform]:
    """Factors on the pixels, evenly from ``low`` to ``high``; 1 is the image itself."""
    factors = np.linspace(low, high, count).round(6).tolist()
    return [NONE if factor == 1 else Transform("brightness", factor) for factor in factors]


def rotating() -> dict[str, str]:
    """What the address of a rotated image says of the OpenCV that rotates: nothing for OpenCV 5.

    OpenCV 4 interpolates by other steps, and features of both must not share an address. The version
    tells, not a look at pixels: these may differ by processor.

    >>> from fade.transforms import rotating
    >>> rotating()
    {}
    """
    import cv2

    major = cv2.__version__.partition(".")[0]
    return {} if major == "5" else {"rotated_by": f"OpenCV {major}"}


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate counter-clockwise about (W / 2, H / 2); bilinear, borders mirrored without the edge.

    Args:
        image: (H, W, 3) uint8.
        degrees: any.
    """
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def _rotated_places(places: np.ndarray, degrees: float, size: Shape) -> np.ndarray:
    """Numbers of patches (rows, columns) where an image of (height, width) was rotated: int64.

    The image's borders lie at the outer edges of its patches, so that the outermost are repeated.
    """
    import cv2

    rows, columns = places.shape
    middle = np.array([columns - 1, rows - 1]) / 2
    matrix = cv2.getRotationMatrix2D(middle.tolist(), degrees, 1.0)
    if (tall := size[0] / rows / (size[1] / columns)) != 1:  # patches that are no squares
        matrix[:, :2] *= [[1, tall], [1 / tall, 1]]
        matrix[:, 2] = middle - matrix[:, :2] @ middle
    rotated = cv2.warpAffine(
        places.astype(np.float32), matrix, (columns, rows), flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    return rotated.astype(np.int64)
