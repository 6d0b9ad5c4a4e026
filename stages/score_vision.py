"""Stage score_vision: vision map of every test and calibration image, for each shots and seed."""

from __future__ import annotations

import logging

from cache.store import Store
from pipeline.artefacts.catalogue import TEST, VISION, store_root
from pipeline.artefacts.receipts import check_streamed, read_receipt, write_receipt
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.schema import Params
from pipeline.process.memory import trim_heap
from pipeline.scoring.before import run_step
from pipeline.scoring.plan import score_block
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
    with receipt.discard_on_damage(store):
        for step in work.before:
            run_step(step, store, params.cluster)
        done = sum(
            iterate_tasks(
                score_block,
                work.tasks(receipt, store),
                params.cluster,
                "vision",
                weight=lambda task: len(task.keys),
                name=lambda task: task.block.scorer.name,
                total=work.lacking,
            )
        )
    log.info("%d vision maps, %d images searched now", work.total, done)
    write_receipt(VISION, store, work.needed(), work.against)


if __name__ == "__main__":
    run_stage("stages.score_vision")
