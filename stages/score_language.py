"""Stage score_language: language score and language map of every test and calibration image."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.files import Place
from cache.layout import Location, Space, plan_segments
from cache.store import Store
from fade.bank import unit
from fade.maps import merge_sizes
from pipeline.cluster import map_tasks
from pipeline.components import (
    component_key,
    language_map_space,
    language_score_space,
    patch_grid,
)
from pipeline.params import Params
from pipeline.paths import CALIBRATION, CATEGORIES, LANGUAGE, MANIFEST, TEST, store_root
from pipeline.receipts import Receipt, read_receipt, write_receipt
from pipeline.runner import run_stage
from pipeline.tables import read_json, read_table
from pipeline.texts import TextIndex, Use, classifier_path, open_classifier, uses

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
    places: tuple[tuple[Location, ...], ...]


def score_block(task: Task) -> int:
    """Compute and store one block; the number of images."""
    store = Store(task.store)
    classifier = open_classifier(task.classifier)
    probabilities = []
    for space, places in zip(task.features, task.places, strict=True):
        vectors = unit(store.read(space, places))
        flat = classifier.predict_proba(vectors.reshape(-1, vectors.shape[-1]))[:, 1]
        probabilities.append(flat.reshape(vectors.shape[:-1]))
    if not task.output.shape:
        rows = probabilities[0]
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


def _plan(
    use: Use,
    labels: list[str],
    output: Space,
    images: Mapping[str, list[str]],
    classifiers: Mapping[str, str],
    receipt: Receipt,
    store: Store,
) -> tuple[list[Task], list[str]]:
    """Tasks for the rows that the store lacks, and the keys of all rows of this use."""
    needs: dict[str, list[str]] = {}
    for category, keys in images.items():
        for key in keys:
            needs.setdefault(key, []).append(classifiers[category])
    index = store.present(output)
    digests = sorted(set(classifiers.values()))
    present = {
        digest: {key for key in needs if component_key(key, digest) in index} for digest in digests
    }
    features = [receipt.space(label) for label in labels]
    places = [receipt.locate(store, label, needs) for label in labels]
    read = sum(feature.row_bytes for feature in features)
    plans = plan_segments(needs, present, dict.fromkeys(digests, read), BLOCK_BYTES, BLOCK_IMAGES)
    tasks = [
        Task(
            store.root,
            classifier_path(digest).absolute(),
            digest,
            output,
            plan.keys,
            tuple(features),
            tuple(tuple(where[key] for key in plan.keys) for where in places),
        )
        for plan in plans
        for digest in plan.spaces
    ]
    rows = [component_key(key, digest) for key, found in needs.items() for digest in found]
    return tasks, rows


def run(params: Params) -> None:
    """Bring the language components up to date and write their receipt."""
    manifest, _ = read_table(MANIFEST.path)
    categories = read_json(CATEGORIES.path)["categories"]
    store = Store(store_root(params.features.store))
    calibration, _ = read_table(CALIBRATION.path)
    images: dict[str, list[str]] = {}
    for rows_of in (manifest[manifest["split"] == "test"], calibration):
        for category, part in rows_of.groupby("category", sort=False):
            images.setdefault(str(category), []).extend(part["hash"])
    needed: dict[Space, list[str]] = {}
    against: dict[str, Mapping[str, str]] = {}
    receipt = read_receipt(TEST)
    if images and uses(params):
        text = TextIndex.read()
        weights = next(iter(receipt.spaces.values())).description["weights"]
        text.check(params, weights, categories)
        with receipt.void_if_damaged():
            tasks: list[Task] = []
            for use in uses(params):
                if use == "classification":
                    labels = [params.classification_feature().label]
                    output = language_score_space(receipt.space(labels[0]))
                else:
                    labels = [feature.label for feature in params.language_features()]
                    output = language_map_space([receipt.space(label) for label in labels])
                planned, rows = _plan(
                    use, labels, output, images, text.classifiers[use], receipt, store
                )
                store.prepare({output: sum(len(task.keys) for task in planned)})
                tasks += planned
                needed[output] = rows
                against[output.label] = text.classifiers[use]
            done = map_tasks(
                score_block,
                tasks,
                params.cluster,
                "language",
                weight=lambda task: len(task.keys),
                name=lambda task: task.output.label.removeprefix("language-"),
            )
        log.info(
            "%d components in the store, %d computed now",
            sum(map(len, needed.values())) - sum(done), sum(done),
        )  # fmt: skip
    write_receipt(LANGUAGE, store, needed, against)


if __name__ == "__main__":
    run_stage("stages.score_language")
