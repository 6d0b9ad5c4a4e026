"""Stage score_vision: vision map of every test and calibration image, for each shots and seed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from cache.files import Place
from cache.keys import Keys
from cache.layout import Location, Space, segment_tasks
from cache.store import Store
from fade.bank import unit
from pipeline.artefacts.catalogue import TEST, VISION, store_root
from pipeline.artefacts.receipts import Located, check_streamed, read_receipt, write_receipt
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.schema import Params
from pipeline.process.memory import give_back
from pipeline.scoring.banks import Bank, Comparison
from pipeline.scoring.components import component_key
from pipeline.scoring.vision import VisionPlan, VisionWork, plan_vision, vision_rows
from pipeline.stage import run_stage

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
    places: tuple[Sequence[Location], ...]


def score_block(task: Task) -> int:
    """Compare and store one block; the number of images."""
    store = Store(task.store)
    vectors = [
        unit(store.read(space, places))
        for space, places in zip(task.features, task.places, strict=True)
    ]
    rows = vision_rows(task.bank, task.comparisons, vectors)
    keys = [component_key(key, against) for key in task.keys for against in task.against]
    store.write(task.output, keys, rows)
    return len(task.keys)


def _tasks(
    plan: VisionPlan, work: VisionWork, features: Sequence[Located], store: Place
) -> Iterator[Task]:
    """Tasks for a category's maps that the store lacks, each made when it is asked for."""
    read = sum(space.row_bytes for space in work.features)
    sizes = dict.fromkeys(plan.comparisons, -(-read // max(len(plan.comparisons), 1)))
    for cut in segment_tasks(plan.groups, plan.missing, sizes, BLOCK_BYTES, BLOCK_IMAGES):
        yield Task(
            store,
            plan.bank,
            work.output,
            cut.keys,
            cut.spaces,
            tuple(plan.comparisons[digest] for digest in cut.spaces),
            tuple(work.features),
            tuple(found.places(cut.keys).narrowed() for found in features),
        )


def run(params: Params) -> None:
    """Bring the vision maps up to date and write their receipt."""
    store = Store(store_root(params.features.store))
    needed: dict[Space, Keys] = {}
    against: Mapping[str, Any] = {}
    receipt = read_receipt(TEST)
    work = plan_vision(params, receipt, store)
    give_back()
    if work is not None:
        if not params.features.keep:
            check_streamed(store, work.lacking)
        root, against = store.root, work.against
        with receipt.void_if_damaged(store):
            features = [
                receipt.located(store, space.label).check()
                for space in work.features if work.lacking
            ]  # fmt: skip
            done = sum(
                iterate_tasks(
                    score_block,
                    chain.from_iterable(_tasks(p, work, features, root) for p in work.plans),
                    params.cluster,
                    "vision",
                    weight=lambda task: len(task.keys),
                    name=lambda task: task.bank.category,
                    total=work.lacking,
                )
            )
        needed[work.output] = work.keys().distinct()
        log.info("%d vision maps, %d images searched now", len(needed[work.output]), done)
    write_receipt(VISION, store, needed, against)


if __name__ == "__main__":
    run_stage("stages.score_vision")
