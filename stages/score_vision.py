"""Stage score_vision: vision map of every test and calibration image, for each shots and seed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache.index import Index
from cache.keys import Keys
from cache.layout import Group, Location, Space, group_needs, segment_tasks
from cache.store import Store
from fade.bank import unit
from pipeline.banks import BANK_TABLE, Bank, Comparison, comparison_digest, comparisons
from pipeline.calibration import trial_images
from pipeline.cluster import iterate_tasks
from pipeline.components import component_key, patch_grid, vision_map_space
from pipeline.params import Params
from pipeline.paths import CALIBRATION, MANIFEST, REFERENCES, SELECTION, TEST, VISION, store_root
from pipeline.receipts import Located, read_receipt, write_receipt
from pipeline.runner import run_stage
from pipeline.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")

BLOCK_BYTES = 64 << 20
BLOCK_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Task:
    """A block of images of one category to be compared with its bank, and the segment it becomes."""

    store: Path
    bank: Bank
    output: Space
    keys: tuple[str, ...]
    against: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    features: tuple[Space, ...]
    places: tuple[Sequence[Location], ...]


def score_block(task: Task) -> int:
    """Compare and store one block; the number of images."""
    store = Store(task.store)
    by_size = {
        size: unit(store.read(space, places))
        for size, space, places in zip(task.bank.sizes, task.features, task.places, strict=True)
    }
    rows = [
        task.bank.vision_maps(
            {size: vectors[i] for size, vectors in by_size.items()}, task.comparisons
        )
        for i in range(len(task.keys))
    ]
    keys = [component_key(key, against) for key in task.keys for against in task.against]
    store.write(task.output, keys, np.concatenate(rows))
    return len(task.keys)


@dataclass(frozen=True)
class Plan:
    """The work on one category.

    Attributes:
        bank: of the category.
        comparisons: by digest; digests stand for spaces.
        groups: images by the comparisons that they need.
        missing: for each group (images, comparisons), whether the store lacks the map.
    """

    bank: Bank
    comparisons: Mapping[str, Comparison]
    groups: Sequence[Group]
    missing: Sequence[NDArray[np.bool_]]

    @property
    def lacking(self) -> int:
        """How many images the store lacks a map of."""
        return sum(int(np.count_nonzero(lacks.any(axis=1))) for lacks in self.missing)

    def keys(self) -> Keys:
        """Keys of all maps."""
        return Keys.join(
            [group.keys.joined(digest) for group in self.groups for digest in group.spaces]
        )

    def tasks(self, output: Space, features: Sequence[Located], store: Path) -> Iterator[Task]:
        """Tasks for the maps that the store lacks, each made when it is asked for."""
        spaces = tuple(found.space for found in features)
        read = sum(space.row_bytes for space in spaces)
        sizes = dict.fromkeys(self.comparisons, -(-read // max(len(self.comparisons), 1)))
        for cut in segment_tasks(self.groups, self.missing, sizes, BLOCK_BYTES, BLOCK_IMAGES):
            yield Task(
                store,
                self.bank,
                output,
                cut.keys,
                cut.spaces,
                tuple(self.comparisons[digest] for digest in cut.spaces),
                spaces,
                tuple(found.places(cut.keys).narrowed() for found in features),
            )


def run(params: Params) -> None:
    """Bring the vision maps up to date and write their receipt."""
    store = Store(store_root(params.features.store))
    tests, _ = read_table(MANIFEST.path, ("category", "hash"), split="test")
    needed: dict[Space, Keys] = {}
    against: dict[str, Any] = {}
    calibration, _ = read_table(CALIBRATION.path)
    if params.needs_vision and len(tests) + len(calibration):
        receipt = read_receipt(TEST)
        labels = [feature.label for feature in params.vision_features()]
        spaces = [receipt.space(label) for label in labels]
        output = vision_map_space(spaces)
        store.register(output)
        plans, against = _plan(params, tests, calibration, spaces, store.index(output))
        lacking = sum(plan.lacking for plan in plans)
        root = store.root.absolute()
        with receipt.void_if_damaged():
            features = [receipt.located(store, label).check() for label in labels if lacking]
            done = sum(
                iterate_tasks(
                    score_block,
                    chain.from_iterable(plan.tasks(output, features, root) for plan in plans),
                    params.cluster,
                    "vision",
                    weight=lambda task: len(task.keys),
                    name=lambda task: task.bank.category,
                    total=lacking,
                )
            )
        needed[output] = Keys.join([plan.keys() for plan in plans])
        log.info("%d vision maps, %d images searched now", len(needed[output].distinct()), done)
    write_receipt(VISION, store, needed, against)


def _plan(
    params: Params,
    tests: pd.DataFrame,
    calibration: pd.DataFrame,
    features: Sequence[Space],
    present: Index,
) -> tuple[list[Plan], dict[str, Any]]:
    """Plans of all categories, and what is compared with: by category and trial, and of references
    that are held out also by image.
    """
    selection, _ = read_table(SELECTION.path)
    table, _ = read_table(BANK_TABLE)
    references = read_receipt(REFERENCES)
    labels = [feature.label for feature in params.vision_features()]
    sizes = tuple(feature.size for feature in params.vision_features())
    scored, candidates_of, chosen_of, banks = (
        dict(tuple(frame.groupby("category", sort=False)))
        for frame in (tests, calibration, selection, table)
    )
    grids = dict(zip(sizes, map(patch_grid, features), strict=True))
    plans: list[Plan] = []
    against: dict[str, dict[str, str]] = {}
    held_out: dict[str, dict[str, dict[str, str]]] = {}
    for category in dict.fromkeys([*scored, *candidates_of]):
        bank_rows = banks.get(category, table.iloc[:0])
        positions = dict(zip(bank_rows["hash"], bank_rows["position"].astype(int), strict=True))
        trials = comparisons(chosen_of.get(category, selection.iloc[:0]), positions, params)
        images = Keys.of(scored[category]["hash"] if category in scored else ())
        candidates = candidates_of[category]["hash"].tolist() if category in candidates_of else []
        by_digest: dict[str, Comparison] = {}
        needs: list[tuple[Keys, list[str]]] = [(images, [])]
        for comparison, keys in trials:
            digest = comparison_digest(comparison, keys, references, labels, params)
            by_digest.setdefault(digest, comparison)
            against.setdefault(str(category), {})[comparison.trial.label] = digest
            needs[0][1].append(digest)
            chosen = trial_images(candidates, keys)
            needs.append((Keys.of(() if chosen.held_out else chosen.keys), [digest]))
            # an index of its own for each trial has no part that could be left out
            for key in chosen.keys if chosen.held_out and Bank.shared(params) else ():
                others = [other for other in keys if other != key]
                rest = replace(comparison, references=tuple(positions[k] for k in others))
                digest = comparison_digest(rest, others, references, labels, params)
                by_digest.setdefault(digest, rest)
                needs.append((Keys.of([key]), [digest]))
                of_trial = held_out.setdefault(str(category), {})
                of_trial.setdefault(comparison.trial.label, {})[key] = digest
        groups = group_needs(needs)
        missing = [
            np.stack([~present.has(group.keys.joined(digest)) for digest in group.spaces], axis=1)
            for group in groups
        ]
        bank = Bank(str(category), sizes, Bank.shared(params), root=Path.cwd(), grids=grids)
        plans.append(Plan(bank, by_digest, groups, missing))
    return plans, {"vision-map": against, "held-out": held_out}


if __name__ == "__main__":
    run_stage("stages.score_vision")
