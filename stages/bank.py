"""Stage bank: FAISS memory banks over the patches of the reference images."""

from __future__ import annotations

import logging
import shutil

from cache.store import Store
from fade.errors import counted
from pipeline.artefacts.catalogue import BANKS, REFERENCES, SELECTION, store_root
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_table, write_table
from pipeline.compute.tasks import map_tasks
from pipeline.config.schema import Params
from pipeline.scoring.bank_tasks import bank_tasks, write_category
from pipeline.scoring.banks import BANK_TABLE
from pipeline.stage import run_stage

log = logging.getLogger("fade")


def run(params: Params) -> None:
    """Write all banks and the table of their references."""
    selection, _ = read_table(SELECTION.path)
    receipt = read_receipt(REFERENCES)
    store = Store(store_root(params.features.store))
    shutil.rmtree(BANKS.path, ignore_errors=True)
    with receipt.discard_on_damage(store):
        tasks = bank_tasks(selection, receipt, store, params) if len(selection) else []
        files = map_tasks(
            write_category,
            tasks,
            params.cluster,
            "bank",
            unit="category",
            name=lambda task: task.category,
            store=store.root,
        )
    table = selection[["category", "hash"]].drop_duplicates(ignore_index=True)
    table["position"] = table.groupby("category", sort=False).cumcount()
    indexes = {path: digest for found in files for path, digest in found.items()}
    write_table(table, BANK_TABLE, indexes=indexes)
    log.info("%s for %s", counted(len(indexes), "index"), counted(len(tasks), "category"))


if __name__ == "__main__":
    run_stage("stages.bank")
