"""Score components that a run needs: which images, what the store lacks, and the tasks for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from cache.files import Location
from cache.index import Index
from cache.keys import Keys
from cache.layout import Group, RowLocation, Space, group_needs, segment_tasks
from cache.store import Store
from fade.types import Trial
from pipeline.artefacts.receipts import Located, Receipt
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.cluster import ClusterParams
from pipeline.scoring.before import Step, run_step
from pipeline.scoring.calibration import trial_images
from pipeline.scoring.components import component_key

BLOCK_BYTES = 64 << 20
"""Features that one task reads at most."""
IndexOf = Callable[[Space], Index]
"""A space's index: ``Store.readable`` to know, ``Store.repair`` before components are computed."""


class Scorer(Protocol):
    """Makes components of images from their features; small, as it is sent to workers."""

    @property
    def name(self) -> str:
        """What is worked on, for the progress of a run."""

    def rows(
        self, output: Space, features: Sequence[Space], vectors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Components of some images; those of one do not depend on which others there are.

        Args:
            features: spaces of the features.
            vectors: of each feature the rows (images, dim) or (images, patches, dim) as stored.

        Returns:
            (images x comparisons, *output.shape), the comparisons of an image one after the other.
        """


@dataclass(frozen=True, slots=True)
class ComponentBlock:
    """Images of which one scorer makes components, and the segment that these become.

    Attributes:
        scorer: makes them.
        against: what the scorer compares with, the second parts of the components' keys.
        features: spaces of the features.
    """

    output: Space
    scorer: Scorer
    against: tuple[str, ...]
    features: tuple[Space, ...]
    keys: tuple[str, ...]

    def write(self, store: Store, vectors: Sequence[np.ndarray]) -> None:
        """Compute the components and store them.

        Args:
            vectors: see :meth:`Scorer.rows`.
        """
        rows = self.scorer.rows(self.output, self.features, vectors)
        keys = [component_key(key, against) for key in self.keys for against in self.against]
        store.write(self.output, keys, rows)


@dataclass(frozen=True, slots=True)
class ComponentTask:
    """A block whose features are in the store; paths are absolute, as workers run elsewhere.

    Attributes:
        store: where features are, and components go.
        places: of each feature where the images' rows lie.
    """

    store: Location
    block: ComponentBlock
    places: tuple[Sequence[RowLocation], ...]


def score_block(task: ComponentTask) -> int:
    """Compute and store one block; the number of images."""
    store = Store(task.store)
    pairs = zip(task.block.features, task.places, strict=True)
    task.block.write(store, [store.read(space, places) for space, places in pairs])
    return len(task.block.keys)


@dataclass(frozen=True, eq=False)
class ComponentPlan(ABC):
    """Components of one space that are made in the same way.

    Attributes:
        block_images: how many images a block has at most.
        features: spaces of the features that they are made of.
        groups: images by what they are compared with, whose digests stand for spaces.
        missing: for each group (images, digests), whether the store lacks the component.
        reads_once: whether features are read once for all digests.
    """

    output: Space
    features: tuple[Space, ...]
    groups: Sequence[Group]
    missing: Sequence[NDArray[np.bool_]]
    block_images: ClassVar[int]
    reads_once: ClassVar[bool] = False

    @abstractmethod
    def scorer(self, keys: tuple[str, ...], against: Sequence[str]) -> Scorer:
        """What compares these images with what these digests stand for, in their order."""

    @property
    def read_bytes(self) -> int:
        """Bytes that are read of an image for one digest."""
        digests = {digest for group in self.groups for digest in group.spaces}
        shared = len(digests) if self.reads_once and digests else 1
        return -(-sum(space.row_bytes for space in self.features) // shared)

    @property
    def lacking(self) -> int:
        """How many images lack a component."""
        return sum(int(np.count_nonzero(lacks.any(axis=1))) for lacks in self.missing)

    @property
    def lacking_components(self) -> int:
        """How many components the store lacks."""
        return sum(int(np.count_nonzero(lacks)) for lacks in self.missing)

    @property
    def total(self) -> int:
        """How many components there are."""
        return sum(lacks.size for lacks in self.missing)

    def keys(self) -> Keys:
        """Keys of all components."""
        return Keys.join(
            [group.keys.with_suffix(digest) for group in self.groups for digest in group.spaces]
        )

    def block(self, keys: tuple[str, ...], against: tuple[str, ...]) -> ComponentBlock:
        """Some images to be compared with the same."""
        scorer = self.scorer(keys, against)
        return ComponentBlock(self.output, scorer, against, self.features, keys)

    def blocks(self) -> Iterator[ComponentBlock]:
        """All images that lack components, each block made when it is asked for."""
        sizes = {digest: self.read_bytes for group in self.groups for digest in group.spaces}
        for cut in segment_tasks(self.groups, self.missing, sizes, BLOCK_BYTES, self.block_images):
            yield self.block(cut.keys, cut.spaces)


@dataclass(frozen=True, eq=False)
class ComponentWork:
    """All components that a stage brings up to date.

    Attributes:
        against: what images are compared with, for the receipt: by label, category and trial.
        before: what must be done before any block is made.
    """

    plans: Sequence[ComponentPlan] = ()
    against: Mapping[str, Any] | None = None
    before: tuple[Step, ...] = ()

    def joined(self, other: ComponentWork) -> ComponentWork:
        """This work and another one, whose trials are others."""
        against: dict[str, dict[str, Any]] = {}
        for part in (self.against or {}, other.against or {}):
            for label, categories in part.items():
                for category, trials in categories.items():
                    against.setdefault(label, {}).setdefault(category, {}).update(trials)
        return ComponentWork(
            [*self.plans, *other.plans], against or None, self.before + other.before
        )

    @property
    def lacking(self) -> int:
        """How many images lack a component, those of each plan counted."""
        return sum(plan.lacking for plan in self.plans)

    @property
    def lacking_components(self) -> int:
        """How many components the store lacks."""
        return sum(plan.lacking_components for plan in self.plans)

    @property
    def total(self) -> int:
        """How many components there are."""
        return sum(plan.total for plan in self.plans)

    def prepare(self, store: Store) -> None:
        """Register the spaces that components will be written to.

        Raises:
            StoreError: components are lacking and cannot be written.
        """
        counts = {plan.output: 0 for plan in self.plans}
        for plan in self.plans:
            counts[plan.output] += plan.lacking_components
        for step in self.before:
            counts |= {space: count for space, count in step.counts().items() if count}
        store.prepare(counts)

    def needed(self) -> dict[Space, Callable[[], Keys]]:
        """What makes the keys of all components, by space."""
        outputs = dict.fromkeys(plan.output for plan in self.plans)
        kept = {
            space: partial(lambda keys: keys, keys)
            for step in self.before
            for space, keys in step.kept().items()
        }
        return {**{output: partial(self._keys, output) for output in outputs}, **kept}

    def _keys(self, output: Space) -> Keys:
        return Keys.join([plan.keys() for plan in self.plans if plan.output == output])

    def tasks(self, receipt: Receipt, store: Store) -> Iterator[ComponentTask]:
        """Tasks for all that lacks, each made when it is asked for.

        Raises:
            DamagedSegmentError: features are gone or changed.
        """
        spaces: tuple[Space, ...] = ()
        located: list[Located] = []
        for plan in self.plans:
            if not plan.lacking:
                continue
            if plan.features != spaces:
                spaces = plan.features
                located = [receipt.located(store, space.label).check() for space in spaces]
            for block in plan.blocks():
                places = tuple(found.locations(block.keys).narrowed() for found in located)
                yield ComponentTask(store.root, block, places)

    def run(self, receipt: Receipt, store: Store, cluster: ClusterParams, label: str) -> int:
        """Compute and store all that lacks; how many images were compared.

        Args:
            receipt: of the features; it goes where they prove lost.
            store: where they are.
            cluster: who works.
            label: names the work in the progress bar.

        Raises:
            DamagedSegmentError: features are gone or changed.
        """
        with receipt.discard_on_damage(store):
            for step in self.before:
                run_step(step, store, cluster)
            done = iterate_tasks(
                score_block, self.tasks(receipt, store), cluster, label,
                weight=lambda task: len(task.block.keys), name=lambda task: task.block.scorer.name,
                total=self.lacking, store=store.root,
            )  # fmt: skip
            return sum(done)


class ComparedWith:
    """What images are compared with, gathered category by category.

    Args:
        digest_of: of what a category's trial compares with where its references are these.
        hold_out: whether references may be compared with the other ones.

    Attributes:
        trials: digests by category and label of a trial.
        held_out: the same of references that are held out, also by their key.
    """

    def __init__(
        self, digest_of: Callable[[str, Trial, list[str]], str], *, hold_out: bool = True
    ) -> None:
        self._digest_of, self._hold_out = digest_of, hold_out
        self.trials: dict[str, dict[str, str]] = {}
        self.held_out: dict[str, dict[str, dict[str, str]]] = {}

    def add(
        self, category: str, tests: Keys, normal: Sequence[str], references: dict[Trial, list[str]]
    ) -> list[Group]:
        """Take a category in; its images by what they are compared with.

        Args:
            tests: keys of its test images.
            normal: keys of its images to calibrate on.
            references: keys by trial.
        """
        needs: list[tuple[Keys, list[str]]] = [(tests, [])]
        for trial, keys in references.items():
            digest = self._digest_of(category, trial, keys)
            self.trials.setdefault(category, {})[trial.label] = digest
            needs[0][1].append(digest)
            chosen = trial_images(normal, keys)
            if not chosen.held_out:
                needs.append((Keys.of(chosen.keys), [digest]))
            for key in chosen.keys if chosen.held_out and self._hold_out else ():
                digest = self._digest_of(category, trial, [k for k in keys if k != key])
                needs.append((Keys.of([key]), [digest]))
                of_category = self.held_out.setdefault(category, {})
                of_category.setdefault(trial.label, {})[key] = digest
        return group_needs(needs)


def missing_components(groups: Sequence[Group], index: Index) -> list[NDArray[np.bool_]]:
    """For each group (images, digests), whether an index lacks the component."""
    return [
        np.stack([~index.has(group.keys.with_suffix(digest)) for digest in group.spaces], axis=1)
        for group in groups
    ]
