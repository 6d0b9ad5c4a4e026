"""The background of objects scores 0: AnomalyDINO's foreground mask, applied to vision maps."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.layout import Space
from cache.store import Store
from fade.aspect import Shape
from fade.errors import counted
from fade.foreground import foreground
from pipeline.config.evaluate import EvaluateParams
from pipeline.evaluation.component import Component
from pipeline.scoring.components import patch_grid

log = logging.getLogger("fade")


def foreground_mask(
    patches: np.ndarray, space: Space, threshold: float, grid: Shape
) -> NDArray[np.bool_] | None:
    """Which patches of an image show its object; None where none is found, so that all of them count.

    Args:
        patches: (patches, dim) of the image as the store keeps them.
        threshold: in units of the feature, see :func:`fade.foreground.foreground`.
        grid: (rows, columns) of the mask; the nearest patch of the feature decides.
    """
    import cv2

    rows = np.asarray(patches, np.float32).reshape(*patch_grid(space), -1)
    mask = foreground(rows, threshold)
    if not mask.any():
        return None
    scaled = cv2.resize(mask.astype(np.uint8), grid[::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(scaled > 0)


def masked_map(
    name: str, vision: np.ndarray, patches: np.ndarray, space: Space, threshold: float
) -> np.ndarray:
    """A vision map (rows, columns) of one image with 0 in the background; as it is without foreground.

    Args:
        name: of the image, for the log.
        patches, space, threshold: see :func:`foreground_mask`.
    """
    mask = foreground_mask(patches, space, threshold, (vision.shape[0], vision.shape[1]))
    if mask is None:
        log.warning("%s: no foreground was found, so that all patches count", name)
        return vision
    return np.where(mask, vision, np.float32(0))


@dataclass(frozen=True)
class Foregrounds:
    """What the vision maps of one block are masked by.

    Attributes:
        feature: that tells objects from background, of the images.
        wanted: for each image whether its background scores 0.
        threshold: in units of the feature.
    """

    feature: Component
    wanted: tuple[bool, ...]
    threshold: float

    def masked(
        self, store: Store, maps: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray], tuple[int, ...]]:
        """The maps with 0 in the background.

        Args:
            maps: of each trial (images, rows, columns).

        Returns:
            The masked maps, and the images without any foreground, whose maps stay.
        """
        found = [np.array(one) for one in maps]
        numbers = [number for number, wanted in enumerate(self.wanted) if wanted]
        if not numbers or not found:
            return found, ()
        rows = store.read(self.feature.space, [self.feature.places[i] for i in numbers])
        without = []
        for number, patches in zip(numbers, rows, strict=True):
            grid = (found[0].shape[1], found[0].shape[2])
            mask = foreground_mask(patches, self.feature.space, self.threshold, grid)
            if mask is None:
                without.append(number)
                continue
            for of_trial in found:
                of_trial[number] *= mask
        return found, tuple(without)


def foregrounds(
    evaluate: EvaluateParams, feature: Component, categories: Iterable[str]
) -> Foregrounds:
    """What the maps of some images are masked by.

    Args:
        feature: the images' patches.
    """
    wanted = tuple(evaluate.masks_background(category) for category in categories)
    return Foregrounds(feature, wanted, evaluate.foreground_threshold)


def foreground_warnings(
    without: Mapping[str, int], images: Iterable[str], evaluate: EvaluateParams
) -> list[str]:
    """Says where no foreground was found, and which named categories there are not.

    Args:
        without: by category so many test images.
        images: the category of each test image.
    """
    total, threshold = Counter(images), evaluate.foreground_threshold
    unknown = sorted(set(evaluate.foreground_overrides) - set(total))
    named = f"evaluate.foreground_overrides names {', '.join(unknown)}, of which there are no test images"
    return ([named] if unknown and total else []) + [
        f"{category}: no foreground was found in {count} of {counted(total[category], 'test image')}, so "
        f"that all of their patches count; evaluate.foreground_threshold {threshold:g} is high for this "
        "network where there are many"
        for category, count in sorted(without.items())
    ]
