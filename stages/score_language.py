"""Stage score_language: language score and language map of every test and calibration image."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.keys import Keys
from cache.layout import Group, Location, Space, group_needs, segment_tasks
from cache.store import Store
from fade.bank import unit
from fade.maps import merge_sizes
from pipeline.cluster import iterate_tasks
from pipeline.components import (
    component_key,
    language_map_space,
    language_score_space,
    patch_grid,
)
from pipeline.images import scored_by_category
from pipeline.params import Params
from pipeline.paths import CATEGORIES, LANGUAGE, TEST, store_root
from pipeline.receipts import Receipt, read_receipt, write_receipt
from pipeline.runner import run_stage
from pipeline.tables import read_json
from pipeline.texts import TextIndex, classifier_path, open_classifier, uses

log = logging.getLogger("fade")

BLOCK_BYTES = 64 << 20
BLOCK_IMAGES = 256


@dataclass(frozen=True, slots=True)
class Task:
    """A block of images to be classified by one text classifier, and the segment it becomes.

    Paths are absolute, as workers run in folders of their own.
    """

    store: Path
    classifier: Path
    digest: str
    output: Space
    keys: tuple[str, ...]
    features: tuple[Space, ...]
    places: tuple[Sequence[Location], ...]


def score_block(task: Task) -> int:
    """Compute and store one block; the number of images."""
    store = Store(task.store)
    classifier = open_classifier(task.classifier)
    probabilities = []
    for space, places in zip(task.features, task.places, strict=True):
        vectors = unit(store.read(space, places))
        if not task.output.shape:
            vectors = vectors[None]
        # one image at a time, so that its map does not depend on the others of its block
        parts = [classifier.predict_proba(part)[:, 1] for part in vectors]
        probabilities.append(np.stack(parts))
    if not task.output.shape:
        rows = probabilities[0][0]
    else:
        grids = [patch_grid(space) for space in task.features]
        rows = np.stack(
            [
                merge_sizes(
                    [p[i].reshape(grid) for p, grid in zip(probabilities, grids, strict=True)]
                )
                for i in range(len(task.keys))
            ]
        )
    store.write(task.output, [component_key(key, task.digest) for key in task.keys], rows)
    return len(task.keys)


@dataclass(frozen=True)
class Plan:
    """The work of one use of text.

    Attributes:
        output: space of the components.
        groups: images by the classifiers that they need, whose digests stand for spaces.
        missing: for each group (images, classifiers), whether the store lacks the component.
        labels: of the features.
    """

    output: Space
    groups: Sequence[Group]
    missing: Sequence[NDArray[np.bool_]]
    labels: Sequence[str]

    @property
    def lacking(self) -> int:
        """How many components the store lacks."""
        return sum(int(np.count_nonzero(lacks)) for lacks in self.missing)

    def keys(self) -> Keys:
        """Keys of all components."""
        return Keys.join(
            [group.keys.joined(digest) for group in self.groups for digest in group.spaces]
        )

    def tasks(self, receipt: Receipt, store: Store) -> Iterator[Task]:
        """Tasks for the components that the store lacks, each made when it is asked for."""
        if not self.lacking:
            return
        features = [receipt.located(store, label).check() for label in self.labels]
        spaces = tuple(found.space for found in features)
        read = sum(space.row_bytes for space in spaces)
        sizes = {digest: read for group in self.groups for digest in group.spaces}
        for cut in segment_tasks(self.groups, self.missing, sizes, BLOCK_BYTES, BLOCK_IMAGES):
            places = tuple(found.places(cut.keys).narrowed() for found in features)
            for digest in cut.spaces:
                yield Task(
                    store.root.absolute(), classifier_path(digest).absolute(), digest,
                    self.output, cut.keys, spaces, places,
                )  # fmt: skip


def _plan(
    labels: list[str],
    output: Space,
    images: Mapping[str, Keys],
    classifiers: Mapping[str, str],
    store: Store,
) -> Plan:
    groups = group_needs([(keys, [classifiers[category]]) for category, keys in images.items()])
    index = store.index(output)
    missing = [
        np.stack([~index.has(group.keys.joined(digest)) for digest in group.spaces], axis=1)
        for group in groups
    ]
    return Plan(output, groups, missing, labels)


def run(params: Params) -> None:
    """Bring the language components up to date and write their receipt."""
    categories = read_json(CATEGORIES.path)["categories"]
    store = Store(store_root(params.features.store))
    images = scored_by_category()
    needed: dict[Space, Keys] = {}
    against: dict[str, Mapping[str, str]] = {}
    receipt = read_receipt(TEST)
    if images and uses(params):
        text = TextIndex.read()
        weights = next(iter(receipt.spaces.values())).description["weights"]
        text.check(params, weights, categories)
        plans = []
        for use in uses(params):
            if use == "classification":
                labels = [params.classification_feature().label]
                output = language_score_space(receipt.space(labels[0]))
            else:
                labels = [feature.label for feature in params.language_features()]
                output = language_map_space([receipt.space(label) for label in labels])
            store.register(output)
            plans.append(_plan(labels, output, images, text.classifiers[use], store))
            against[output.label] = text.classifiers[use]
        with receipt.void_if_damaged():
            tasks = iterate_tasks(
                score_block,
                chain.from_iterable(plan.tasks(receipt, store) for plan in plans),
                params.cluster,
                "language",
                weight=lambda task: len(task.keys),
                name=lambda task: task.output.label.removeprefix("language-"),
                total=sum(plan.lacking for plan in plans),
            )
            done = sum(tasks)
        needed = {plan.output: plan.keys() for plan in plans}
        log.info(
            "%d components in the store, %d computed now",
            sum(map(len, needed.values())) - done, done,
        )  # fmt: skip
    write_receipt(LANGUAGE, store, needed, against)


if __name__ == "__main__":
    run_stage("stages.score_language")
