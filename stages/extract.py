"""Stage extract: features of all images that a run needs into the store, only those it lacks."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from cache.layout import Space
from cache.store import Store
from fade.errors import DataError, counted, summarise
from fade.types import Feature
from pipeline.artefacts.catalogue import MANIFEST, REFERENCES, SELECTION, TEST, store_root
from pipeline.artefacts.receipts import write_receipt
from pipeline.artefacts.tables import manifest_aspect, read_table, table_columns
from pipeline.config.schema import Params
from pipeline.dataset.images import (
    image_sources,
    keys_by_feature,
    references_by_category,
    scored_images,
)
from pipeline.features.extraction import Extraction, encode_on_cluster
from pipeline.features.models import load_image_encoder
from pipeline.features.plan import FeaturePlan
from pipeline.features.precision import slow_precision
from pipeline.features.told import planned
from pipeline.scoring.bank_limits import asks_for_patches, check_bank_sizes
from pipeline.scoring.views import view_shapes
from pipeline.stage import run_stage

log = logging.getLogger("fade")


def run(params: Params) -> None:
    """Bring the store up to what the parameters need, and write the two receipts."""
    selection, _ = read_table(SELECTION.path)
    aspect = manifest_aspect(table_columns(MANIFEST.path)[1])
    on_cluster = params.cluster.distributed
    store = Store(store_root(params.features.store))
    references = references_by_category(selection)
    if unknown := set(params.vision.transform_overrides) - set(references) if references else ():
        log.warning(
            "vision.transform_overrides names %s, of which this run has no references",
            ", ".join(sorted(unknown)),
        )
    scored = scored_images()  # images to calibrate on are scored like test images

    def make(spaces: Mapping[Feature, Space]) -> FeaturePlan:
        plan = FeaturePlan.make(params, spaces, references, scored, store.repair)
        # otherwise stage stream makes what else is needed, and forgets it
        return plan if params.features.keep else plan.of_references()

    # where workers compute, the model here only tells what features are
    plan, encoder = planned(
        params, aspect, make, lambda: load_image_encoder(params, "cpu" if on_cluster else None)
    )
    log.info(
        "the store has all features of %d of %s, %d to compute%s",
        plan.images - plan.to_encode, counted(plan.images, "image"), plan.to_encode,
        " on the cluster" if on_cluster else f" on {encoder.device}" if encoder else "",
    )  # fmt: skip
    here = encoder if plan.to_encode and not on_cluster else None
    if here and (slow := slow_precision(params.model.precision, here.device)):
        log.warning("%s", slow)
    if plan.to_encode and asks_for_patches(params):  # known before hours of encoding
        check_bank_sizes(params, *min(view_shapes(params, plan.spaces)), references)
    store.prepare(plan.rows())
    features = plan.by_fingerprint
    sources = image_sources()
    problems: list[str] = []
    if on_cluster:
        problems = encode_on_cluster(
            plan.tasks(), plan.encodings, store, features, sources, params, aspect
        )
    elif encoder:
        extraction = Extraction(encoder, store, features, sources, params, aspect)
        extraction.run(plan.tasks(), plan.encodings)
        problems = extraction.problems
    if problems:
        raise DataError(
            f"{summarise(problems)} (all other images are stored; repair or remove "
            "these and run again)"
        )
    spaces = plan.spaces
    write_receipt(
        REFERENCES,
        store,
        {spaces[f]: keys for f, keys in keys_by_feature(params, references).items()},
    )
    kept = scored if params.features.keep else ()
    write_receipt(TEST, store, {spaces[f]: kept for f in params.test_features()})


if __name__ == "__main__":
    run_stage("stages.extract")
