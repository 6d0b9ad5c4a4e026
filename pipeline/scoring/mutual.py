"""Vision maps of images that score each other, merged from pairs, and of others against a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cache.files import Location
from cache.index import Index, RowLocations
from cache.keys import Keys
from cache.layout import RowLocation, Space, group_needs
from cache.store import Store
from fade.maps import merge_sizes
from fade.rules.mutual import Lowest, facing, lowest_count, match
from fade.types import Trial
from pipeline.artefacts.receipts import Receipt
from pipeline.config.schema import Params
from pipeline.scoring.before import RowIndex
from pipeline.scoring.components import map_space
from pipeline.scoring.pairs import (
    Batch,
    PairStep,
    PairView,
    halved,
    mutual_digest,
    pair_key,
    pair_views,
)
from pipeline.scoring.plan import ComponentPlan, ComponentWork, missing_components
from pipeline.scoring.views import described

MERGE_IMAGES = 16
"""Images whose distances one task merges."""
MERGE_ROWS = 64
"""Rows of pairs that are read at a time."""


@dataclass(frozen=True)
class MergeScorer:
    """Merges the distances of some images of a batch.

    Attributes:
        store: where the distances are.
        views: how they were compared.
        lowest: share of an image's partners, the nearest, whose distances are averaged.
        places: for each view and image, where its rows lie.
        sides: for each image (partners,), which half of a row is its own.
    """

    name: str
    store: Location
    views: tuple[PairView, ...]
    lowest: float
    places: tuple[tuple[RowLocations, ...], ...]
    sides: tuple[np.ndarray, ...]

    def rows(
        self, output: Space, features: Sequence[Space], vectors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """See :class:`pipeline.scoring.plan.Scorer`; no features are read."""
        return np.stack([merge_sizes(maps) for maps in zip(*self.by_view(), strict=True)])

    def by_view(self) -> list[list[np.ndarray]]:
        """For each view the images' maps, on the view's own grid."""
        return [
            [self._merge(view, *one) for one in zip(places, self.sides, strict=True)]
            for view, places in zip(self.views, self.places, strict=True)
        ]

    def _merge(self, view: PairView, places: RowLocations, sides: np.ndarray) -> np.ndarray:
        store = Store(self.store)
        lowest = Lowest(view.space.shape[1], lowest_count(len(places), self.lowest))
        for start in range(0, len(places), MERGE_ROWS):
            rows = store.read(view.space, places[start : start + MERGE_ROWS])
            for row, side in zip(rows, sides[start : start + MERGE_ROWS], strict=True):
                lowest.add(row[side])
        return _as_map(lowest, view)


def merge_scorer(
    batch: Batch,
    views: tuple[PairView, ...],
    lowest: float,
    pairs: RowIndex,
    keys: Sequence[str],
) -> MergeScorer:
    """What merges the distances of some images.

    Args:
        batch: that knows their partners.
        views: how they were compared.
        lowest: share of the partners that counts.
        pairs: where distances are.

    Raises:
        StoreError: distances are not there.
    """
    places: list[list[RowLocations]] = [[] for _ in views]
    sides = []
    for key in keys:
        others = batch.partners[key]
        names = [pair_key(key, other) for other in others]
        sides.append(np.array([int(key > other) for other in others]))
        for found, view in zip(places, views, strict=True):
            found.append(pairs.locations(view.space, names))
    return MergeScorer(
        batch.category, pairs.store.root, views, lowest, tuple(map(tuple, places)), tuple(sides)
    )


@dataclass(frozen=True)
class SampleScorer:
    """Compares images outside a batch with some images of it.

    Attributes:
        views: how images are compared.
        lowest: as in :class:`MergeScorer`.
        keys: of the images, in the order of the vectors.
        sample: keys of those that they are compared with; nobody with itself.
        places: for each view and each of its spaces, where the sample's features lie.
    """

    name: str
    store: Location
    views: tuple[PairView, ...]
    lowest: float
    keys: tuple[str, ...]
    sample: tuple[str, ...]
    places: tuple[tuple[Sequence[RowLocation], ...], ...]

    def rows(
        self, output: Space, features: Sequence[Space], vectors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """See :class:`pipeline.scoring.plan.Scorer`."""
        read = dict(zip(features, vectors, strict=True))
        by_view = [
            self._scores(view, view.of_rows([read[space] for space in view.spaces]), places)
            for view, places in zip(self.views, self.places, strict=True)
        ]
        return np.stack([merge_sizes(maps) for maps in zip(*by_view, strict=True)])

    def _scores(
        self, view: PairView, images: list[np.ndarray], places: tuple[Sequence[RowLocation], ...]
    ) -> list[np.ndarray]:
        store = Store(self.store)
        others = [len(self.sample) - (key in self.sample) for key in self.keys]
        patches = view.space.shape[1]
        lowest = [Lowest(patches, lowest_count(count, self.lowest)) for count in others]
        for position, key in enumerate(self.sample):  # one is held at a time
            (other,) = view.comparable(store, [found[position : position + 1] for found in places])
            turned = facing(other, view.metric)
            for own, image, values in zip(self.keys, images, lowest, strict=True):
                if own != key:
                    values.add(match(image, turned, view.metric)[0])
        return [_as_map(values, view) for values in lowest]


def _as_map(lowest: Lowest, view: PairView) -> np.ndarray:
    """The map of one view."""
    return halved(lowest.mean(), view.metric).reshape(view.grid)


@dataclass(frozen=True, eq=False)
class MergePlan(ComponentPlan):
    """The test images of one category. Its blocks can be made once the pairs are in the store.

    Attributes:
        views: how they are compared.
        lowest: as in :class:`MergeScorer`.
        pairs: where their distances are.
    """

    batch: Batch
    views: tuple[PairView, ...]
    lowest: float
    pairs: RowIndex

    block_images = MERGE_IMAGES

    def scorer(self, keys: tuple[str, ...], against: Sequence[str]) -> MergeScorer:
        """See :class:`ComponentPlan`; the scorer knows where the images' pairs are."""
        return merge_scorer(self.batch, self.views, self.lowest, self.pairs, keys)

    @property
    def read_bytes(self) -> int:
        """See :class:`ComponentPlan`: no features are read."""
        return self.output.row_bytes


