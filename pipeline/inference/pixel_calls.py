"""What a run calls anomalous in an image: the pixels above the threshold, on the image's own pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fade.errors import ParameterError
from pipeline.evaluation.recipe import Recipe, closed, closing_of, measured_size
from pipeline.inference.run import FinishedRun

if TYPE_CHECKING:
    import pandas as pd


def check_pixel_thresholds(run: FinishedRun, tests: pd.DataFrame) -> None:
    """Refuse test images of a category without a pixel threshold (ParameterError)."""
    for category in tests["category"].unique():
        _pixel(run, category)


def _pixel(run: FinishedRun, category: str) -> int:
    threshold = run.thresholds[category]
    if threshold.pixel is None:
        reason = threshold.remark
        if run.params.threshold.source == "labels" and threshold.image is not None:
            reason = (
                "threshold.source is labels, and its test images have no masks with defects; name other "
                "categories with --categories"
            )
        raise ParameterError(f"{category} has no pixel threshold: {reason}")
    return threshold.pixel


@dataclass(frozen=True)
class PixelCalls:
    """The levels and the masks of a run's maps.

    Attributes:
        recipe: by which they are finished.
    """

    run: FinishedRun
    recipe: Recipe

    @classmethod
    def of(cls, run: FinishedRun) -> PixelCalls:
        """Those of a run."""
        return cls(run, Recipe.of(run.params))

    def levels(
        self, category: str, width: int, height: int, values: NDArray[np.float64]
    ) -> NDArray[np.unsignedinteger]:
        """The finished map in levels of its category: (height, width).

        Args:
            width, height: of the image in pixels.
            values: its fused map (rows, columns) as numbers.
        """
        measured = measured_size(self.run.params, width, height, self.run.aspect)
        scale = self.run.thresholds[category].map_scale
        return self.recipe.image_levels(values, measured, (height, width), scale)

    def mask(
        self, category: str, width: int, height: int, values: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Pixels above the threshold, closed where ``evaluate.closing`` asks for it: (height, width).

        Arguments as for :meth:`levels`.

        Raises:
            ParameterError: the category has no pixel threshold.
        """
        pixel, closing = _pixel(self.run, category), closing_of(self.run.params)
        if closing.is_none:
            return self.levels(category, width, height, values) > pixel
        measured = measured_size(self.run.params, width, height, self.run.aspect)
        scale = self.run.thresholds[category].map_scale
        finished = self.recipe.pixels(values, measured, scale)
        return closed(closing, finished, pixel, scale, (height, width))
