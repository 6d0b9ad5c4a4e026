"""Stage bank: FAISS memory banks over the patches of the reference images."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

import numpy as np

from cache.store import Store
from fade.bank import build_index, coreset, unit, write_index
from pipeline.banks import BANK_TABLE, Bank, bank_path
from pipeline.params import Params
from pipeline.paths import BANKS, REFERENCES, SELECTION, store_root
from pipeline.progress import Progress
from pipeline.receipts import Receipt, read_receipt
from pipeline.runner import run_stage
from pipeline.tables import read_table, write_table

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")


def _write_category(
    category: str, selection: pd.DataFrame, receipt: Receipt, store: Store, params: Params
) -> int:
    """Write a category's indexes: one a size, or one a size and trial where they cannot be shared."""
    distinct = list(dict.fromkeys(selection["hash"]))
    files = 0
    for feature in params.vision_features():
        space = receipt.space(feature.label)
        places = receipt.locate(store, feature.label, distinct)
        vectors = unit(store.read(space, [places[key] for key in distinct]))
        if Bank.shared(params):
            write_index(
                build_index(vectors.reshape(-1, vectors.shape[-1])),
                bank_path(category, feature.size),
            )
            files += 1
            continue
        row = {key: number for number, key in enumerate(distinct)}
        for trial in params.trials():
            if not trial.shots:
                continue
            chosen = selection[
                (selection["seed"] == trial.seed) & (selection["rank"] < trial.shots)
            ]
            keys = dict.fromkeys(chosen["hash"])  # equal images count once, as in a shared bank
            patches = vectors[[row[key] for key in keys]].reshape(-1, vectors.shape[-1])
            patches = np.ascontiguousarray(patches[coreset(patches, params.vision.coreset)])
            write_index(
                build_index(patches, params.vision.index), bank_path(category, feature.size, trial)
            )
            files += 1
    return files


def run(params: Params) -> None:
    """Write all banks and the table of their references."""
    selection, _ = read_table(SELECTION.path)
    receipt = read_receipt(REFERENCES)
    store = Store(store_root(params.features.store))
    shutil.rmtree(BANKS.path, ignore_errors=True)
    files = 0
    groups = dict(tuple(selection.groupby("category", sort=False)))
    with receipt.void_if_damaged(), Progress(len(groups), "banks", "category") as progress:
        for category, part in groups.items():
            files += _write_category(str(category), part, receipt, store, params)
            progress.advance()
    table = selection[["category", "hash"]].drop_duplicates(ignore_index=True)
    table["position"] = table.groupby("category", sort=False).cumcount()
    write_table(table, BANK_TABLE)
    log.info("%d indexes for %d categories", files, len(groups))


if __name__ == "__main__":
    run_stage("stages.bank")
