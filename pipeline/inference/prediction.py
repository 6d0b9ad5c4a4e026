"""What a predictor says of an image, and why: the records that it hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fade.closing import Closing
from fade.errors import plain
from fade.levels import UNIT, Scale
from fade.maps import resize_levels
from fade.types import Trial
from pipeline.evaluation.recipe import closed
from pipeline.evaluation.score_text import score_text
from pipeline.evaluation.thresholds import ThresholdSource
from pipeline.report.gallery import data_uri, heat, overlay, thumbnail

if TYPE_CHECKING:
    from PIL import Image


NO_CLOSING = Closing()
Decision = Literal["anomalous", "normal"]

Picture = Any
"""A path, a PIL image, or uint8 RGB (height, width, 3)."""


def decide(score: float | None, threshold: float | None) -> Decision | None:
    """What an image is at a threshold; None without a score or a threshold.

    >>> decide(0.7, 0.6), decide(0.6, 0.6), decide(0.7, None)
    ('anomalous', 'normal', None)
    """
    if score is None or threshold is None:
        return None
    return "anomalous" if score > threshold else "normal"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a predictor says of an image.

    Attributes:
        name: the path, or its position in the sequence.
        category: whose bank and prompts it was held against.
        score: in [0, 1]; None where fusion.classification_mode is none.
        threshold: scores above it are anomalous; None where nothing was calibrated.
        decision: ``anomalous`` or ``normal``; None without a score or a threshold.
        levels: anomaly of each patch: (rows, columns) uint8, or uint16 of maps without an upper limit;
            None where fusion.segmentation_mode is none.
        pixel_threshold: levels above it are anomalous.
        source: what the thresholds rest on, see :class:`pipeline.evaluation.thresholds.Threshold`.
        images: on how many of them.
        remark: the same in words, or why there is no decision.
        size: of the image: (width, height).
        picture: in RGB, where it was asked to be kept.
        trial: shots and seed that decided.
        set_by: the image that set the threshold, see :class:`pipeline.evaluation.thresholds.Threshold`.
        false_alarm_limit: the share of good images above the threshold is at most this with 95 %
            confidence; None where that is not known.
        pictures: files that were written of it by kind (``heatmap``, ``overlay``, ``mask``), relative
            to the folder of the table.
        finished: the map at evaluation size (height, width), where it is more than ``levels`` scaled.
        scale: what levels stand for.
        closing: how the mask is closed.

    Examples:
        >>> found = Prediction(
        ...     "3.png", "nut", score=0.8, threshold=0.6, decision="anomalous",
        ...     levels=np.array([[0, 200]], np.uint8), pixel_threshold=128, source="labels",
        ...     images=40, remark="from 40 test images", size=(4, 2),
        ... )
        >>> found.full_levels().tolist(), found.mask()[0].tolist()
        ([[0, 50, 150, 200], [0, 50, 150, 200]], [False, False, True, True])
    """

    name: str
    category: str
    score: float | None
    threshold: float | None
    decision: Decision | None
    levels: NDArray[Any] | None
    pixel_threshold: int | None
    source: ThresholdSource
    images: int
    remark: str
    size: tuple[int, int]
    picture: Image.Image | None = None
    trial: Trial | None = None
    set_by: str | None = None
    false_alarm_limit: float | None = None
    pictures: Mapping[str, str] = field(default_factory=dict)
    finished: NDArray[Any] | None = None
    scale: Scale = UNIT
    closing: Closing = NO_CLOSING

    def full_levels(self) -> NDArray[Any] | None:
        """The map on the image's own pixels: (height, width), in the type of ``levels``."""
        levels = self.levels if self.finished is None else self.finished
        return None if levels is None else resize_levels(levels, self.size[::-1])

    def shades(self) -> NDArray[np.uint8] | None:
        """The same as 256 shades of a picture."""
        levels = self.full_levels()
        return None if levels is None else self.scale.shades(levels)

    def patch_levels(self) -> NDArray[Any] | None:
        """The finished map on the grid of patches: what their pixels have in the mean."""
        if self.levels is None or self.finished is None:
            return self.levels
        import cv2

        rows, columns = self.levels.shape
        return np.asarray(cv2.resize(self.finished, (columns, rows), interpolation=cv2.INTER_AREA))

    def mask(self) -> NDArray[np.bool_] | None:
        """Pixels above the threshold, gaps closed: (height, width); None without a map or threshold."""
        if (
            not self.closing.is_none
            and self.finished is not None
            and self.pixel_threshold is not None
        ):
            return closed(
                self.closing, self.finished, self.pixel_threshold, self.scale, self.size[::-1]
            )
        levels = self.full_levels()
        return (
            None
            if levels is None or self.pixel_threshold is None
            else (levels > self.pixel_threshold)
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: name, decision, score, and the map in colours."""
        from html import escape

        shades = self.shades()
        parts = [f"<b>{escape(plain(self.name))}</b>: {self.decision or 'no decision'}"]
        if self.score is not None:
            parts.append(f"score {score_text(self.score, 4)}")
        if self.threshold is not None:
            parts.append(f"threshold {score_text(self.threshold, 4)}")
        text = f"<p>{', '.join(parts)} ({escape(plain(self.remark))})</p>"
        if shades is None:
            return text
        drawn = heat(shades)
        if self.picture is not None:
            drawn = overlay(np.asarray(self.picture), shades, self.mask())
        return f'{text}<img alt="anomaly map" src="{data_uri(thumbnail(drawn))}">'


@dataclass(frozen=True, slots=True)
class NormalPatch:
    """The normal patch nearest to an image's patch.

    Attributes:
        reference: path of the reference image; None for another patch of the image itself, or where
            a coreset or approximate index does not tell.
        row, column: of the patch on the map's grid.
        distance: as the map has it before any multiplier, by vision.metric: 0.5 x (1 - cosine).
    """

    reference: str | None
    row: int | None
    column: int | None
    distance: float


@dataclass(frozen=True, slots=True)
class Compared:
    """How far a patch is from what is normal, where no single normal patch tells.

    Attributes:
        measure: in words.
        distance: before any multiplier.
    """

    measure: str
    distance: float


@dataclass(frozen=True, slots=True)
class Region:
    """A connected group of patches above the pixel threshold.

    Attributes:
        box: (left, top, right, bottom) in pixels of the image.
        patches: how many.
        level: the highest, 0 to 255.
        row, column: of the patch that has it.
        nearest: the normal patch nearest to that one; None where vision has no part, or no bank.
        abnormal, normal: prompts of each side most similar to the region, with cosines; empty where
            text has no part.
        compared: what vision says of that patch where it has no bank; else None.

    Examples:
        >>> region = Region((16, 0, 32, 16), 4, 231, 0, 1, None, (("a scratched nut", 0.31),), ())
        >>> region.level, [prompt for prompt, cosine in region.abnormal]
        (231, ['a scratched nut'])
    """

    box: tuple[int, int, int, int]
    patches: int
    level: int
    row: int
    column: int
    nearest: NormalPatch | None
    abnormal: tuple[tuple[str, float], ...]
    normal: tuple[tuple[str, float], ...]
    compared: Compared | None = None
