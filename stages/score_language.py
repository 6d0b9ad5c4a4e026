"""Stage score_language: language score and language map of every test and calibration image."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cache.files import Place
from cache.layout import Location, Space, segment_tasks
from cache.store import Store
from fade.bank import unit
from pipeline.artefacts.catalogue import LANGUAGE, TEST, store_root
from pipeline.artefacts.receipts import Receipt, check_streamed, read_receipt, write_receipt
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.schema import Params
from pipeline.process.memory import give_back
from pipeline.scoring.components import component_key
from pipeline.scoring.language import LanguagePlan, language_rows, plan_language
from pipeline.scoring.texts import classifier_path, open_classifier
from pipeline.stage import run_stage

log = logging.getLogger("fade")

BLOCK_BYTES = 64 << 20
BLOCK_IMAGES = 256


@dataclass(frozen=True, slots=True)
class Task:
    """A block of images to be classified by one text classifier, and the segment it becomes.

    Paths are absolute, as workers run in folders of their own.
    """

    store: Place
    classifier: Path
    digest: str
    output: Space
    keys: tuple[str, ...]
    features: tuple[Space, ...]
    places: tuple[Sequence[Location], ...]


def score_block(task: Task) -> int:
    """Compute and store one block; the number of images."""
    store = Store(task.store)
    vectors = [
        unit(store.read(space, places))
        for space, places in zip(task.features, task.places, strict=True)
    ]
    classifier = open_classifier(task.classifier)
    rows = language_rows(classifier, task.output, task.features, vectors)
    store.write(task.output, [component_key(key, task.digest) for key in task.keys], rows)
    return len(task.keys)


def _tasks(plan: LanguagePlan, receipt: Receipt, store: Store) -> Iterator[Task]:
    """Tasks for the components that the store lacks, each made when it is asked for."""
    if not plan.lacking:
        return
    features = [receipt.located(store, label).check() for label in plan.labels]
    read = sum(space.row_bytes for space in plan.features)
    sizes = {digest: read for group in plan.groups for digest in group.spaces}
    for cut in segment_tasks(plan.groups, plan.missing, sizes, BLOCK_BYTES, BLOCK_IMAGES):
        places = tuple(found.places(cut.keys).narrowed() for found in features)
        for digest in cut.spaces:
            yield Task(
                store.root, classifier_path(digest).absolute(), digest,
                plan.output, cut.keys, tuple(plan.features), places,
            )  # fmt: skip


def run(params: Params) -> None:
    """Bring the language components up to date and write their receipt."""
    store = Store(store_root(params.features.store))
    receipt = read_receipt(TEST)
    plans = plan_language(params, receipt, store)
    give_back()
    lacking = sum(plan.lacking for plan in plans)
    if not params.features.keep:
        check_streamed(store, lacking)
    with receipt.void_if_damaged(store):
        tasks = iterate_tasks(
            score_block,
            chain.from_iterable(_tasks(plan, receipt, store) for plan in plans),
            params.cluster,
            "language",
            weight=lambda task: len(task.keys),
            name=lambda task: task.output.label.removeprefix("language-"),
            total=lacking,
        )
        done = sum(tasks)
    total = sum(plan.total for plan in plans)
    log.info("%d components in the store, %d computed now", total - done, done)
    against = {plan.output.label: plan.classifiers for plan in plans}
    write_receipt(LANGUAGE, store, {plan.output: plan.keys for plan in plans}, against)


if __name__ == "__main__":
    run_stage("stages.score_language")
