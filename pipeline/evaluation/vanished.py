"""Defects too thin for the size of the evaluation: which lose all their pixels, and what keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fade.aspect import Shape
from fade.errors import counted
from fade.preprocess import resize_mask
from fade.regions import Regions, occupied
from pipeline.config.values import MAX_SIZE, EvaluationSize


@dataclass(frozen=True, slots=True)
class Vanished:
    """Defects of some images that have no pixel at the size of the evaluation.

    Attributes:
        images: defect images without a defect pixel left, although their masks have some.
        regions: defect regions without a pixel left in images that keep others.
        factor: how many times as large, per side, the size must be so that each of the images keeps
            a pixel: a power of 2, 1 where there are none.
        whole: whether only the images' own size keeps one in each.
    """

    images: int = 0
    regions: int = 0
    factor: int = 1
    whole: bool = False

    def __add__(self, other: Vanished) -> Vanished:
        return Vanished(
            self.images + other.images,
            self.regions + other.regions,
            max(self.factor, other.factor),
            self.whole or other.whole,
        )

    def suggested_size(self, size: EvaluationSize) -> EvaluationSize:
        """The ``evaluate.size`` at which each of the images has a defect pixel."""
        if size == "image" or self.whole or not self.images or size * self.factor > MAX_SIZE:
            return "image"
        return size * self.factor


def find_vanished(
    mask: NDArray[np.bool_], left: Regions, larger: Callable[[int], Shape] | None = None
) -> Vanished:
    """What a mask (H, W), True where defect, loses when it is resized.

    Args:
        mask: at the image's own size.
        left: the regions of the resized mask.
        larger: the shape at a size so many times as large; None: both sides are so many times as long.
    """
    import cv2

    if left.shape == mask.shape:
        return Vanished()
    part = occupied(mask)
    found, labels = cv2.connectedComponents(mask[part].astype(np.uint8), connectivity=8)
    count = found - 1  # without the background
    if not left.count:
        times = larger or (lambda factor: (left.shape[0] * factor, left.shape[1] * factor))
        return _all_vanished(mask, times) if count else Vanished()
    # of more regions some may be gone where as many are left: thin ones fall to pieces
    if count <= 1:
        return Vanished()
    over = _enlarged(left, (mask.shape[0], mask.shape[1]))[part]
    return Vanished(regions=count - int(np.count_nonzero(np.unique(labels[over]))))


def _enlarged(left: Regions, shape: Shape) -> NDArray[np.bool_]:
    """Which pixels of a mask lie under those that are left of it."""
    found = np.zeros(left.shape, bool)
    found.ravel()[left.pixels] = True
    for axis, (many, few) in enumerate(zip(shape, left.shape, strict=True)):
        starts = np.arange(many) * few // many
        # of an enlarged mask several lie over one pixel
        found = (
            found.take(starts, axis) if few <= many else np.logical_or.reduceat(found, starts, axis)
        )
    return found


def _all_vanished(mask: NDArray[np.bool_], larger: Callable[[int], Shape]) -> Vanished:
    factor = 2
    while (shape := larger(factor))[0] < mask.shape[0] or shape[1] < mask.shape[1]:
        if resize_mask(mask, shape).any():
            return Vanished(1, factor=factor)
        factor *= 2
    return Vanished(1, whole=True)


def vanished_remarks(
    found: Mapping[str, Vanished], masked: Mapping[str, int], size: EvaluationSize
) -> list[str]:
    """What a reader of the pixel metrics must know of thin defects, at most two lines a category.

    Args:
        found: by category.
        masked: how many defect images of a category have a mask.
        size: ``evaluate.size``.
    """
    lines = []
    for category, lost in found.items():
        if lost.images:
            lines.append(
                f"{category}: no defect pixel is left at evaluate.size {size} in {lost.images} of "
                f"{counted(masked[category], 'defect image')} with a mask, left out of pixel metrics: "
                f"set evaluate.size to {lost.suggested_size(size)} to keep a part of each"
                + ("" if lost.suggested_size(size) == "image" else ", to image to keep every pixel")
            )
        if lost.regions:
            lines.append(
                f"{category}: no pixel is left at evaluate.size {size} of "
                f"{counted(lost.regions, 'defect region')}, in images that keep others, counted as "
                "normal: set evaluate.size to image to keep every pixel"
            )
    return lines


def vanished_counts(found: Mapping[str, Vanished], size: EvaluationSize) -> dict[str, Any]:
    """The same by category as ``evaluation.json`` holds it, with the size that keeps the images."""
    return {
        category: {
            "images": lost.images,
            "regions": lost.regions,
            "suggested_size": lost.suggested_size(size),
        }
        for category, lost in found.items()
    }
