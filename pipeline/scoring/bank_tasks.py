"""What is to be written for a category's memory banks, and how a worker writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.files import Location
from cache.layout import RowLocation, Space
from cache.store import Store
from fade.bank import coreset
from fade.faiss_index import build_index, stored_digest, write_index
from fade.rules.thinning import thin
from fade.types import Trial
from fade.views import Metric
from pipeline.artefacts.receipts import Receipt
from pipeline.config.schema import Params
from pipeline.dataset.images import keys_by_feature, references_by_category, references_of
from pipeline.scoring.banks import Bank, bank_path
from pipeline.scoring.views import FeatureView, joined, view_plan

if TYPE_CHECKING:
    import faiss
    import pandas as pd


Stored = tuple[tuple[Space, tuple[RowLocation, ...]], ...]
"""For each feature of a view its space and where the references' rows lie."""


@dataclass(frozen=True)
class BankTask:
    """The bank of one category; paths are absolute, as workers run in folders of their own.

    Attributes:
        keys: the category's distinct references.
        features: for each view and transform of a reference, where its features lie of each of them.
        trials: where trials cannot share an index, the references of each.
        index: kind of these.
        coreset: share of the patches that these keep.
        bank_size: how many patches they keep as SuperADD draws them; None: the share ``coreset``.
    """

    category: str
    root: Path
    store: Location
    keys: tuple[str, ...]
    views: tuple[FeatureView, ...]
    features: tuple[tuple[Stored, ...], ...]
    trials: tuple[tuple[Trial, tuple[str, ...]], ...] | None
    index: str
    coreset: float
    metric: Metric
    bank_size: int | None


def write_category(task: BankTask) -> dict[str, str]:
    """Write a category's indexes: one a view, or one a view and trial where they cannot be shared.

    Returns:
        By path from the project's folder, the checksum of each.
    """
    store = Store(task.store)
    files: dict[str, str] = {}

    def write(index: faiss.Index, place: Path) -> None:
        write_index(index, task.root / place)
        files[place.as_posix()] = stored_digest(task.root / place).hex()

    for view, transforms in zip(task.views, task.features, strict=True):
        copies = [
            joined(view, [s for s, _ in stored], [store.read(*one) for one in stored])
            for stored in transforms
        ]
        vectors = copies[0] if len(copies) == 1 else np.concatenate(copies, axis=1)
        if task.trials is None:
            index = build_index(vectors.reshape(-1, vectors.shape[-1]), metric=task.metric)
            write(index, bank_path(task.category, view.label))
            continue
        row = {key: number for number, key in enumerate(task.keys)}
        for trial, keys in task.trials:
            patches = vectors[[row[key] for key in keys]].reshape(-1, vectors.shape[-1])
            kept = (
                coreset(patches, task.coreset, task.metric)
                if task.bank_size is None
                else thin(patches, task.bank_size, seed=trial.seed)
            )
            patches = np.ascontiguousarray(patches[kept])
            write(
                build_index(patches, task.index, task.metric),
                bank_path(task.category, view.label, trial),
            )
    return files


def bank_tasks(
    selection: pd.DataFrame, receipt: Receipt, store: Store, params: Params
) -> list[BankTask]:
    """A task for each category; none where no trial of rule nearest has references."""
    nearest = [
        trial for trial in params.trials()
        if trial.shots and params.vision.rule_at(trial.shots) == "nearest"
    ]  # fmt: skip
    if not nearest:
        return []
    references = references_by_category(selection)
    located = {
        feature.label: receipt.locate(store, feature.label, keys)
        for feature, keys in keys_by_feature(params, references).items()
    }
    views = tuple(view_plan(params))
    tasks = []
    for category, part in selection.groupby("category", sort=False):
        distinct = tuple(dict.fromkeys(part["hash"]))
        trials = tuple((trial, tuple(references_of(part, trial))) for trial in nearest)
        tasks.append(
            BankTask(
                str(category),
                Path.cwd(),
                store.root,
                distinct,
                views,
                tuple(
                    tuple(
                        tuple(
                            (receipt.space(label), tuple(located[label][key] for key in distinct))
                            for label in view.labels(transform)
                        )
                        for transform in params.vision.bank_transforms(str(category))
                    )
                    for view in views
                ),
                None if Bank.shared(params) else trials,
                params.vision.index,
                params.vision.coreset,
                params.vision.metric,
                params.vision.bank_size,
            )
        )
    return tasks
