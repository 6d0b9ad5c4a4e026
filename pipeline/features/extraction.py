"""Images into features: the loop around the encoder, here and on the workers of a cluster."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.files import Location
from cache.layout import SegmentTask, Space, batched
from cache.location import open_path
from cache.store import Store
from fade.aspect import AspectRatio
from fade.datasets.read import dataset_root
from fade.errors import DataError, ModelError
from fade.types import Feature
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.schema import Params
from pipeline.dataset.loader import ImageSource, Pixels, Pose, prefetch
from pipeline.features.models import (
    feature_space,
    load_encoder_of,
    naming_weights,
    start_encoding,
)
from pipeline.features.pair import of_vision
from pipeline.process.progress import Progress

if TYPE_CHECKING:
    from pipeline.features.models import ImageEncoder

WRITERS = {"cuda": 3}
"""Segments that are written at once, elsewhere one: a GPU fills one faster than a file takes it."""
Fingerprints = Mapping[Feature, str]
"""Fingerprints of spaces by what is encoded for them."""
Encoding = Callable[[], Mapping[Feature, np.ndarray]]
"""Waits for the features of a batch."""


class Extraction:
    """Computes segment tasks: loads images ahead, encodes them, writes segments behind."""

    def __init__(
        self,
        encoder: ImageEncoder,
        store: Store,
        features: Mapping[str, tuple[Feature, Space]],
        sources: Mapping[str, ImageSource],
        params: Params,
        aspect: AspectRatio | None = None,
    ) -> None:
        self.encoder, self.store, self.params = encoder, store, params
        self.features, self.sources, self.aspect = features, sources, aspect
        self.poses: dict[str, Pose] = {
            space: (encoder.pixels(feature, aspect), feature.transform)
            for space, (feature, _) in features.items()
        }
        self.problems: list[str] = []

    def run(self, tasks: Iterable[SegmentTask], total: int) -> None:
        """Work through tasks of so many images; those that cannot be used are noted, left out.

        While a GPU computes a segment, the next one is loaded and those before are written.
        """
        runtime, dataset = self.params.runtime, self.params.dataset
        tasks, ahead = tee(tasks)  # the loader is a few images ahead
        pixels = prefetch(
            ((self.sources[key], self._poses(task)) for task in ahead for key in task.keys),
            dataset_root(dataset.format, open_path(dataset.path)),
            exif_rotation=dataset.exif_rotation,
            workers=runtime.loader_workers,
            ahead=2 * max(runtime.batch_size, runtime.loader_workers),
            aspect=self.aspect,
        )
        writers = WRITERS.get(self.encoder.device, 1)
        pending: deque[Future[None]] = deque()
        with (
            Progress(total, "encoding") as progress,
            ThreadPoolExecutor(writers, thread_name_prefix="writer") as pool,
        ):
            for task in tasks:
                encoded = self._encode(task, pixels, progress)
                if len(pending) == writers:
                    pending.popleft().result()
                pending.append(pool.submit(self._write, encoded))
                del encoded  # else it is held while the next one is encoded
            while pending:
                pending.popleft().result()

    def _poses(self, task: SegmentTask) -> list[Pose]:
        return sorted({self.poses[space] for space in task.spaces})

    def _encode(
        self, task: SegmentTask, pixels: Iterator[Pixels | DataError], progress: Progress
    ) -> SegmentRows:
        """What could be encoded of a segment; a GPU may still be at it."""
        rows = SegmentRows(len(task.keys))
        for batch in batched(task.keys, self.params.runtime.batch_size):
            loaded: list[Pixels] = []
            for key in batch:
                result = next(pixels)
                if isinstance(result, DataError):
                    self.problems.append(str(result))
                else:
                    rows.keys.append(key)
                    loaded.append(result)
            for pose in self._poses(task) if loaded else ():
                wanted: Fingerprints = {
                    feature: space
                    for space, (feature, _) in self.features.items()
                    if space in task.spaces and self.poses[space] == pose
                }
                encoding = start_encoding(
                    self.encoder,
                    np.stack([image[pose] for image in loaded]),
                    list(wanted),
                    self.params.features.dtype,
                )
                rows.add(wanted, encoding)
                if self.encoder.device not in WRITERS:  # it waits for each batch anyway
                    rows.collect()
            progress.advance(len(batch))
        return rows

    def _write(self, rows: SegmentRows) -> None:
        for space, array in rows.collect().items():
            feature, written = self.features[space]
            with naming_weights(self.params, vision=of_vision(feature)):
                self.store.write(written, rows.keys, array)  # it refuses fewer rows than keys


class SegmentRows:
    """Rows of a segment by space, which its batches are put into one after the other.

    A batch is let go when its rows are in place, so that a segment is held once.

    Attributes:
        keys: of the images whose batches were added.
    """

    def __init__(self, most: int) -> None:
        """Args: most: images of the segment, unless some cannot be used."""
        self.keys: list[str] = []
        self._most = most
        self._arrays: dict[str, np.ndarray] = {}
        self._filled: Counter[str] = Counter()
        self._encodings: deque[tuple[Fingerprints, Encoding]] = deque()

    def add(self, wanted: Fingerprints, encoding: Encoding) -> None:
        """Take what will come of the next images, for the spaces that want it."""
        self._encodings.append((wanted, encoding))

    def collect(self) -> dict[str, np.ndarray]:
        """Wait for what was added; the rows of each space so far."""
        while self._encodings:
            wanted, encoding = self._encodings.popleft()
            found = encoding()
            for feature, space in wanted.items():
                self._place(space, found[feature])
            del encoding, found
        return {space: array[: self._filled[space]] for space, array in self._arrays.items()}

    def _place(self, space: str, batch: np.ndarray) -> None:
        start = self._filled[space]
        self._filled[space] += len(batch)
        if len(batch) == self._most:  # nothing else comes
            self._arrays[space] = batch
            return
        if space not in self._arrays:  # pages of it are taken as they are filled
            self._arrays[space] = np.empty((self._most, *batch.shape[1:]), batch.dtype)
        self._arrays[space][start : start + len(batch)] = batch


@dataclass(frozen=True)
class EncodeTask:
    """A segment to be computed by a worker that may be another machine.

    Attributes:
        params: with absolute paths.
        segment: which images and spaces.
    """

    store: Location
    params: Params
    segment: SegmentTask
    sources: tuple[ImageSource, ...]
    features: tuple[tuple[Feature, Space], ...]
    aspect: AspectRatio | None

    @property
    def name(self) -> str:
        """Folder of its first image: the category, in the usual layouts."""
        return self.sources[0].path.partition("/")[0]


ENCODER = threading.Lock()
"""Held while a segment is encoded: the model and its threads are shared within a process."""


_LOADED: dict[str, ImageEncoder] = {}
"""The worker's model, loaded at its first task and kept."""


