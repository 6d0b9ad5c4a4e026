"""What a run will take, before it starts: images, bytes, tasks, and time from a short sample."""

from __future__ import annotations

import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.files import Place
from cache.keys import Keys
from cache.layout import Space, content_key, cut, segment_tasks
from cache.place import open_path
from cache.store import Store
from fade import bank as cpu
from fade import gpu
from fade.aspect import Aspect, Shape, middle_aspect
from fade.datasets.read import dataset_root, iterate_dataset
from fade.device import choose_device
from fade.errors import DataError, ParameterError, StoreError
from fade.preprocess import image_size
from fade.sampling import reference_order
from fade.types import DataPath, Feature
from pipeline.artefacts.catalogue import MANIFEST, store_root
from pipeline.artefacts.tables import manifest_aspect, table_columns, table_parts
from pipeline.config.schema import ClusterParams, Params
from pipeline.dataset.images import feature_groups, lacking
from pipeline.dataset.loader import Pixels, Source, load_pixels
from pipeline.features.models import SEGMENT_BYTES, SEGMENT_IMAGES, feature_space, load_encoder
from pipeline.scoring.components import language_map_space, language_score_space, vision_map_space

if TYPE_CHECKING:
    from fade.encoder import Encoder

SAMPLE_IMAGES = 4
MOST_IMAGES = 10_000_000
"""To plan for: beyond them the plan itself takes gigabytes."""
MADE_UP_SIZE = 1024
"""Pixels a side of sample images where there are none to take."""


@dataclass(frozen=True)
class Images:
    """What a run works on.

    Attributes:
        tests: keys of test images, each once.
        references: keys by category of distinct references, over all seeds.
        sample: some of the images to time.
        known: whether the keys are those of the files, so that the store can be asked for them.
        aspect: the aspect ratio that they keep; None: squashed to squares.
        calibration: keys of the training images that thresholds come from, scored like tests.
    """

    tests: Keys
    references: Mapping[str, Sequence[str]]
    sample: Sequence[DataPath]
    known: bool
    aspect: Aspect | None = None
    calibration: Sequence[str] = ()

    @cached_property
    def scored(self) -> Keys:
        """Keys of all images to score, each once."""
        return _each_once(Keys.join([self.tests, Keys.of(self.calibration)]))


