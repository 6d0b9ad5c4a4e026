"""Stage score_vision: vision map of every test and calibration image, for each shots and seed."""

from __future__ import annotations

import logging

from cache.store import Store
from fade.errors import counted
from pipeline.artefacts.catalogue import TEST, VISION, store_root
from pipeline.artefacts.receipts import check_streamed, read_receipt, write_receipt
from pipeline.config.schema import Params
from pipeline.process.memory import trim_heap
from pipeline.scoring.vision import plan_vision
from pipeline.stage import run_stage

log = logging.getLogger("fade")


def run(params: Params) -> None:
    """Bring the vision components up to date and write their receipt."""
    store = Store(store_root(params.features.store))
    receipt = read_receipt(TEST)
    work = plan_vision(params, receipt, store)
    work.prepare(store)
    trim_heap()
    if not params.features.keep and work.plans:
        check_streamed(store, work.lacking)
    done = work.run(receipt, store, params.cluster, "vision")
    log.info("%s, %s searched now", counted(work.total, "vision map"), counted(done, "image"))
    write_receipt(VISION, store, work.needed(), work.against)


if __name__ == "__main__":
    run_stage("stages.score_vision")
