"""Distances between patches of two images of a batch: planned, computed in blocks, kept in the store.

A row belongs to two images and to nothing else, so that another batch, number of partners or lowest
share finds it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from cache.files import Location
from cache.keys import Keys
from cache.layout import RowLocation, Space, fingerprint
from cache.store import Store
from fade.aspect import Shape
from fade.errors import ParameterError
from fade.rules.mutual import comparable, draw_sample, facing, match
from fade.rules.pairs import pair_blocks, pairing
from fade.views import Metric
from pipeline.artefacts.receipts import Receipt
from pipeline.config.rules import RuleParams, partners_of
from pipeline.config.schema import Params
from pipeline.config.vision import VisionParams
from pipeline.scoring.components import component_key
from pipeline.scoring.nearest import pairs_described
from pipeline.scoring.views import FeatureView, described, view_plan

PAIR_VERSION = 1
"""Raised by hand when distances become others; part of every address."""
BLOCK_IMAGES = 16
"""Images of one side of a block, at most: 256 pairs from 32 images that are read once."""
READ_BYTES = 192 << 20
"""Vectors that a block holds, at most, unless two images alone are larger."""
SAMPLE = 32
"""Images of a batch that single images are scored against: of calibration, and new ones."""


@dataclass(frozen=True)
class PairView:
    """One way to look at images that are compared with each other.

    Attributes:
        view: what vectors are made of.
        spaces: of its features, in their order.
        metric: how distances are measured.
    """

    view: FeatureView
    spaces: tuple[Space, ...]
    metric: Metric

    @cached_property
    def space(self) -> Space:
        """(2, patches): distances of the first image's patches to the second, and the other way."""
        rows, columns = self.grid
        description: dict[str, Any] = {
            "kind": "vision-pair", "version": PAIR_VERSION, "metric": self.metric,
            "features": [space.fingerprint for space in self.spaces],
            **pairs_described(self.metric, self.view.view.unit),
        }  # fmt: skip
        if views := described([self.view], self.spaces):
            description["view"] = views[0]
        label = f"vision-pair-{self.view.label}"
        return Space(label, description, (2, rows * columns), "float32")

    @property
    def grid(self) -> Shape:
        """(rows, columns) of the vectors."""
        return self.view.grid(self.spaces)

    @property
    def image_bytes(self) -> int:
        """Of an image's vectors and of the features that they are made of, about."""
        rows, columns = self.grid
        read = sum(space.row_bytes for space in self.spaces)
        return read + 4 * rows * columns * self.view.dim(self.spaces)

    def comparable(self, store: Store, places: Sequence[Sequence[RowLocation]]) -> list[np.ndarray]:
        """Vectors of some images as :func:`match` takes them.

        Args:
            places: of each of the spaces, where the images' rows lie.
        """
        pairs = zip(self.spaces, places, strict=True)
        return self.of_rows([store.read(space, found) for space, found in pairs])

    def of_rows(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same from features that were read."""
        return [comparable(image, self.metric) for image in self.view.vectors(self.spaces, rows)]


def pair_views(params: Params, receipt: Receipt) -> tuple[PairView, ...]:
    """How the images of a run are compared with each other.

    Raises:
        StoreError: the receipt is of other parameters.
    """
    metric = params.vision.metric
    return tuple(
        PairView(view, tuple(receipt.space(feature.label) for feature in view.features), metric)
        for view in view_plan(params)
    )


def halved(scores: np.ndarray, metric: Metric) -> np.ndarray:
    """Scores as components hold them: distances of cosines within [0, 1], as of the nearest patch."""
    return scores * np.float32(0.5) if metric == "cosine" else scores


def mutual_digest(batch: Batch, vision: VisionParams) -> str:
    """What stands for a batch and its rule in keys of components."""
    content = {
        "rule": "mutual", "version": PAIR_VERSION, "batch": batch.digest,
        "lowest": vision.lowest, "metric": vision.metric,
        **pairs_described(vision.metric, vision.unit),
    }  # fmt: skip
    return fingerprint(content)


def pair_key(first: str, second: str) -> str:
    """Key of the distances between two images, the smaller key first."""
    return component_key(*sorted((first, second)))


@dataclass(frozen=True, eq=False)
class Batch:
    """The distinct test images of a category, and who is compared with whom.

    Attributes:
        keys: of the images, in an order in which partners stand near each other.
        pairs: (n, 2) places in that order.
        sample: keys of the images that single ones are scored against, sorted.
        digest: of all that the scores of an image depend on besides its features and the rule.
        outside: how many keys, the last ones, are of images that are no partners of others.
    """

    category: str
    keys: tuple[str, ...]
    pairs: np.ndarray
    sample: tuple[str, ...]
    digest: str
    outside: int = 0

    @classmethod
    def of(cls, category: str, images: Keys, vision: RuleParams, seed: int = 0) -> Batch:
        """The batch of a category's test images, whatever their order.

        Raises:
            ParameterError: fewer than five distinct images, with the category's name.
        """
        keys = sorted(set(images))
        partners = partners_of(vision, len(keys))
        try:
            order, pairs = pairing(len(keys), partners=partners, largest=vision.set_size, seed=seed)
        except ParameterError as error:
            raise ParameterError(f"category {category!r}, vision.bank batch: {error}") from None
        sample = tuple(keys[number] for number in draw_sample(len(keys), SAMPLE, seed))
        content = {
            "images": keys, "partners": partners, "seed": seed, "sample": SAMPLE,
            "largest": None if partners else vision.set_size,
        }  # fmt: skip
        return cls(category, tuple(keys[n] for n in order), pairs, sample, fingerprint(content))

    def with_others(self, others: Sequence[str], partners: int | None) -> Batch:
        """The same batch, and images outside it that are compared with some of its images.

        Args:
            others: their keys; those of images of the batch are passed over.
            partners: with how many; None: with all.
        """
        number = {key: place for place, key in enumerate(self.keys)}
        new = [key for key in dict.fromkeys(others) if key not in number]
        partner = np.array([number[key] for key in self.drawn(partners)])
        places = np.arange(len(self.keys), len(self.keys) + len(new))
        added = np.column_stack([np.repeat(places, len(partner)), np.tile(partner, len(new))])
        pairs = np.concatenate([self.pairs, added])
        return replace(self, keys=(*self.keys, *new), pairs=pairs, outside=len(new))

    def drawn(self, partners: int | None) -> list[str]:
        """Keys of the images that one outside the batch is compared with; None: all, sorted."""
        keys = sorted(self.keys)
        return [keys[number] for number in draw_sample(len(keys), partners or len(keys), 0)]

    def pair_keys(self) -> Keys:
        """Of all pairs, in their order."""
        return Keys.of(pair_key(self.keys[a], self.keys[b]) for a, b in self.pairs.tolist())

    @cached_property
    def partners(self) -> dict[str, list[str]]:
        """Of each image the keys of those that it is compared with."""
        found: dict[str, list[str]] = {key: [] for key in self.keys}
        inside = len(self.keys) - self.outside
        for first, second in self.pairs.tolist():
            found[self.keys[first]].append(self.keys[second])
            if first < inside:
                found[self.keys[second]].append(self.keys[first])
        return found


@dataclass(frozen=True, slots=True)
class PairTask:
    """A block of pairs; paths are absolute, as workers run elsewhere.

    Attributes:
        store: where features are, and distances go.
        view: how images are compared.
        name: the category.
        keys: of the images that the block touches.
        places: of each of the view's spaces, where their features lie.
        pairs: (first, second) numbers of these images, the smaller key first.
    """

    store: Location
    view: PairView
    name: str
    keys: tuple[str, ...]
    places: tuple[Sequence[RowLocation], ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def weight(self) -> int:
        """How many pairs."""
        return len(self.pairs)


def score_pairs(task: PairTask) -> int:
    """Compute and store one block; the number of pairs."""
    store = Store(task.store)
    ready = task.view.comparable(store, task.places)
    metric, (_, patches) = task.view.metric, task.view.space.shape
    turned = {second: facing(ready[second], metric) for _, second in task.pairs}
    rows = np.empty((len(task.pairs), 2, patches), np.float32)
    buffer = np.empty((patches, patches), np.float32)
    for row, (first, second) in zip(rows, task.pairs, strict=True):
        row[0], row[1] = match(ready[first], turned[second], metric, buffer)
    keys = [component_key(task.keys[first], task.keys[second]) for first, second in task.pairs]
    store.write(task.view.space, keys, rows)
    return len(task.pairs)


@dataclass(frozen=True, eq=False)
class PairStep:
    """The pairs of some batches; see :class:`pipeline.scoring.before.Step`.

    Attributes:
        views: how images are compared.
        lacking: for each view and batch, which of its pairs are lacking: (n,) bool.
        receipt: of the images' features.
    """

    views: tuple[PairView, ...]
    batches: tuple[Batch, ...]
    lacking: tuple[tuple[np.ndarray, ...], ...]
    receipt: Receipt
    label: str = "pairs"
    unit: str = "pair"

    def without(self, other: PairStep) -> PairStep:
        """This step less the pairs that another one makes before it."""
        made: dict[tuple[Space, str], Keys] = {}
        for view, of_view in zip(other.views, other.lacking, strict=True):
            for batch, lacks in zip(other.batches, of_view, strict=True):
                made[view.space, batch.category] = batch.pair_keys().take(np.flatnonzero(lacks))
        lacking = tuple(
            tuple(
                lacks
                & (made[view.space, batch.category].distinct().get_indexer(batch.pair_keys()) < 0)
                if lacks.any() and (view.space, batch.category) in made
                else lacks
                for batch, lacks in zip(self.batches, of_view, strict=True)
            )
            for view, of_view in zip(self.views, self.lacking, strict=True)
        )
        return replace(self, lacking=lacking)

    @property
    def function(self) -> Callable[[PairTask], int]:
        """See :class:`pipeline.scoring.before.Step`."""
        return score_pairs

    def counts(self) -> dict[Space, int]:
        """See :class:`pipeline.scoring.before.Step`."""
        return {
            view.space: sum(int(lacks.sum()) for lacks in of_view)
            for view, of_view in zip(self.views, self.lacking, strict=True)
        }

    def kept(self) -> dict[Space, Keys]:
        """None: distances can be made again, and take much room."""
        return {}

    def tasks(self, store: Store) -> Iterator[PairTask]:
        """See :class:`pipeline.scoring.before.Step`."""
        for view, of_view in zip(self.views, self.lacking, strict=True):
            if not any(lacks.any() for lacks in of_view):
                continue
            located = [self.receipt.located(store, space.label).check() for space in view.spaces]
            side = max(1, min(BLOCK_IMAGES, READ_BYTES // (2 * view.image_bytes)))
            for batch, lacks in zip(self.batches, of_view, strict=True):
                for block in pair_blocks(batch.pairs[lacks], side):
                    keys = tuple(batch.keys[place] for place in block.images)
                    number = {place: at for at, place in enumerate(block.images.tolist())}
                    pairs = tuple(
                        (number[a], number[b])
                        if batch.keys[a] < batch.keys[b]
                        else (number[b], number[a])
                        for a, b in block.pairs.tolist()
                    )
                    places = tuple(found.locations(keys).narrowed() for found in located)
                    yield PairTask(store.root, view, batch.category, keys, places, pairs)
