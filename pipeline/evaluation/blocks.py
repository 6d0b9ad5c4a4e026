"""One block of the evaluation: fused maps, image scores and the histograms that metrics come from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache.files import Location
from cache.store import Store
from fade.aspect import AspectRatio, Shape, shape_of
from fade.level_counts import LevelCounts
from fade.levels import UNIT, Scale, Scales
from fade.metrics import PixelHistogram
from fade.preprocess import resize_mask
from fade.regions import Regions, label_regions
from fade.types import CategoryTrial, DataPath, Trial
from pipeline.artefacts.maps import write_maps
from pipeline.config.values import EvaluationSize
from pipeline.dataset.masks import read_unchanged_mask
from pipeline.evaluation.component import Component
from pipeline.evaluation.foreground import Foregrounds
from pipeline.evaluation.image import TestImage
from pipeline.evaluation.recipe import Recipe
from pipeline.evaluation.reweighting import Reweighting
from pipeline.evaluation.tally import MeasuredMap, Tally, add_image, mask_parts
from pipeline.evaluation.vanished import Vanished, find_vanished


@dataclass(frozen=True, slots=True)
class EvaluationBlock:
    """A run of test images to be evaluated by one task.

    Attributes:
        maps: the group that fused maps are written into; None to keep none.
        first: row of the first image in each trial's maps.
        language_score, language_map, vision_maps: components; None or absent where no mode needs
            them. Vision maps are one component for each trial, in order.
        scales: of maps by category and trial, where they are not FADE's.
        reweighting: for image scores that look into the bank once more.
        foregrounds: of images whose background scores 0.
        exif_rotation: whether masks are turned as their camera says, as images are.
        tallied: whether there is more to measure than histograms, as of test images.
        saturation: whether masks are of MVTec LOCO, with ``defects_config.json``.
        size: ``evaluate.size``.
        aspect: that maps keep, if they do.
    """

    store: Location
    root: DataPath
    maps: Path | None
    first: int
    images: tuple[TestImage, ...]
    trials: tuple[Trial, ...]
    recipe: Recipe
    language_score: Component | None = None
    language_map: Component | None = None
    vision_maps: tuple[Component, ...] = ()
    exif_rotation: bool = False
    scales: Scales = field(default_factory=dict)
    reweighting: Reweighting | None = None
    foregrounds: Foregrounds | None = None
    tallied: bool = False
    saturation: bool = False
    size: EvaluationSize = "image"
    aspect: AspectRatio | None = None

    def larger(self, factor: int) -> Shape:
        """The shape at which maps are measured if ``evaluate.size``, a number, is multiplied."""
        return shape_of(int(self.size) * factor, self.aspect)

    def scale(self, category: str, trial: Trial) -> Scale:
        """What levels of a category's maps stand for in a trial."""
        return self.scales.get((category, trial), UNIT)


@dataclass
class Outcome:
    """What a block contributes.

    Attributes:
        scores: (trials, images) float64, NaN where classification_mode is none.
        histograms: by category and trial, of images with a known mask.
        vanished: by category, what the size of the evaluation leaves nothing of.
        without_foreground: images in which none was found, by category.
        tallies: by category and trial, of images with a known mask, where they are wanted.
    """

    scores: np.ndarray
    histograms: dict[CategoryTrial, PixelHistogram] = field(default_factory=dict)
    vanished: dict[str, Vanished] = field(default_factory=dict)
    without_foreground: Counter[str] = field(default_factory=Counter)
    tallies: dict[CategoryTrial, Tally] = field(default_factory=dict)


def evaluate_block(block: EvaluationBlock) -> Outcome:
    """Fuse, score and measure the images of a block; fused maps may go into ``maps.zarr``."""
    store = Store(block.store)
    language_score, language_map = (
        None if component is None else component.read(store)
        for component in (block.language_score, block.language_map)
    )
    vision_maps = [component.read(store) for component in block.vision_maps]
    outcome = Outcome(np.full((len(block.trials), len(block.images)), np.nan))
    if block.foregrounds is not None:
        vision_maps, without = block.foregrounds.masked(store, vision_maps)
        outcome.without_foreground.update(block.images[i].category for i in without)
    worst = None if block.reweighting is None else block.reweighting.scores(store, vision_maps)
    levels: list[list[np.ndarray]] = [[] for _ in block.trials]
    found: dict[CategoryTrial, PixelHistogram] = {}
    # image by image: regions at full size are large, and one image's are held at a time
    for i, image in enumerate(block.images):
        regions = _regions(image, block, outcome.vanished)
        parts = None
        if regions is not None and block.saturation:
            parts = mask_parts(image, block.root, exif_rotation=block.exif_rotation)
        for number, trial in enumerate(block.trials):
            vision, factor = None, block.recipe.vision_multiplier[bool(trial.shots)]
            if vision_maps:
                vision = np.asarray(vision_maps[number])[i] * np.float32(factor)
            score = block.recipe.score(
                None if language_score is None else float(language_score[i]),
                vision,
                trial.shots,
                image.size,
                None if worst is None else float(worst[number, i]) * factor,
            )
            if score is not None:
                outcome.scores[number, i] = score
            language = None if language_map is None else language_map[i]
            values = block.recipe.values(language, vision, trial.shots)
            if values is None:
                continue
            scale = block.scale(image.category, trial)
            levels[number].append(scale.levels(values))
            if regions is not None:
                place = (image.category, trial)
                finished = block.recipe.pixels(values, image.size, scale)
                counts = LevelCounts.of_image(finished, regions)
                add_image(found, place, counts)
                if block.tallied:
                    of_map = MeasuredMap(
                        values, finished, scale, block.recipe, regions, counts, parts
                    )
                    outcome.tallies.setdefault(place, Tally()).add(
                        image, of_map, saturation=block.saturation
                    )
    for trial, maps in zip(block.trials, levels, strict=True):
        outcome.histograms |= {place: h for place, h in found.items() if place[1] == trial}
        if maps and block.maps is not None:
            write_maps(block.maps, block.first, trial, np.stack(maps))
    return outcome


def _regions(
    image: TestImage, block: EvaluationBlock, vanished: dict[str, Vanished]
) -> Regions | None:
    """Defect regions at evaluation size; None where nobody knows them, or where none is left."""
    if block.recipe.segmentation_mode == "none" or image.is_anomaly is None:
        return None
    if not image.is_anomaly:
        return Regions.none(image.size)
    if image.mask is None or image.mask_hash is None:
        return None
    mask = read_unchanged_mask(
        block.root, image.mask, image.mask_hash, exif_rotation=block.exif_rotation
    )
    regions = label_regions(resize_mask(mask, image.size))
    lost = find_vanished(mask, regions, None if block.size == "image" else block.larger)
    if lost.images or lost.regions:
        vanished[image.category] = vanished.get(image.category, Vanished()) + lost
    return None if lost.images else regions
