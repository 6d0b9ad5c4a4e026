"""How an image's score and map come of its components: one way for a run and for new images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fade.aspect import AspectRatio, Shape, shape_of
from fade.closing import Closing
from fade.filters import PLAIN, Finish, resize_scores
from fade.levels import UNIT, Scale, pixel_levels
from fade.maps import fuse_values, image_score, resize_levels
from fade.types import Mode
from pipeline.config.schema import Params
from pipeline.config.values import by_shots


@dataclass(frozen=True, slots=True)
class Recipe:
    """How scores and maps come of components.

    Attributes:
        classification_mode, segmentation_mode: what the score and the map are made of.
        normalize: whether each map is stretched to [0, 1].
        top: the mean of this share, the worst, is the image score of vision; 0: the worst one.
        top_of: of which scores: those of patches, or of the finished map's pixels.
        finish: from patches to pixels.
        batch: whether vision has a batch to compare with at 0 shots, so that its score counts.
        bounded: whether vision's values are within [0, 1], see :func:`fade.maps.image_score`: at zero
            shots, and at some.
        vision_weight, vision_multiplier: share of the vision map in the map, and factor on it: at zero
            shots, and at some.
    """

    classification_mode: Mode
    segmentation_mode: Mode
    normalize: bool = False
    top: float = 0
    top_of: Literal["patches", "pixels"] = "patches"
    finish: Finish = PLAIN
    batch: bool = False
    bounded: tuple[bool, bool] = (True, True)
    vision_weight: tuple[float, float] = (0.85, 0.85)
    vision_multiplier: tuple[float, float] = (3.5, 3.5)

    @classmethod
    def of(cls, params: Params) -> Recipe:
        """The recipe of a run's parameters."""
        fusion, evaluate = params.fusion, params.evaluate
        return cls(
            fusion.classification_mode,
            fusion.segmentation_mode,
            fusion.normalize,
            evaluate.top,
            evaluate.top_of,
            evaluate.finish,
            params.vision.has_batch(0),
            (params.vision.bounded(0), params.vision.bounded(1)),
            (by_shots(fusion.vision_weight, 0), by_shots(fusion.vision_weight, 1)),
            (by_shots(fusion.vision_multiplier, 0), by_shots(fusion.vision_multiplier, 1)),
        )

    def is_bounded(self, shots: int) -> bool:
        """Whether vision's values at so many shots are within [0, 1]."""
        return self.bounded[bool(shots)]

    def is_fine(self, shots: int) -> bool:
        """Whether maps have 65,536 levels on a scale of their own: values without an upper limit."""
        unbounded = not (self.is_bounded(shots) or self.normalize)
        return unbounded and self.segmentation_mode == "vision"

    def score(
        self,
        language: float | None,
        vision: np.ndarray | None,
        shots: int,
        shape: Shape,
        worst: float | None = None,
    ) -> float | None:
        """The image score; None where the mode makes none.

        Args:
            language: P(abnormal) of the image, where the mode needs it.
            vision: the multiplied vision map (rows, columns), where the mode needs it.
            shape: (height, width) at which the map is measured.
            worst: the score that vision gives the image in place of its map's.
        """
        if self.classification_mode == "none":
            return None
        if worst is not None:
            vision = np.array([worst])
        elif self.top_of == "pixels" and vision is not None:
            vision = self.finish.apply(vision, shape)
        return image_score(
            language, vision, mode=self.classification_mode, shots=shots, batch=self.batch,
            top=self.top, bounded=self.is_bounded(shots),
        )  # fmt: skip

    def values(
        self, language: np.ndarray | None, vision: np.ndarray | None, shots: int
    ) -> np.ndarray | None:
        """The fused map (rows, columns) of patches as numbers; None where the mode makes none.

        Args:
            language: P(abnormal) of each patch, where the mode needs it.
            vision: the multiplied vision map, where the mode needs it.
        """
        if self.segmentation_mode == "none":
            return None
        if vision is not None and self.segmentation_mode == "both" and not self.is_bounded(shots):
            vision = np.clip(vision, 0, 1)
        return fuse_values(
            language, vision, mode=self.segmentation_mode, normalize=self.normalize,
            weight=self.vision_weight[bool(shots)],
        )  # fmt: skip

    def pixels(self, values: np.ndarray, shape: Shape, scale: Scale = UNIT) -> np.ndarray:
        """The finished map in levels, see :func:`fade.levels.pixel_levels`."""
        return pixel_levels(values, shape, self.finish, scale)

    def image_levels(
        self, values: np.ndarray, measured: Shape, shape: Shape, scale: Scale = UNIT
    ) -> np.ndarray:
        """The finished map on the image's own pixels, in levels.

        Args:
            values: (rows, columns) of patches.
            measured: (height, width) at which it is measured, and filtered.
            shape: (height, width) of the image.
        """
        if self.is_plain(scale):
            return resize_levels(scale.levels(values), shape)
        return resize_levels(self.pixels(values, measured, scale), shape)

    def image_values(self, values: np.ndarray, measured: Shape, shape: Shape) -> np.ndarray:
        """The same as numbers, neither cut to levels nor clipped: float32."""
        if self.finish.is_plain:
            return self.finish.apply(values, shape)
        return resize_scores(self.finish.apply(values, measured), shape)

    def is_plain(self, scale: Scale) -> bool:
        """Whether levels of patches become a map by scaling alone, as in FADE."""
        return self.finish.is_plain and scale == UNIT


def closed(
    closing: Closing, finished: np.ndarray, pixel: int, scale: Scale, shape: Shape
) -> np.ndarray:
    """What a closed mask calls anomalous, on the image's own pixels.

    Args:
        finished: levels of the map at evaluation size.
        pixel: the threshold, a level.
        shape: (height, width) of the image.

    Returns:
        (height, width) bool.
    """
    import cv2

    threshold = float(scale.values(np.array(pixel)))
    mask = closing.mask(scale.values(finished), threshold).astype(np.uint8)
    return np.asarray(cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST)) > 0


def closing_of(params: Params) -> Closing:
    """How masks are closed."""
    return Closing(**params.evaluate.closing.model_dump())


def measured_size(params: Params, width: int, height: int, aspect: AspectRatio | None) -> Shape:
    """(height, width) at which the map of an image of so many pixels is measured.

    Examples:
        >>> from pipeline.config.load import parse_params
        >>> from pipeline.config.originals import original
        >>> from pipeline.config.yaml12 import load_yaml
        >>> params = parse_params(load_yaml(original("params.yaml")))
        >>> measured_size(params, 1024, 768, None) == (params.evaluate.size,) * 2
        True
    """
    size = params.evaluate.size
    return (height, width) if size == "image" else shape_of(size, aspect)
