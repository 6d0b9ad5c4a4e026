"""Stage extract: features of all images that a run needs into the store, only those it lacks."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np

from cache.keys import Keys
from cache.layout import segment_tasks
from cache.store import Store
from fade.errors import DataError, summarise
from pipeline.artefacts.catalogue import MANIFEST, REFERENCES, SELECTION, TEST, store_root
from pipeline.artefacts.receipts import write_receipt
from pipeline.artefacts.tables import manifest_aspect, read_table, table_columns
from pipeline.config.schema import Params
from pipeline.dataset.images import feature_groups, image_sources, lacking, scored_images
from pipeline.features.extraction import Extraction, encode_on_cluster
from pipeline.features.models import SEGMENT_BYTES, SEGMENT_IMAGES, feature_space, load_encoder
from pipeline.stage import run_stage

log = logging.getLogger("fade")


def run(params: Params) -> None:
    """Bring the store up to what the parameters need, and write the two receipts."""
    selection, _ = read_table(SELECTION.path)
    aspect = manifest_aspect(table_columns(MANIFEST.path)[1])
    on_cluster = params.cluster.distributed
    # where workers compute, the model here only tells what features are
    encoder = load_encoder(params, "cpu" if on_cluster else None)
    store = Store(store_root(params.features.store))
    spaces = {
        feature: feature_space(encoder, feature, params, aspect)
        for feature in {*params.reference_features(), *params.test_features()}
    }
    # images to calibrate on are scored like test images
    scored = scored_images()
    references = Keys.of(selection["hash"])
    reference_spaces = [spaces[f].fingerprint for f in params.reference_features()]
    test_spaces = [spaces[f].fingerprint for f in params.test_features()]
    groups = feature_groups(references, scored, reference_spaces, test_spaces)
    missing = lacking(groups, {space.fingerprint: space for space in spaces.values()}, store.repair)
    if not params.features.keep:  # stage stream makes what else is needed, and forgets it
        for group, lacks in zip(groups, missing, strict=True):
            lacks[group.keys.places_in(references.distinct()) < 0] = False
            lacks[:, [space not in reference_spaces for space in group.spaces]] = False
    tasks = segment_tasks(
        groups,
        missing,
        {space.fingerprint: space.row_bytes for space in spaces.values()},
        SEGMENT_BYTES,
        SEGMENT_IMAGES,
    )
    needed = sum(len(group.keys) for group in groups)
    computed = sum(int(np.count_nonzero(lacks.any(axis=1))) for lacks in missing)
    log.info(
        "%d of %d images have all their features in the store, %d to compute on %s",
        needed - computed, needed, computed,
        "the cluster" if on_cluster else encoder.device,
    )  # fmt: skip
    lacked = Counter[str]()
    for group, lacks in zip(groups, missing, strict=True):
        lacked.update(dict(zip(group.spaces, lacks.sum(axis=0).tolist(), strict=True)))
    store.prepare({space: lacked[space.fingerprint] for space in spaces.values()})
    by_print = {space.fingerprint: (feature, space) for feature, space in spaces.items()}
    sources = image_sources()
    if on_cluster:
        problems = encode_on_cluster(tasks, computed, store, by_print, sources, params, aspect)
    else:
        extraction = Extraction(encoder, store, by_print, sources, params, aspect)
        extraction.run(tasks, computed)
        problems = extraction.problems
    if problems:
        raise DataError(
            f"{summarise(problems)} (all other images are stored; repair or remove "
            "these and run again)"
        )
    write_receipt(
        REFERENCES,
        store,
        {spaces[f]: references for f in params.reference_features()},
    )
    kept = scored if params.features.keep else ()
    write_receipt(TEST, store, {spaces[f]: kept for f in params.test_features()})


if __name__ == "__main__":
    run_stage("stages.extract")
