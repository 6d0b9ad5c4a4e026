"""What a run will take, before it starts: images, bytes, tasks, and time from a short sample."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cache.files import Place
from cache.layout import Space, content_key, cut, plan_segments
from cache.place import open_path
from cache.store import Store
from fade.aspect import Aspect, Shape, middle_aspect
from fade.bank import similarity_to_others, similarity_to_references
from fade.datasets import dataset_root, read_dataset
from fade.errors import DataError, ParameterError, StoreError
from fade.preprocess import image_size
from fade.sampling import reference_order
from fade.types import DataPath, Feature, ImageRecord
from pipeline.components import language_map_space, language_score_space, vision_map_space
from pipeline.loader import Pixels, Source, load_pixels
from pipeline.models import SEGMENT_BYTES, SEGMENT_IMAGES, feature_space, load_encoder
from pipeline.params import Params
from pipeline.paths import MANIFEST, store_root
from pipeline.tables import manifest_aspect, read_table

if TYPE_CHECKING:
    from fade.encoder import Encoder

SAMPLE_IMAGES = 4
MADE_UP_SIZE = 1024
"""Pixels a side of sample images where there are none to take."""


@dataclass(frozen=True)
class Images:
    """What a run works on.

    Attributes:
        tests: keys of test images.
        references: keys by category of distinct references, over all seeds.
        sample: some of the images to time.
        known: whether the keys are those of the files, so that the store can be asked for them.
        aspect: the aspect ratio that they keep; None: squashed to squares.
    """

    tests: Sequence[str]
    references: Mapping[str, Sequence[str]]
    sample: Sequence[DataPath]
    known: bool
    aspect: Aspect | None = None


@dataclass(frozen=True)
class Plan:
    """What a run takes. Times leave out texts, language maps and metrics, which take little.

    Attributes:
        test_images: to be scored.
        reference_images: distinct ones, over all seeds.
        images_to_encode: those that the store lacks something of.
        trials: pairs of shots and seed.
        tasks: of the extract stage; each leaves segments and is not begun again once done.
        feature_bytes: to write into the store.
        component_bytes: of scores and maps in the store, those that are there included.
        free_bytes: on the store's disk; None where the store is a URL.
        sampled_images: that the times come from.
        seconds_per_image: to encode one image, decoding included.
        encode_seconds: for all.
        compare_seconds: of comparing all test images with references, on the scoring workers.
        device: that encodes.
        remarks: what else to know.
    """

    test_images: int
    reference_images: int
    images_to_encode: int
    trials: int
    tasks: int
    feature_bytes: int
    component_bytes: int
    free_bytes: int | None
    sampled_images: int
    seconds_per_image: float
    encode_seconds: float
    compare_seconds: float
    device: str
    remarks: tuple[str, ...]


def plan(params: Params, images: int | None = None) -> Plan:
    """Plan the run of some parameters; encodes up to :data:`SAMPLE_IMAGES` images.

    Args:
        params: the parameters.
        images: plan for so many test images of one category in place of the data set's.

    Raises:
        ParameterError: no images, or parameters that the model cannot serve.
        DataError: the data set cannot be read.
        ModelError: the model cannot be loaded.
        StoreError: the store is of another schema version.
    """
    if images is not None and images < 1:
        raise ParameterError(f"--images is {images}, at least 1 is needed")
    remarks = []
    work = _made_up(params, images) if images else _of_data_set(params)
    if not images and not work.known:
        remarks.append("no manifest fits yet: as if the store held nothing of these images")
    encoder = load_encoder(params)
    store = Store(store_root(params.features.store))
    spaces = {
        feature: feature_space(encoder, feature, params, work.aspect)
        for feature in dict.fromkeys([*params.reference_features(), *params.test_features()])
    }
    needs: dict[str, set[str]] = {}
    for keys, features in (
        ([key for part in work.references.values() for key in part], params.reference_features()),
        (work.tests, params.test_features()),
    ):
        for key in keys:
            needs.setdefault(key, set()).update(spaces[f].fingerprint for f in features)
    row_bytes = {space.fingerprint: space.row_bytes for space in spaces.values()}
    tasks = plan_segments(
        needs,
        {s.fingerprint: store.index(s) if work.known else {} for s in spaces.values()},
        row_bytes,
        SEGMENT_BYTES,
        SEGMENT_IMAGES,
    )
    feature_bytes = sum(len(task.keys) * row_bytes[s] for task in tasks for s in task.spaces)
    to_encode = len({key for task in tasks for key in task.keys})
    component_bytes = _component_bytes(params, spaces, len(work.tests))
    free = _free(store.root)
    if free is not None and feature_bytes + component_bytes > free:
        remarks.append("that is more than is free: set features.store to another disk")
    sampled, each = _time_encoding(params, encoder, list(spaces), work) if to_encode else (0, 0.0)
    return Plan(
        test_images=len(work.tests),
        reference_images=sum(map(len, work.references.values())),
        images_to_encode=to_encode,
        trials=len(params.trials()),
        tasks=len(tasks),
        feature_bytes=feature_bytes,
        component_bytes=component_bytes,
        free_bytes=free,
        sampled_images=sampled,
        seconds_per_image=each,
        encode_seconds=each * to_encode,
        compare_seconds=_time_comparing(params, spaces, work),
        device=encoder.device,
        remarks=tuple(remarks),
    )


def _made_up(params: Params, images: int) -> Images:
    seeds = {trial.seed for trial in params.trials() if trial.shots}
    shots = params.max_shots if params.needs_vision else 0
    references = [f"reference {number}" for number in range(shots * len(seeds))]
    return Images([f"test {number}" for number in range(images)], {"any": references}, [], False)


def _of_data_set(params: Params) -> Images:
    dataset = params.dataset
    path = open_path(dataset.path)
    records = read_dataset(dataset.format, path, dataset.categories, dataset.limit)
    root = dataset_root(dataset.format, path)
    hashes, aspect = _known()
    known = all(record.path in hashes for record in records)
    keys = hashes if known else {record.path: record.path for record in records}
    tests = [record for record in records if record.split == "test"]
    if not tests:
        raise DataError(f"{dataset.path} has no test images: there is nothing to plan")
    by_category: dict[str, list[ImageRecord]] = {}
    for record in records:
        if record.split == "train":
            by_category.setdefault(record.category, []).append(record)
    seeds = sorted({trial.seed for trial in params.trials() if trial.shots})
    shots = params.max_shots if params.needs_vision else 0
    references = {
        category: list(
            dict.fromkeys(
                keys[train[position].path]
                for seed in seeds
                for position in reference_order(len(train), seed)[:shots]
            )
        )
        for category, train in by_category.items()
    }
    sample = [root / record.path for record in tests[:SAMPLE_IMAGES]]
    return Images(
        list(dict.fromkeys(keys[record.path] for record in tests)),
        references,
        sample,
        known,
        _aspect(sample, aspect if known else None, params),
    )


def _aspect(sample: Sequence[DataPath], known: Aspect | None, params: Params) -> Aspect | None:
    """The aspect ratio that is kept: as the manifest says, or that of the sample."""
    if params.features.aspect == "square":
        return None
    return known or middle_aspect(
        image_size(_read(path), str(path), exif_rotation=params.dataset.exif_rotation)
        for path in sample
    )


def _known() -> tuple[dict[str, str], Aspect | None]:
    """Keys by path and the aspect ratio of the last manifest, if there is one."""
    try:
        manifest, remarks = read_table(MANIFEST.path)
    except StoreError:
        return {}, None
    return dict(zip(manifest["path"], manifest["hash"], strict=True)), manifest_aspect(remarks)


def _component_bytes(params: Params, spaces: Mapping[Feature, Space], tests: int) -> int:
    size = 0
    if params.needs_language_score:
        size += language_score_space(spaces[params.classification_feature()]).row_bytes
    if params.needs_language_map:
        size += language_map_space([spaces[f] for f in params.language_features()]).row_bytes
    if params.needs_vision:
        vision = vision_map_space([spaces[f] for f in params.vision_features()])
        size += vision.row_bytes * len(params.trials())
    return size * tests


def _free(place: Place) -> int | None:
    """Bytes that are free there; None where there is no end to them."""
    if isinstance(place, str):
        return None
    place = place.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _time_encoding(
    params: Params, encoder: Encoder, features: Sequence[Feature], work: Images
) -> tuple[int, float]:
    """Images that were timed, and seconds for each: decoding runs beside the model."""
    sizes = sorted({feature.size for feature in features})
    start = time.perf_counter()
    shapes = {size: encoder.pixels(size, work.aspect) for size in sizes}
    loaded = [_load(path, shapes, params) for path in work.sample] or [_made_up_pixels(sizes)]
    decode = (time.perf_counter() - start) / len(loaded) / params.runtime.loader_workers

    def encode() -> None:
        for batch in cut(list(range(len(loaded))), params.runtime.batch_size):
            for size in sizes:
                wanted = {(f.stream, f.token) for f in features if f.size == size}
                encoder.encode_images(np.stack([loaded[i][size] for i in batch]), sorted(wanted))

    if encoder.device != "cpu":
        encode()  # the first one also starts the device
    return len(loaded), max(decode, _seconds(encode) / len(loaded))


def _read(path: DataPath) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _load(path: DataPath, shapes: Mapping[int, Shape], params: Params) -> Pixels:
    source = Source(content_key(_read(path)), path.name)
    return load_pixels(source, path.parent, list(shapes), params.dataset.exif_rotation, shapes)


def _made_up_pixels(sizes: Sequence[int]) -> Pixels:
    random = np.random.default_rng(0)
    return {size: random.integers(0, 256, (size, size, 3), dtype=np.uint8) for size in sizes}


def _time_comparing(params: Params, spaces: Mapping[Feature, Space], work: Images) -> float:
    """Seconds of all comparisons with exact search, on all workers."""
    if not params.needs_vision or not work.tests:
        return 0.0
    categories = max(len(work.references), 1)
    references = -(-sum(map(len, work.references.values())) // categories)
    query = any(params.query_in_bank(trial) for trial in params.trials())
    random = np.random.default_rng(0)
    total = 0.0
    for feature in params.vision_features():
        patches, dim = spaces[feature].shape
        vectors = random.standard_normal((patches, dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if references and params.max_shots:
            # one reference stands for each of them
            one = _seconds(partial(similarity_to_references, vectors, vectors, patches))
            total += one * references
        if query:
            total += _seconds(partial(similarity_to_others, vectors))
    cluster = params.cluster
    workers = 1 if cluster.kind == "synchronous" else cluster.workers
    return total * len(work.tests) / workers


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def lines(found: Plan) -> list[str]:
    """The plan for a terminal."""
    gigabytes = "{:,.2f} GB".format
    text = [
        f"images  {found.test_images} test and {found.reference_images} reference images, "
        f"{found.trials} trials; {found.images_to_encode} images to encode in {found.tasks} tasks",
        f"store   {gigabytes(found.feature_bytes / 1e9)} of features to write, score components of "
        f"{gigabytes(found.component_bytes / 1e9)}"
        + ("" if found.free_bytes is None else f"; {gigabytes(found.free_bytes / 1e9)} free"),
        f"time    about {duration(found.encode_seconds)} to encode on {found.device}"
        + (f" ({found.seconds_per_image:.2f} s an image)" if found.sampled_images else "")
        + f", at most {duration(found.compare_seconds)} to compare with references",
    ]
    return text + [f"remark  {remark}" for remark in found.remarks]
