"""Stage stream: score components of images whose features are not kept; else nothing to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from cache.layout import Space
from cache.store import Store
from fade.errors import DataError, counted, summarise
from fade.types import Feature
from pipeline.artefacts.catalogue import MANIFEST, SELECTION, STREAMED, TEST, store_root
from pipeline.artefacts.receipts import read_receipt, write_receipt
from pipeline.artefacts.tables import manifest_aspect, read_table, table_columns
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.schema import Params
from pipeline.dataset.images import image_sources, references_by_category, scored_images
from pipeline.features.extraction import with_absolute_paths
from pipeline.features.models import load_image_encoder
from pipeline.features.plan import FeaturePlan
from pipeline.features.precision import slow_precision
from pipeline.features.told import planned
from pipeline.process.progress import Progress
from pipeline.scoring.before import run_step
from pipeline.scoring.language import plan_language
from pipeline.scoring.streaming import Streaming, stream_block
from pipeline.scoring.vision import plan_vision
from pipeline.stage import run_stage

log = logging.getLogger("fade")


def run(params: Params) -> None:
    """Bring all components up to date without keeping features, and write their receipt."""
    store = Store(store_root(params.features.store))
    if params.features.keep:
        write_receipt(STREAMED, store, {})
        return
    receipt = read_receipt(TEST)
    works = [plan_language(params, receipt, store.repair), plan_vision(params, receipt, store)]
    for one in works:
        one.prepare(store)
        for step in one.before:
            run_step(step, store, params.cluster)
    work = Streaming([plan for one in works for plan in one.plans])
    on_cluster = params.cluster.distributed
    aspect = manifest_aspect(table_columns(MANIFEST.path)[1])
    references = references_by_category(read_table(SELECTION.path)[0])
    wanted = work.wanted()

    def make(spaces: Mapping[Feature, Space]) -> FeaturePlan:
        # the same blocks as the extract stage would encode
        return FeaturePlan.make(params, spaces, references, scored_images()).streamed(
            lambda keys: np.logical_or.reduce([one.any(keys) for one in wanted])
        )

    plan, encoder = planned(
        params, aspect, make, lambda: load_image_encoder(params, "cpu" if on_cluster else None)
    )
    log.info(
        "the store lacks components of %d of %s, to be encoded and scored%s",
        plan.to_encode, counted(plan.images, "image"),
        " on the cluster" if on_cluster else f" on {encoder.device}" if encoder else "",
    )  # fmt: skip
    here = encoder if plan.to_encode and not on_cluster else None
    if here and (slow := slow_precision(params.model.precision, here.device)):
        log.warning("%s", slow)
    tasks = work.tasks(
        plan.tasks(), wanted, store.root, with_absolute_paths(params), plan.by_fingerprint,
        image_sources(), aspect,
    )  # fmt: skip
    if on_cluster:
        found = iterate_tasks(
            stream_block, tasks, params.cluster, "stream",
            weight=lambda task: len(task.segment.keys), total=plan.encodings,
            name=lambda task: task.name, store=store.root,
        )  # fmt: skip
        problems = [problem for part in found for problem in part]
    else:
        problems = []
        with Progress(plan.encodings, "streaming") as progress:
            for task in tasks:
                problems += stream_block(task, encoder)
                progress.advance(len(task.segment.keys))
    if problems:
        raise DataError(
            f"{summarise(problems)} (all other images are scored; repair or remove these and run "
            "again)"
        )
    write_receipt(STREAMED, store, {**works[0].needed(), **works[1].needed()})


if __name__ == "__main__":
    run_stage("stages.stream")
