"""What the further metrics need of test images: by defect kind, by image, and of good ones together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from fade.errors import DataError
from fade.level_counts import LevelCounts, occurring
from fade.levels import FINE, UNIT, Scale
from fade.metrics import PixelHistogram
from fade.pimo import DefectLevels, SharedRate
from fade.regions import Regions
from fade.replicates import coarse_rows
from fade.saturation import SaturatedRegion, saturated
from fade.types import GOOD, DataPath
from pipeline.evaluation.image import TestImage
from pipeline.evaluation.recipe import Recipe
from pipeline.evaluation.saturations import saturated_regions

Histograms = dict[str, PixelHistogram]
K = TypeVar("K")
ALL = ""
"""The kind of samples of all images; others are of one defect kind, or good, with saturated overlaps."""


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """What one image counts for in bootstrap samples.

    Attributes:
        kind: see :data:`ALL`.
        name: by which it is drawn.
        rows: its counts in few levels, see :func:`fade.replicates.coarse_rows`.
        regions: how many it has.
    """

    kind: str
    name: str
    rows: np.ndarray
    regions: int


@dataclass
class Tally:
    """Of images with a known mask, of one category in one trial.

    Attributes:
        kinds: histograms by defect kind, those of good images as ``good``.
        saturated: the same with saturated overlaps, of MVTec LOCO.
        lacking: why there are no saturated overlaps, should there be none.
        shared: of good images.
        defects: path, kind and levels of each anomalous image.
        samples: of each image what it counts for, for intervals.
    """

    kinds: Histograms = field(default_factory=dict)
    saturated: Histograms = field(default_factory=dict)
    lacking: str = ""
    shared: SharedRate = field(default_factory=SharedRate.empty)
    defects: list[tuple[str, str, DefectLevels]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def merge(self, other: Tally) -> None:
        """Add what other images of the category and trial gave, but for their samples."""
        for mine, theirs in ((self.kinds, other.kinds), (self.saturated, other.saturated)):
            for kind, histogram in theirs.items():
                add_histogram(mine, kind, histogram)
        self.lacking = self.lacking or other.lacking
        self.shared += other.shared
        self.defects += other.defects

    def add(self, image: TestImage, measured: MeasuredMap, *, saturation: bool = False) -> None:
        """Add one image.

        Args:
            saturation: whether saturated overlaps are wanted.
        """
        self._sample(image, ALL, measured.counts)
        if not image.is_anomaly:
            self.shared.add(*measured.fine_counts())
            add_image(self.kinds, GOOD, measured.counts)
            if saturation:
                self._sample(image, GOOD, measured.counts)
            return
        add_image(self.kinds, image.defect, measured.counts)
        if measured.regions.count:  # else a mask without a defect pixel: all are normal
            levels = DefectLevels.of_image(measured.fine(), measured.regions)
            self.defects.append((image.path, image.defect, levels))
        if isinstance(measured.parts, str):
            self.lacking = self.lacking or measured.parts
        elif measured.parts is not None:
            overlaps = saturated(measured.counts, measured.finished, measured.parts)
            add_image(self.saturated, image.defect, overlaps)
            self._sample(image, image.defect, overlaps)

    def _sample(self, image: TestImage, kind: str, counts: LevelCounts) -> None:
        if image.drawn:
            self.samples.append(Sample(kind, image.drawn, coarse_rows(counts), counts.regions))


@dataclass(frozen=True, slots=True)
class MeasuredMap:
    """The map of one image against its mask.

    Attributes:
        values: (rows, columns) of patches.
        finished: (height, width) levels.
        recipe: that made them.
        counts: of the levels against the regions.
        parts: the regions by mask file where saturation is wanted; why there are none; or None.
    """

    values: np.ndarray
    finished: np.ndarray
    scale: Scale
    recipe: Recipe
    regions: Regions
    counts: LevelCounts
    parts: list[SaturatedRegion] | str | None

    def fine(self) -> np.ndarray:
        """The map in 65,536 levels, (height, width) uint16."""
        if self.scale != UNIT:
            return self.finished
        finish, shape = self.recipe.finish, (self.finished.shape[0], self.finished.shape[1])
        scaled = finish.apply(np.clip(self.values, 0, 1), shape) * np.float32(FINE - 1)
        return np.clip(scaled, 0, FINE - 1).astype(np.uint16)

    def fine_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """The levels of :meth:`fine` that occur, and how often each does."""
        if self.scale != UNIT:
            return self.counts.levels, self.counts.normal + self.counts.anomalous
        return occurring(self.fine())


def mask_parts(
    image: TestImage, root: DataPath, *, exif_rotation: bool
) -> list[SaturatedRegion] | str | None:
    """The regions of an image by mask file, or why they cannot be told; None without a mask."""
    if not image.is_anomaly or image.mask is None:
        return None
    try:
        return saturated_regions(root, image.mask, image.size, exif_rotation=exif_rotation)
    except DataError as error:
        return str(error)


def add_histogram(total: dict[K, PixelHistogram], key: K, histogram: PixelHistogram) -> None:
    """Add a histogram to the sum that a key has so far."""
    total[key] = total[key] + histogram if key in total else histogram


def add_image(total: dict[K, PixelHistogram], key: K, image: LevelCounts) -> None:
    """Add an image to the sum that a key has so far."""
    if key not in total:
        total[key] = PixelHistogram.empty(image.size)
    total[key].add(image)