def _load(params: Params, feature: Feature, weights: str) -> ImageEncoder:
    """The model that gives a feature; the weights' digest tells when a file has become another one."""
    chosen = f"{params.model.model_dump_json()} {params.vision.model_dump_json()}"
    key = f"{chosen} {params.runtime.device} {of_vision(feature)} {weights}"
    if key not in _LOADED:
        _LOADED.clear()  # there is room for one
        _LOADED[key] = load_encoder_of(params, feature)
    return _LOADED[key]


def _weights_of(params: Params, feature: Feature) -> str:
    """The leaf that names what gives a feature, and what it says."""
    if params.vision.encoder is None or not of_vision(feature):
        return f"model.pretrained {params.model.pretrained}"
    return f"vision.encoder {params.vision.encoder}"


def worker_encoder(
    params: Params, features: Iterable[tuple[Feature, Space]], aspect: AspectRatio | None
) -> ImageEncoder:
    """The model, kept by each worker, with the threads that one has; hold :data:`ENCODER`.

    Raises:
        ModelError: it gives other features than the run expects.
    """
    import torch

    torch.set_num_threads(params.cluster.threads_per_worker)
    expected = list(features)
    encoder = _load(params, expected[0][0], expected[0][1].description["weights"])
    for feature, space in expected:
        if feature_space(encoder, feature, params, aspect) != space:
            raise ModelError(
                f"{_weights_of(params, feature)}: a worker finds other weights than the run: give "
                "it the same file"
            )
    return encoder


def encode_segment(
    task: EncodeTask, store: Store | None = None, encoder: ImageEncoder | None = None
) -> list[str]:
    """Compute and store one segment; what is wrong with images that were left out.

    Args:
        store: that takes the features in place of the task's.
        encoder: the model, where this is no worker that has its own.

    Raises:
        ModelError: the worker's model is another one.
    """
    with ENCODER:
        extraction = Extraction(
            encoder or worker_encoder(task.params, task.features, task.aspect),
            store or Store(task.store),
            {space.fingerprint: (feature, space) for feature, space in task.features},
            {source.key: source for source in task.sources},
            task.params,
            task.aspect,
        )
        extraction.run([task.segment], len(task.segment.keys))
        return extraction.problems


def with_absolute_paths(params: Params) -> Params:
    """Parameters for workers, which run in folders of their own."""

    def absolute(name: str) -> str:
        if "://" in name:
            return name
        return str(Path(name).absolute()) if Path(name).exists() else name

    model, dataset, vision = params.model, params.dataset, params.vision
    name, folder = vision.encoder, (vision.encoder or "").removeprefix("local-dir:")
    if name and name != folder:
        name = f"local-dir:{absolute(folder)}"
    weights = vision.encoder_weights and absolute(vision.encoder_weights)
    return params.model_copy(
        update={
            "model": model.model_copy(
                update={"name": absolute(model.name), "pretrained": absolute(model.pretrained)}
            ),
            "dataset": dataset.model_copy(update={"path": absolute(dataset.path)}),
            "vision": vision.model_copy(update={"encoder": name, "encoder_weights": weights}),
        }
    )


def encode_on_cluster(
    tasks: Iterable[SegmentTask],
    total: int,
    store: Store,
    features: Mapping[str, tuple[Feature, Space]],
    sources: Mapping[str, ImageSource],
    params: Params,
    aspect: AspectRatio | None = None,
) -> list[str]:
    """Let the cluster's workers compute segments; what is wrong with images left out.

    Args:
        tasks: segments, each made when it is asked for.
        total: how many images they have together.
        features: by fingerprint of their spaces.
    """
    there = with_absolute_paths(params)

    def made() -> Iterator[EncodeTask]:
        for task in tasks:
            found = tuple(sources[key] for key in task.keys)
            spaces = tuple(features[space] for space in task.spaces)
            yield EncodeTask(store.root, there, task, found, spaces, aspect)

    outcomes = iterate_tasks(
        encode_segment,
        made(),
        params.cluster,
        "extract",
        weight=lambda task: len(task.segment.keys),
        name=lambda task: task.name,
        total=total,
        store=store.root,
    )
    return [problem for problems in outcomes for problem in problems]