@dataclass(frozen=True, eq=False)
class SamplePlan(ComponentPlan):
    """The images of a category that are scored against a sample of its batch.

    Attributes:
        views: how images are compared.
        lowest: as in :class:`MergeScorer`.
        places: for each view and each of its spaces, where the sample's features lie.
    """

    batch: Batch
    views: tuple[PairView, ...]
    lowest: float
    store: Location
    places: tuple[tuple[Sequence[RowLocation], ...], ...]

    block_images = 64

    def scorer(self, keys: tuple[str, ...], against: Sequence[str]) -> SampleScorer:
        """See :class:`ComponentPlan`; the scorer knows the images, as none is compared with itself."""
        return SampleScorer(
            self.batch.category, self.store, self.views, self.lowest, keys, self.batch.sample,
            self.places,
        )  # fmt: skip


def plan_mutual(
    params: Params,
    trials: Sequence[Trial],
    tests: Mapping[str, Keys],
    calibration: Mapping[str, Keys],
    receipt: Receipt,
    store: Store,
    index: Index,
) -> ComponentWork:
    """Plan the scores of all batches.

    Args:
        trials: of rule mutual; their scores are the same.
        tests: keys of test images by category.
        calibration: the same of images to calibrate on.
        index: what the store has of the maps.

    Raises:
        ParameterError: a category has too few test images.
        DamagedSegmentError: features of samples are gone.
    """
    vision, views = params.vision, pair_views(params, receipt)
    features = tuple(receipt.space(feature.label) for feature in params.vision_features())
    output = map_space(
        "vision-map", features, views=described([one.view for one in views], features)
    )
    batches = tuple(Batch.of(category, keys, vision) for category, keys in tests.items())
    where = RowIndex(store)
    located = {space: receipt.located(store, space.label) for space in features}
    plans: list[ComponentPlan] = []
    against: dict[str, dict[str, str]] = {}
    unfinished = []
    for batch in batches:
        digest = mutual_digest(batch, vision)
        against[batch.category] = {trial.label: digest for trial in trials}
        own = group_needs([(Keys.of(batch.keys), [digest])])
        lacking = missing_components(own, index)
        plans.append(MergePlan(output, (), own, lacking, batch, views, vision.lowest, where))
        unfinished.append(any(lacks.any() for lacks in lacking))
        known = set(batch.keys)
        others = [key for key in calibration.get(batch.category, ()) if key not in known]
        groups = group_needs([(Keys.of(others), [digest])]) if others else []
        sample = {space: found.locations(batch.sample) for space, found in located.items()}
        places = tuple(tuple(sample[space].narrowed() for space in view.spaces) for view in views)
        plans.append(
            SamplePlan(
                output, features, groups, missing_components(groups, index), batch, views,
                vision.lowest, store.root, places,
            )
        )  # fmt: skip
    missing = tuple(lacking_pairs(view, batches, unfinished, store) for view in views)
    step = PairStep(views, batches, missing, receipt)
    return ComponentWork(plans, {"vision-map": against}, (step,))


def lacking_pairs(
    view: PairView, batches: Sequence[Batch], unfinished: Sequence[bool], store: Store
) -> tuple[np.ndarray, ...]:
    """Which pairs of each batch are to be compared: none of those that are scored already."""
    index = store.repair(view.space) if any(unfinished) else None
    return tuple(
        ~index.has(batch.pair_keys())
        if index is not None and needed
        else np.zeros(len(batch.pairs), bool)
        for batch, needed in zip(batches, unfinished, strict=True)
    )