@dataclass(frozen=True)
class Plan:
    """What a run takes. Times leave out texts, language maps and metrics, which take little.

    Attributes:
        test_images: to be scored.
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
        compare_seconds: of comparing all test images with references, on the scoring workers.
        device: that encodes.
        remarks: what else to know.
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
    if images is not None and images > MOST_IMAGES:
        raise ParameterError(
            f"--images is {images:,}, at most {MOST_IMAGES:,} are planned for: plan for fewer, what "
            "they take grows in proportion"
        )
    remarks: list[str] = []
    work = _made_up(params, images) if images else _of_data_set(params)
    if not images and not work.known:
        remarks.append("no manifest fits yet: as if the store held nothing of these images")
    encoder = load_encoder(params)
    store = Store(store_root(params.features.store))
    spaces = {
        feature: feature_space(encoder, feature, params, work.aspect)
        for feature in dict.fromkeys([*params.reference_features(), *params.test_features()])
    }
    references = Keys.of(key for part in work.references.values() for key in part)
    reference_spaces = [spaces[f].fingerprint for f in params.reference_features()]
    test_spaces = [spaces[f].fingerprint for f in params.test_features()]
    by_print = {space.fingerprint: space for space in spaces.values()}
    row_bytes = {name: space.row_bytes for name, space in by_print.items()}
    groups = feature_groups(references, work.scored, reference_spaces, test_spaces)
    if work.known:
        missing = lacking(groups, by_print, store.readable)
    else:
        missing = [np.ones((len(group.keys), len(group.spaces)), bool) for group in groups]
    if not params.features.keep:
        remarks.append("features.keep is false: as if no test image had been scored yet")
    tasks = to_encode = feature_bytes = segments = 0
    for segment in segment_tasks(groups, missing, row_bytes, SEGMENT_BYTES, SEGMENT_IMAGES):
        tasks += 1
        to_encode += len(segment.keys)
        kept = segment.spaces
        if not params.features.keep:
            is_reference = Keys.of(segment.keys).places_in(references.distinct())[0] >= 0
            kept = tuple(s for s in kept if is_reference and s in reference_spaces)
        segments += len(kept)
        feature_bytes += len(segment.keys) * sum(row_bytes[s] for s in kept)
    encoders, scorers = _workers(params.cluster, remarks)
    if encoder.device == "cuda" and not params.cluster.distributed:
        scorers = 1  # they share it
    component_bytes = _component_bytes(params, spaces, len(work.scored))
    free = _free(store.root)
    if free is not None and feature_bytes + component_bytes > free:
        remarks.append("that is more than is free: set features.store to another disk")
    sampled, each = _time_encoding(params, encoder, list(spaces), work) if to_encode else (0, 0.0)
    return Plan(
        test_images=len(work.tests),
        reference_images=sum(map(len, work.references.values())),
        calibration_images=len(work.calibration),
        images_to_encode=to_encode,
        trials=len(params.trials()),
        tasks=tasks,
        segments=segments,
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
        compare_seconds=_time_comparing(params, spaces, work) / scorers,
        device=encoder.device,
        remarks=tuple(remarks),
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


def _made_up(params: Params, images: int) -> Images:
    seeds = {trial.seed for trial in params.trials() if trial.shots}
    shots = params.max_shots if params.needs_vision else 0
    references = [f"reference {number}" for number in range(shots * len(seeds))]
    tests = Keys.of(f"test {number}" for number in range(images))
    return Images(tests, {"any": references}, [], False)


def _of_data_set(params: Params) -> Images:
    dataset = params.dataset
    path = open_path(dataset.path)
    root = dataset_root(dataset.format, path)
    tests = array("q")
    training: dict[str, array[int]] = {}
    first: dict[str, list[DataPath]] = {"train": [], "test": []}

    def names() -> Iterator[str]:
        records = iterate_dataset(dataset.format, path, dataset.categories, dataset.limit)
        for number, record in enumerate(records):
            of_kind = tests
            if record.split == "train":
                of_kind = training.setdefault(record.category, array("q"))
            of_kind.append(number)
            if len(first[record.split]) < SAMPLE_IMAGES:
                first[record.split].append(root / record.path)
            yield content_key(record.path.encode())

    keys = Keys.of(names())
    if not tests and not params.threshold.images:
        raise DataError(
            f"{dataset.path} has no test images and threshold.images is 0: nothing would be scored"
        )
    paths, hashes, aspect = _known()
    order = np.argsort(paths.data)
    places = keys.places_in(paths.take(order))
    known = bool((places >= 0).all())
    if known:
        keys = hashes.take(order[places])
    seeds = sorted({trial.seed for trial in params.trials() if trial.shots})
    shots = params.max_shots if params.needs_vision else 0
    references = {
        category: list(
            dict.fromkeys(
                keys[numbers[position]]
                for seed in seeds
                for position in reference_order(len(numbers), seed)[:shots]
            )
        )
        for category, numbers in training.items()
    }
    calibration = [
        keys[numbers[position]]
        for numbers in training.values()
        for position in _last(len(numbers), params.vision.seeds, params.threshold.images)
    ]
    sample = first["test" if tests else "train"]
    return Images(
        _each_once(keys.take(np.frombuffer(tests, np.int64))),
        references,
        sample,
        known,
        _aspect(sample, aspect if known else None, params),
        list(dict.fromkeys(calibration)),
    )


def _each_once(keys: Keys) -> Keys:
    """Keys in the order of their first appearance."""
    return keys.take(keys.first())


def _aspect(sample: Sequence[DataPath], known: Aspect | None, params: Params) -> Aspect | None:
    """The aspect ratio that is kept: as the manifest says, or that of the sample."""
    if params.features.aspect == "square":
        return None
    return known or middle_aspect(
        image_size(_read(path), str(path), exif_rotation=params.dataset.exif_rotation)
        for path in sample
    )


def _last(images: int, seeds: Sequence[int], count: int) -> list[int]:
    """The training images that the seeds would take last as references, as the select stage does."""
    ranks = [images] * images
    for seed in seeds if count else ():
        for rank, position in enumerate(reference_order(images, seed)):
            ranks[position] = min(ranks[position], rank)
    return sorted(range(images), key=lambda position: -ranks[position])[:count]


def _known() -> tuple[Keys, Keys, Aspect | None]:
    """Hashes of the paths and of the contents, and the aspect ratio, of the last manifest, if any."""
    paths: list[Keys] = []
    hashes: list[Keys] = []
    try:
        aspect = manifest_aspect(table_columns(MANIFEST.path)[1])
        for part in table_parts(MANIFEST.path, ("path", "hash")):
            paths.append(Keys.of(content_key(path.encode()) for path in part["path"].to_pylist()))
            hashes.append(Keys.of(part["hash"].to_pylist()))
    except StoreError:
        return Keys.of(()), Keys.of(()), None
    return Keys.join(paths), Keys.join(hashes), aspect


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
    shape_of = {feature: encoder.pixels(feature, work.aspect) for feature in features}
    shapes = sorted(set(shape_of.values()))
    start = time.perf_counter()
    loaded = [_load(path, shapes, params) for path in work.sample] or [_made_up_pixels(shapes)]
    decode = (time.perf_counter() - start) / len(loaded) / params.runtime.loader_workers

    def encode() -> None:
        for batch in cut(list(range(len(loaded))), params.runtime.batch_size):
            for shape in shapes:
                wanted = {(f.stream, f.token) for f in features if shape_of[f] == shape}
                encoder.encode_images(np.stack([loaded[i][shape] for i in batch]), sorted(wanted))

    if encoder.device != "cpu":
        encode()  # the first one also starts the device
    return len(loaded), max(decode, _seconds(encode) / len(loaded))


def _read(path: DataPath) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _load(path: DataPath, shapes: Sequence[Shape], params: Params) -> Pixels:
    source = Source(content_key(_read(path)), path.name)
    return load_pixels(source, path.parent, shapes, params.dataset.exif_rotation)


def _made_up_pixels(shapes: Sequence[Shape]) -> Pixels:
    random = np.random.default_rng(0)
    return {shape: random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes}


def _time_comparing(params: Params, spaces: Mapping[Feature, Space], work: Images) -> float:
    """Seconds of all comparisons with exact search, one after the other."""
    if not params.needs_vision or not work.scored:
        return 0.0
    categories = max(len(work.references), 1)
    references = -(-sum(map(len, work.references.values())) // categories)
    query = any(params.query_in_bank(trial) for trial in params.trials())
    random = np.random.default_rng(0)
    device = choose_device(params.runtime.device)
    search = cpu if device == "cpu" else gpu
    total = 0.0
    for feature in params.vision_features():
        patches, dim = spaces[feature].shape
        vectors = random.standard_normal((patches, dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        placed: Any = vectors if device == "cpu" else gpu.placed(vectors, device)
        if device != "cpu":
            search.similarity_to_others(placed)  # the first product also starts the device
        if references and params.max_shots:
            # one reference stands for each of them
            one = _seconds(partial(search.similarity_to_references, placed, placed, patches))
            total += one * references
        if query:
            total += _seconds(partial(search.similarity_to_others, placed))
    return total * len(work.scored)


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
        f"{found.calibration_images} calibration images, {found.trials} trials; "
        f"{found.images_to_encode} images to encode in {found.tasks} tasks",
        f"store   {amount(found.feature_bytes)} of features to write in {found.segments} segments, "
        f"score components of {amount(found.component_bytes)}"
        + ("" if found.free_bytes is None else f"; {amount(found.free_bytes)} free"),
        f"time    about {duration(found.encode_seconds)} to encode on {_devices(found)}"
        + (f" ({found.seconds_per_image:.2f} s an image)" if found.sampled_images else "")
        + f", at most {duration(found.compare_seconds)} to compare with references",
    ]
    return text + [f"remark  {remark}" for remark in found.remarks]
