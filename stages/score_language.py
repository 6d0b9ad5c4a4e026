"""Stage score_language: language score and language map of every test and calibration image."""

from __future__ import annotations

import logging

from cache.store import Store
from fade.errors import counted
from pipeline.artefacts.catalogue import LANGUAGE, TEST, store_root
from pipeline.artefacts.receipts import check_streamed, read_receipt, write_receipt
from pipeline.config.schema import Params
from pipeline.process.memory import trim_heap
from pipeline.scoring.language import plan_language
from pipeline.stage import run_stage

log = logging.getLogger("fade")


def run(params: Params) -> None:
    """Bring the language components up to date and write their receipt."""
    store = Store(store_root(params.features.store))
    receipt = read_receipt(TEST)
    work = plan_language(params, receipt, store.repair)
    work.prepare(store)
    trim_heap()
    if not params.features.keep:
        check_streamed(store, work.lacking_components)
    work.run(receipt, store, params.cluster, "language")
    log.info(
        "%s in the store, %d computed now",
        counted(work.total - work.lacking_components, "component"), work.lacking_components,
    )  # fmt: skip
    write_receipt(LANGUAGE, store, work.needed(), work.against)


if __name__ == "__main__":
    run_stage("stages.score_language")
