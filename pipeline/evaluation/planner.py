"""Which components and masks each block of images needs, and their evaluation on the workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cache.keys import Keys
from cache.store import Store
from fade.aspect import AspectRatio, Shape
from fade.levels import Scales
from fade.maps import largest_grid
from fade.metrics import PixelHistogram
from fade.types import DataPath, Trial
from pipeline.artefacts.catalogue import LANGUAGE, MAPS, VISION, store_root
from pipeline.artefacts.receipts import Receipt, read_receipt
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.schema import Params
from pipeline.dataset.images import calibration_images, test_images
from pipeline.evaluation.blocks import (
    EvaluationBlock,
    evaluate_block,
)
from pipeline.evaluation.component import Component, ImageFeatures
from pipeline.evaluation.foreground import foregrounds
from pipeline.evaluation.further import Further, Gathering, PixelLevel, spro_limits
from pipeline.evaluation.groups import drawn_names
from pipeline.evaluation.image import TestImage
from pipeline.evaluation.recipe import Recipe, measured_size
from pipeline.evaluation.reweighting import Reweigher
from pipeline.evaluation.tally import add_histogram
from pipeline.evaluation.vanished import Vanished
from pipeline.process.memory import trim_heap
from pipeline.scoring.components import component_key

if TYPE_CHECKING:
    import pandas as pd

BLOCK_IMAGES = 64
NO_SCALES: Scales = MappingProxyType({})
T = TypeVar("T")


class _Components:
    """Where the components of images lie: of test images by row, of the few others by key.

    Args:
        tests, calibration: categories and keys of the images, see :func:`test_images`.
        trials: those that differ in the component; None alone if none do.

    Raises:
        DamagedSegmentError: rows are gone or changed.
    """

    def __init__(
        self,
        receipt: Receipt,
        label: str,
        store: Store,
        tests: Sequence[tuple[str, Keys]],
        calibration: Sequence[tuple[str, Keys]],
        trials: Sequence[Trial | None],
    ) -> None:
        self.space = receipt.space(label)
        self.against = receipt.compared_with[label]
        located = receipt.located(store, label).check()
        self._tests = {
            trial: located.locations_iter(
                keys.with_suffix(self._digest(name, trial)) for name, keys in tests
            )
            for trial in trials
        }
        held_out = receipt.compared_with.get("held-out", {})
        few = {
            component_key(key, digest)
            for category, keys in calibration
            for key in keys
            for digest in (
                *(self._digest(category, trial) for trial in trials),
                *(of.get(key, "") for of in held_out.get(category, {}).values()),
            )
        }  # fmt: skip
        keys = Keys.of(sorted(few))
        keys = keys.take(located.is_covered(keys))  # trials differ in the images that they need
        self._few = dict(zip(keys, located.locations(keys), strict=True))

    def _digest(self, category: str, trial: Trial | None) -> str:
        against = self.against[category]
        return str(against[trial.label] if trial else against)

    def of_tests(self, first: int, count: int, trial: Trial | None = None) -> Component:
        """The rows for so many test images; of one trial where it differs between trials."""
        return Component(self.space, self._tests[trial][first : first + count].narrowed())

    def of(
        self, images: pd.DataFrame, trial: Trial | None, held_out: Mapping[str, str]
    ) -> Component:
        """The rows for some images to calibrate on.

        Of references that are held out, ``held_out`` tells what each was compared with.
        """
        keys = [
            component_key(key, held_out.get(key) or self._digest(category, trial))
            for category, key in zip(images["category"], images["hash"], strict=True)
        ]
        return Component(self.space, [self._few[key] for key in keys])


@dataclass(frozen=True)
class Planner:
    """Cuts images into blocks with all that a task needs; see :meth:`open`."""

    params: Params
    store: Store
    root: DataPath
    aspect: AspectRatio | None
    language_score: _Components | None
    language_map: _Components | None
    vision: _Components | None
    held_out: Mapping[str, Mapping[str, Mapping[str, str]]]
    reweigher: Reweigher | None = None
    foreground: ImageFeatures | None = None

    @classmethod
    def open(
        cls, params: Params, store: Store, root: DataPath, aspect: AspectRatio | None = None
    ) -> Planner:
        """Find all components; some receipt speaks of images."""
        language, vision = read_receipt(LANGUAGE), read_receipt(VISION)
        tests, calibration = test_images(), calibration_images()

        def found(receipt: Receipt, label: str, trials: Sequence[Trial | None]) -> _Components:
            with receipt.discard_on_damage(store):
                components = _Components(receipt, label, store, tests, calibration, trials)
            trim_heap()  # what finding them took
            return components

        return cls(
            params,
            store,
            root,
            aspect,
            found(language, "language-score", [None]) if params.needs_language_score else None,
            found(language, "language-map", [None]) if params.needs_language_map else None,
            found(vision, "vision-map", params.trials()) if params.needs_vision else None,
            vision.compared_with.get("held-out", {}),
            Reweigher.open(params, store) if params.evaluate.reweighted else None,
            ImageFeatures.open([params.foreground_feature().label], store)
            if params.evaluate.masks_any_background
            else None,
        )

    def against(self) -> dict[str, Any]:
        """By component, what its rows were compared with: banks and text classifiers by their hashes."""
        parts = {
            "language-score": self.language_score,
            "language-map": self.language_map,
            "vision-map": self.vision,
        }
        return {label: part.against for label, part in parts.items() if part is not None}

    def grid(self) -> Shape:
        """(rows, columns) of maps; 1 where there are none."""
        mode = self.params.fusion.segmentation_mode
        parts = {"language": [self.language_map], "vision": [self.vision]}.get(
            mode, [self.language_map, self.vision]
        )
        grids = [part.space.shape for part in parts if part is not None]
        return largest_grid(grids) if grids else (1, 1)

    def blocks(
        self,
        images: pd.DataFrame,
        trials: Sequence[Trial],
        *,
        maps: Path | None = None,
        held_out: Mapping[str, str] | None = None,
        scales: Scales = NO_SCALES,
    ) -> Iterator[EvaluationBlock]:
        """Blocks of some images, in their order, each made when it is asked for.

        Args:
            images: with ``category``, ``path``, ``is_anomaly``, ``mask``, ``mask_hash``, ``width``
                and ``height``; to calibrate also ``hash``.
            trials: all of them are evaluated in each block.
            maps: where fused maps of test images go; None for images to calibrate on.
            held_out: see :class:`_Components`.
            scales: of maps, where they are not FADE's.
        """
        params = self.params
        for first in range(0, len(images), BLOCK_IMAGES):
            part = images.iloc[first : first + BLOCK_IMAGES]
            # pandas may have NaN where a label or mask is missing
            labels, *masks = (
                part[name].astype(object).where(part[name].notna(), None)
                for name in ("is_anomaly", "mask", "mask_hash")
            )
            sizes = [
                measured_size(params, width, height, self.aspect)
                for width, height in zip(
                    part["width"].tolist(), part["height"].tolist(), strict=True
                )
            ]
            columns = (part["category"], part["path"], labels, *masks, sizes)
            if maps is not None:
                columns += (part["defect"],)
                if params.evaluate.intervals:
                    columns += (drawn_names(part["path"], params.evaluate.group),)

            def rows(
                components: _Components | None,
                trial: Trial | None = None,
                part: pd.DataFrame = part,
                first: int = first,
            ) -> Component | None:
                if components is None:
                    return None
                if maps is not None:
                    return components.of_tests(first, len(part), trial)
                # texts know nothing of references
                return components.of(part, trial, (held_out or {}) if trial else {})

            row = None if maps is None else first
            reweighting = masking = None
            if self.reweigher is not None:
                reweighting = self.reweigher.block(part, row, trials, held_out or {})
            if self.foreground is not None:
                (feature,) = self.foreground.of(part, row)
                masking = foregrounds(params.evaluate, feature, part["category"].astype(str))
            visions = (rows(self.vision, trial) for trial in trials)
            yield EvaluationBlock(
                self.store.root,
                self.root.absolute(),
                maps and maps.absolute(),
                first,
                tuple(TestImage(*values) for values in zip(*columns, strict=True)),
                tuple(trials),
                Recipe.of(params),
                rows(self.language_score),
                rows(self.language_map),
                tuple(component for component in visions if component is not None),
                params.dataset.exif_rotation,
                scales,
                reweighting,
                masking,
                maps is not None,
                maps is not None and bool(spro_limits(params)),
                params.evaluate.size,
                self.aspect,
            )


def read_blocks(
    work: Callable[[EvaluationBlock], T],
    blocks: Iterable[EvaluationBlock],
    images: int,
    params: Params,
    label: str,
) -> Iterator[T]:
    """What a function makes of blocks of so many images, in their order, as they come."""
    store = Store(store_root(params.features.store))
    # a damaged row may be of either: both are cheap to make again
    language, vision = read_receipt(LANGUAGE), read_receipt(VISION)
    with language.discard_on_damage(store), vision.discard_on_damage(store):
        yield from iterate_tasks(
            work,
            blocks,
            params.cluster,
            label,
            weight=lambda block: len(block.images),
            name=lambda block: block.images[0].category,
            total=images,
            store=store.root,
        )


@dataclass
class Measured:
    """What the test images gave.

    Attributes:
        scores: (trials, images) float64, NaN where there are none.
        histograms: of pixels, by category and trial, of images with a known mask.
        vanished: by category, the defects of which the size of the evaluation leaves nothing.
        without_foreground: images in which none was found, by category.
        further: metrics that need more than histograms.
    """

    scores: np.ndarray
    histograms: dict[tuple[str, Trial], PixelHistogram]
    vanished: dict[str, Vanished]
    without_foreground: Counter[str] = field(default_factory=Counter)
    further: dict[tuple[str, Trial], Further] = field(default_factory=dict)


def evaluate_tests(
    planner: Planner | None,
    tests: pd.DataFrame,
    trials: Sequence[Trial],
    params: Params,
    level: PixelLevel,
    scales: Scales = NO_SCALES,
) -> Measured:
    """Score and measure all test images; their fused maps go into ``maps.zarr``, which is there.

    Args:
        planner: None where there are no images at all.
        tests: see :meth:`Planner.blocks`.
        trials: all of them are evaluated at once.
        level: the declared thresholds on levels.
        scales: of maps, where they are not FADE's.
    """
    found = Measured(np.full((len(trials), len(tests)), np.nan), {}, {})
    if planner is None or tests.empty:
        return found
    done = 0
    categories = tests["category"]
    gathering = Gathering(map(str, categories), params, level)
    blocks = planner.blocks(tests, trials, maps=MAPS.path, scales=scales)
    for outcome in read_blocks(evaluate_block, blocks, len(tests), params, "evaluate"):
        count = outcome.scores.shape[1]
        found.scores[:, done : done + count] = outcome.scores
        for place, histogram in outcome.histograms.items():
            add_histogram(found.histograms, place, histogram)
        for category, lost in outcome.vanished.items():
            found.vanished[category] = found.vanished.get(category, Vanished()) + lost
        found.without_foreground.update(outcome.without_foreground)
        gathering.add(outcome.tallies, map(str, categories.iloc[done : done + count]))
        done += count
    found.further = gathering.found
    return found
