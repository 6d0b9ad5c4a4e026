"""What a run will take, before it starts: images, bytes, tasks, and time from a short sample."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from cache.files import Location
from cache.keys import Keys
from cache.layout import Space
from cache.store import Store
from fade.errors import ParameterError, counted
from fade.types import Feature
from pipeline.artefacts.catalogue import folder_above, store_root
from pipeline.config.cluster import ClusterParams
from pipeline.config.schema import Params
from pipeline.features.models import load_image_encoder
from pipeline.features.plan import FeaturePlan, feature_spaces
from pipeline.project.batches import plan_pairs
from pipeline.project.timing import time_comparing, time_encoding
from pipeline.project.workload import imagined, of_data_set
from pipeline.scoring.bank_limits import asks_for_patches, check_bank_sizes
from pipeline.scoring.components import language_score_space, map_space
from pipeline.scoring.views import view_shapes

MAX_IMAGES = 10_000_000
"""Largest number of images to plan for: the plan itself would take gigabytes."""


@dataclass(frozen=True)
class Plan:
    """What a run takes. Times leave out texts, language maps and metrics, which take little.

    Attributes:
        reference_images: distinct ones, over all seeds.
        calibration_images: training images that thresholds come from; references may be among them.
        images_to_encode: those that the store lacks something of.
        trials: pairs of shots and seed.
        tasks: of the extract stage; each leaves segments and is not begun again once done.
        segments: that they write, three files each.
        feature_bytes: to write into the store.
        component_bytes: of scores and maps in the store, those that are there included.
        free_bytes: on the store's disk; None where the store is a URL.
        sampled_images: that the times come from.
        seconds_per_image: to encode one image, decoding included.
        encoders: devices that encode at once: the cluster's, or this machine's one.
        encode_seconds: for all, on all of these.
        compare_seconds: of comparing all test images with references, and with each other, on the
            scoring workers.
        device: that encodes.
        pairs: of test images that are compared with each other.
        pair_multiply_adds: of these, over all views.
        unlabelled_images: of the test images, those without a label, which metrics leave out.
    """

    test_images: int
    reference_images: int
    calibration_images: int
    images_to_encode: int
    trials: int
    tasks: int
    segments: int
    feature_bytes: int
    component_bytes: int
    free_bytes: int | None
    sampled_images: int
    seconds_per_image: float
    encoders: int
    encode_seconds: float
    compare_seconds: float
    device: str
    remarks: tuple[str, ...]
    pairs: int = 0
    pair_multiply_adds: int = 0
    unlabelled_images: int = 0


def plan(params: Params, images: int | None = None) -> Plan:
    """Plan the run of some parameters; encodes a few images. The store is only read.

    Args:
        images: plan for so many test images of one category in place of the data set's.

    Raises:
        ParameterError: no images, or parameters that the model or the data set cannot serve.
        DataError: the data set cannot be read.
        ModelError: the model cannot be loaded.
        StoreError: the store is of another schema version.
    """
    if images is not None and images < 1:
        raise ParameterError(f"--images is {images}, at least 1 is needed")
    if images is not None and images > MAX_IMAGES:
        raise ParameterError(
            f"--images is {images:,}, at most {MAX_IMAGES:,} are planned for: plan for fewer, what "
            "they take grows in proportion"
        )
    work = imagined(params, images) if images else of_data_set(params)
    remarks = list(work.remarks)
    encoder = load_image_encoder(params, keep=True)
    store = Store(store_root(params.features.store))
    spaces = feature_spaces(encoder, params, work.aspect)
    if asks_for_patches(params):
        check_bank_sizes(params, *min(view_shapes(params, spaces)), work.references)
    references = work.distinct_references
    features = FeaturePlan.make(
        params,
        spaces,
        {category: Keys.of(keys) for category, keys in work.references.items()},
        work.scored,
        store.readable if work.known else None,
    )
    stored = features if params.features.keep else features.of_references()
    parts = [stored]
    if not params.features.keep:
        remarks.append("features.keep is false: as if no test image had been scored yet")
        parts.append(features.streamed(lambda keys: work.scored.distinct().get_indexer(keys) >= 0))
    tasks = sum(1 for part in parts for _ in part.tasks())
    to_encode = sum(part.to_encode for part in parts)
    feature_bytes = sum(space.row_bytes * count for space, count in stored.rows().items())
    encoders, scorers = _workers(params.cluster, remarks)
    if encoder.device == "cuda" and not params.cluster.distributed:
        scorers = 1  # they share it
    pairs = plan_pairs(params, spaces, work)
    component_bytes = _component_bytes(params, spaces, len(work.scored)) + pairs.bytes
    free = _free(store.root)
    if free is not None and feature_bytes + component_bytes > free:
        remarks.append("that is more than is free: set features.store to another disk")
    sampled, each = time_encoding(params, encoder, list(spaces), work) if to_encode else (0, 0.0)
    return Plan(
        test_images=len(work.tests),
        reference_images=len(references),
        calibration_images=len(work.calibration),
        images_to_encode=to_encode,
        trials=len(params.trials()),
        tasks=tasks,
        segments=sum(len(task.spaces) for task in stored.tasks()),
        feature_bytes=feature_bytes,
        component_bytes=component_bytes,
        free_bytes=free,
        sampled_images=sampled,
        seconds_per_image=each,
        encoders=encoders,
        # the last round may leave some of them without a task
        encode_seconds=each
        * to_encode
        * (-(-tasks // encoders) * encoders / max(tasks, 1))
        / encoders,
        compare_seconds=(time_comparing(params, spaces, work) + pairs.seconds) / scorers,
        device=encoder.device,
        remarks=tuple(remarks),
        pairs=pairs.pairs,
        pair_multiply_adds=pairs.multiply_adds,
        unlabelled_images=work.unlabelled,
    )


def _workers(cluster: ClusterParams, remarks: list[str]) -> tuple[int, int]:
    """How many encode and how many score at once; what is not known becomes a remark."""
    if not cluster.distributed:
        return 1, 1 if cluster.kind == "synchronous" else cluster.workers
    from pipeline.compute.launch import close_sessions, count_workers

    try:
        count = count_workers(cluster)
    except ParameterError as error:
        remarks.append(f"{error}: times are those of one worker")
        return 1, 1
    finally:
        close_sessions()
    return count, count


def _component_bytes(params: Params, spaces: Mapping[Feature, Space], tests: int) -> int:
    size = 0
    if params.needs_language_score:
        size += language_score_space(spaces[params.classification_feature()]).row_bytes
    if params.needs_language_map:
        size += map_space("language-map", [spaces[f] for f in params.language_features()]).row_bytes
    if params.needs_vision:
        vision = map_space("vision-map", [spaces[f] for f in params.vision_features()])
        size += vision.row_bytes * len(params.trials())
    return size * tests


def _free(location: Location) -> int | None:
    """Bytes that are free there; None where there is no end to them."""
    if isinstance(location, str):
        return None
    return shutil.disk_usage(folder_above(location.resolve())).free


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def amount(size: int) -> str:
    """A number of bytes as people say it.

    >>> amount(74_391_216_128), amount(31_000_000), amount(1200), amount(0)
    ('74.4 GB', '31.0 MB', '1.2 kB', '0 bytes')
    """
    for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size} bytes"


def _devices(found: Plan) -> str:
    return found.device if found.encoders == 1 else f"{found.encoders} times {found.device}"


def lines(found: Plan) -> list[str]:
    """The plan for a terminal."""
    text = [
        f"images  {found.test_images} test, {found.reference_images} reference and "
        f"{counted(found.calibration_images, 'calibration image')}, {counted(found.trials, 'trial')}; "
        f"{counted(found.images_to_encode, 'image')} to encode in {counted(found.tasks, 'task')}",
        f"store   {amount(found.feature_bytes)} of features to write in "
        f"{counted(found.segments, 'segment')}, score components of {amount(found.component_bytes)}"
        + ("" if found.free_bytes is None else f"; {amount(found.free_bytes)} free"),
        f"time    about {duration(found.encode_seconds)} to encode on {_devices(found)}"
        + (f" ({found.seconds_per_image:.2f} s an image)" if found.sampled_images else "")
        + f", at most {duration(found.compare_seconds)} to compare with references",
    ]
    if found.pairs:
        text.append(
            f"pairs   {found.pairs:,} of test images, each compared once: "
            f"{found.pair_multiply_adds / 1e6:,.0f} million multiply-adds"
        )
    if found.unlabelled_images:
        text.append(
            f"labels  none for {counted(found.unlabelled_images, 'test image')}, and no part in metrics"
        )
    return text + [f"remark  {remark}" for remark in found.remarks]
