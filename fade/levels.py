"""Levels of maps: the whole numbers that maps are kept in, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fade.aspect import Shape
from fade.errors import DataError
from fade.filters import PLAIN, Finish
from fade.maps import resize_levels, to_levels
from fade.types import Trial

FINE = 1 << 16
"""Levels of a map whose values have no upper limit, such as Euclidean distances."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Which values the levels of a map stand for: level k is ``offset + k step`` up to the next one.

    Attributes:
        count: of levels, 256 (uint8) or 65,536 (uint16).
        step: from one level to the next.
        offset: of level 0; values below it are level 0, too.
    """

    count: int = 256
    step: float = 1 / 255
    offset: float = 0.0

    @classmethod
    def fine(cls, low: float, high: float) -> Scale:
        """65,536 levels from ``low`` to ``high``.

        Raises:
            DataError: a bound is no finite number.

        Examples:
            >>> scale = Scale.fine(1.0, 3.0)
            >>> scale.levels(np.array([0.0, 1.0, 2.0, 3.0, 9.0])).tolist()
            [0, 0, 32767, 65535, 65535]
        """
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(
                "an anomaly map holds NaN or infinite values: check weights and precision"
            )
        return cls(FINE, (high - low) / (FINE - 1) or 1 / (FINE - 1), low)

    def levels(self, values: np.ndarray) -> np.ndarray:
        """The level of each value: uint8 or uint16."""
        if self == UNIT:
            return to_levels(values)
        found = (values.astype(np.float64) - self.offset) / self.step
        # a hair, so that the value of a level is that level again
        return np.clip(found + 1e-6, 0, self.count - 1).astype(np.uint16)

    def values(self, levels: np.ndarray) -> np.ndarray:
        """The value of each level: float32.

        Examples:
            >>> UNIT.values(np.array([0, 255], np.uint8)).tolist()
            [0.0, 1.0]
        """
        return (self.offset + levels.astype(np.float64) * self.step).astype(np.float32)

    def middles(self, levels: np.ndarray) -> np.ndarray:
        """The value in the middle of each level: float32, to finish a map that was cut to levels.

        The least value of a level is a level lower after rounding.

        Examples:
            >>> (UNIT.middles(np.array([0, 254], np.uint8)) * 255).round(3).tolist()
            [0.5, 254.5]
        """
        return self.values(levels) + np.float32(self.step / 2)

    def shades(self, levels: np.ndarray) -> np.ndarray:
        """Levels as 256 shades of a picture: uint8.

        Examples:
            >>> Scale.fine(0, 1).shades(np.array([0, 65535], np.uint16)).tolist()
            [0, 255]
        """
        return (levels // (self.count // 256)).astype(np.uint8)


Scales = Mapping[tuple[str, Trial], Scale]
"""By category and trial."""
UNIT = Scale()
"""FADE's: values from 0 to 1 in 256 levels."""


def pixel_levels(
    values: np.ndarray, shape: Shape, finish: Finish = PLAIN, scale: Scale = UNIT
) -> np.ndarray:
    """The finished map of an image in levels.

    FADE's own way, without a filter, cuts the patches' values to levels and scales those.

    Args:
        values: (rows, columns) of patches, see :func:`fade.maps.fuse_values`.
        shape: (height, width) in pixels.
        finish: from patches to pixels.
        scale: of the levels.

    Returns:
        (height, width) uint8 or uint16.

    Examples:
        >>> pixel_levels(np.array([[0.0, 1.0]]), (2, 4)).tolist()
        [[0, 64, 191, 255], [0, 64, 191, 255]]
    """
    if scale == UNIT:
        if finish.is_plain:
            return resize_levels(to_levels(values), shape)
        values = np.clip(values, 0, 1)
    return scale.levels(finish.apply(values, shape))
