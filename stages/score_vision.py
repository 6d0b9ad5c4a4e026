"""Stage score_vision: vision map of every test and calibration image, for each shots and seed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.files import Place
from cache.layout import Location, Space, plan_segments
from cache.store import Store
from fade.bank import unit
from pipeline.banks import BANK_TABLE, Bank, Comparison, comparison_digest, comparisons
from pipeline.calibration import trial_images
from pipeline.cluster import map_tasks
from pipeline.components import component_key, patch_grid, vision_map_space
from pipeline.params import Params
from pipeline.paths import CALIBRATION, MANIFEST, REFERENCES, SELECTION, TEST, VISION, store_root
from pipeline.receipts import Receipt, read_receipt, write_receipt
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

    store: Place
    bank: Bank
    output: Space
    keys: tuple[str, ...]
    against: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    features: tuple[Space, ...]
    places: tuple[tuple[Location, ...], ...]


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


def _plan_category(
    needs: Mapping[str, Sequence[str]],
    against: Mapping[str, Comparison],
    bank: Bank,
    output: Space,
    features: Sequence[Space],
    places: Sequence[Mapping[str, Location]],
    present: Mapping[str, Location],
    store: Place,
) -> list[Task]:
    done = {
        digest: {key for key in needs if component_key(key, digest) in present}
        for digest in against
    }
    read = sum(feature.row_bytes for feature in features)
    plans = plan_segments(
        needs,
        done,
        dict.fromkeys(against, -(-read // len(against))),
        BLOCK_BYTES,
        BLOCK_IMAGES,
    )
    return [
        Task(
            store,
            bank,
            output,
            plan.keys,
            plan.spaces,
            tuple(against[digest] for digest in plan.spaces),
            tuple(features),
            tuple(tuple(where[key] for key in plan.keys) for where in places),
        )
        for plan in plans
    ]


def run(params: Params) -> None:
    """Bring the vision maps up to date and write their receipt."""
    store = Store(store_root(params.features.store))
    manifest, _ = read_table(MANIFEST.path)
    tests = manifest[manifest["split"] == "test"]
    needed: dict[Space, list[str]] = {}
    against: dict[str, Any] = {}
    calibration, _ = read_table(CALIBRATION.path)
    if params.needs_vision and len(tests) + len(calibration):
        receipt = read_receipt(TEST)
        references = read_receipt(REFERENCES)
        with receipt.void_if_damaged():
            output, tasks, rows, against = _plan(
                params, tests, calibration, receipt, references, store
            )
            done = map_tasks(
                score_block,
                tasks,
                params.cluster,
                "vision",
                weight=lambda task: len(task.keys),
                name=lambda task: task.bank.category,
            )
        needed[output] = rows
        log.info("%d vision maps, %d images searched now", len(set(rows)), sum(done))
    write_receipt(VISION, store, needed, against)


def _plan(
    params: Params,
    tests: pd.DataFrame,
    calibration: pd.DataFrame,
    receipt: Receipt,
    references: Receipt,
    store: Store,
) -> tuple[Space, list[Task], list[str], dict[str, Any]]:
    """The output space, tasks for rows that the store lacks, keys of all rows, and what is compared
    with: by category and trial, and of references that are held out also by image.
    """
    selection, _ = read_table(SELECTION.path)
    table, _ = read_table(BANK_TABLE)
    labels = [feature.label for feature in params.vision_features()]
    features = [receipt.space(label) for label in labels]
    output = vision_map_space(features)
    present = store.present(output)
    sizes = tuple(feature.size for feature in params.vision_features())
    grids = dict(zip(sizes, map(patch_grid, features), strict=True))
    images = [*tests["hash"], *calibration["hash"]]
    places = [receipt.locate(store, label, images) for label in labels]
    tasks: list[Task] = []
    rows: list[str] = []
    against: dict[str, dict[str, str]] = {}
    held_out: dict[str, dict[str, dict[str, str]]] = {}
    for category in dict.fromkeys([*tests["category"], *calibration["category"]]):
        bank_rows = table[table["category"] == category]
        positions = dict(zip(bank_rows["hash"], bank_rows["position"].astype(int), strict=True))
        trials = comparisons(selection[selection["category"] == category], positions, params)
        scored = tests.loc[tests["category"] == category, "hash"].tolist()
        candidates = calibration.loc[calibration["category"] == category, "hash"].tolist()
        bank = Bank(str(category), sizes, Bank.shared(params), root=Path.cwd(), grids=grids)
        by_digest: dict[str, Comparison] = {}
        needs: dict[str, list[str]] = {key: [] for key in (*scored, *candidates)}
        for comparison, keys in trials:
            digest = comparison_digest(comparison, keys, references, labels, params)
            by_digest.setdefault(digest, comparison)
            against.setdefault(str(category), {})[comparison.trial.label] = digest
            chosen = trial_images(candidates, keys)
            for key in dict.fromkeys((*scored, *(() if chosen.held_out else chosen.keys))):
                needs[key].append(digest)
            # an index of its own for each trial has no part that could be left out
            for key in chosen.keys if chosen.held_out and bank.exact else ():
                others = [other for other in keys if other != key]
                rest = replace(comparison, references=tuple(positions[k] for k in others))
                digest = comparison_digest(rest, others, references, labels, params)
                by_digest.setdefault(digest, rest)
                needs[key].append(digest)
                of_trial = held_out.setdefault(str(category), {})
                of_trial.setdefault(comparison.trial.label, {})[key] = digest
        tasks += _plan_category(
            needs, by_digest, bank, output, features, places, present, store.root
        )
        rows += [component_key(key, digest) for key, found in needs.items() for digest in found]
    store.prepare({output: sum(len(task.keys) * len(task.against) for task in tasks)})
    return output, tasks, rows, {"vision-map": against, "held-out": held_out}


if __name__ == "__main__":
    run_stage("stages.score_vision")
