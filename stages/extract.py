"""Stage extract: features of all images that a run needs into the store, only those it lacks."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.files import Place
from cache.layout import SegmentTask, Space, cut, plan_segments
from cache.place import open_path
from cache.store import Store
from fade.aspect import Aspect
from fade.datasets import dataset_root
from fade.errors import DataError, ModelError, summarise
from fade.types import Feature
from pipeline.cluster import map_tasks
from pipeline.loader import Pixels, Source, prefetch
from pipeline.models import SEGMENT_BYTES, SEGMENT_IMAGES, feature_space, load_encoder
from pipeline.params import Params
from pipeline.paths import CALIBRATION, MANIFEST, REFERENCES, SELECTION, TEST, store_root
from pipeline.progress import Progress
from pipeline.receipts import write_receipt
from pipeline.runner import run_stage
from pipeline.tables import manifest_aspect, read_table

if TYPE_CHECKING:
    from fade.encoder import Encoder

log = logging.getLogger("fade")


class Extraction:
    """Computes segment tasks: loads images ahead, encodes them, writes segments behind."""

    def __init__(
        self,
        encoder: Encoder,
        store: Store,
        features: Mapping[str, tuple[Feature, Space]],
        sources: Mapping[str, Source],
        params: Params,
        aspect: Aspect | None = None,
    ) -> None:
        self.encoder, self.store, self.params = encoder, store, params
        self.features, self.sources = features, sources
        self.shapes = {
            feature.size: encoder.pixels(feature.size, aspect) for feature, _ in features.values()
        }
        self.problems: list[str] = []

    def run(self, tasks: list[SegmentTask]) -> None:
        """Work through the tasks; images that cannot be used are noted and left out."""
        runtime, dataset = self.params.runtime, self.params.dataset
        pixels = prefetch(
            ((self.sources[key], self._sizes(task)) for task in tasks for key in task.keys),
            dataset_root(dataset.format, open_path(dataset.path)),
            exif_rotation=dataset.exif_rotation,
            workers=runtime.loader_workers,
            ahead=2 * runtime.batch_size,
            shapes=self.shapes,
        )
        total = sum(len(task.keys) for task in tasks)
        pending: Future[None] | None = None
        with (
            Progress(total, "encoding") as progress,
            ThreadPoolExecutor(1, thread_name_prefix="writer") as writer,
        ):
            for task in tasks:
                keys, rows = self._encode(task, pixels, progress)
                if pending is not None:
                    pending.result()
                pending = writer.submit(self._write, keys, rows)
            if pending is not None:
                pending.result()

    def _sizes(self, task: SegmentTask) -> tuple[int, ...]:
        return tuple(sorted({self.features[space][0].size for space in task.spaces}))

    def _encode(
        self, task: SegmentTask, pixels: Iterator[Pixels | DataError], progress: Progress
    ) -> tuple[list[str], dict[str, np.ndarray]]:
        """Keys that could be encoded, and their rows by space."""
        good: list[str] = []
        parts: dict[str, list[np.ndarray]] = {space: [] for space in task.spaces}
        for batch in cut(task.keys, self.params.runtime.batch_size):
            loaded: list[Pixels] = []
            for key in batch:
                result = next(pixels)
                if isinstance(result, DataError):
                    self.problems.append(str(result))
                else:
                    good.append(key)
                    loaded.append(result)
            for size in self._sizes(task) if loaded else ():
                wanted = {
                    (feature.stream, feature.token): space
                    for space, (feature, _) in self.features.items()
                    if space in parts and feature.size == size
                }
                encoded = self.encoder.encode_images(
                    np.stack([image[size] for image in loaded]), list(wanted)
                )
                for output, space in wanted.items():
                    parts[space].append(encoded[output].astype(self.features[space][1].dtype))
            progress.advance(len(batch))
        return good, {space: np.concatenate(rows) for space, rows in parts.items() if rows}

    def _write(self, keys: list[str], rows: Mapping[str, np.ndarray]) -> None:
        for space, values in rows.items():
            self.store.write(self.features[space][1], keys, values)


@dataclass(frozen=True)
class Task:
    """A segment to be computed by a worker that may be another machine.

    Attributes:
        name: category of its first image.
        store: where it goes.
        params: with absolute paths.
        segment: which images and spaces.
        sources: of these images.
        features: of these spaces.
        aspect: of the run, where it is kept.
    """

    name: str
    store: Place
    params: Params
    segment: SegmentTask
    sources: tuple[Source, ...]
    features: tuple[tuple[Feature, Space], ...]
    aspect: Aspect | None


_ENCODER = threading.Lock()
"""One segment at a time in a process: the model and its threads are shared."""


@lru_cache(maxsize=1)
def _worker_encoder(params: str, fingerprint: str) -> Encoder:
    """The model, kept by each worker; the fingerprint of a space changes with the weights."""
    return load_encoder(Params.model_validate_json(params))


def encode_segment(task: Task) -> list[str]:
    """Compute and store one segment on a worker; what is wrong with images that were left out.

    Raises:
        ModelError: the worker's model is another one.
    """
    import torch

    with _ENCODER:
        torch.set_num_threads(task.params.cluster.threads_per_worker)
        _, space = task.features[0]
        encoder = _worker_encoder(task.params.model_dump_json(), space.fingerprint)
        for feature, space in task.features:
            if feature_space(encoder, feature, task.params, task.aspect) != space:
                raise ModelError(
                    f"model.pretrained: a worker finds other weights than the run in "
                    f"{task.params.model.pretrained}: give it the same file"
                )
        extraction = Extraction(
            encoder,
            Store(task.store),
            {space.fingerprint: (feature, space) for feature, space in task.features},
            {source.key: source for source in task.sources},
            task.params,
            task.aspect,
        )
        extraction.run([task.segment])
        return extraction.problems


def _with_absolute_paths(params: Params) -> Params:
    """Parameters for workers, which run in folders of their own."""

    def absolute(name: str) -> str:
        return str(Path(name).absolute()) if Path(name).exists() else name

    model, dataset = params.model, params.dataset
    return params.model_copy(
        update={
            "model": model.model_copy(
                update={"name": absolute(model.name), "pretrained": absolute(model.pretrained)}
            ),
            "dataset": dataset.model_copy(update={"path": absolute(dataset.path)}),
        }
    )


def _encode_on_cluster(
    tasks: list[SegmentTask],
    store: Store,
    features: Mapping[str, tuple[Feature, Space]],
    sources: Mapping[str, Source],
    categories: Mapping[str, str],
    params: Params,
    aspect: Aspect | None,
) -> list[str]:
    """Let the cluster's workers compute the segments; what is wrong with images left out."""
    there = _with_absolute_paths(params)
    found = map_tasks(
        encode_segment,
        [
            Task(
                categories[task.keys[0]],
                store.root,
                there,
                task,
                tuple(sources[key] for key in task.keys),
                tuple(features[space] for space in task.spaces),
                aspect,
            )
            for task in tasks
        ],
        params.cluster,
        "extract",
        weight=lambda task: len(task.segment.keys),
        name=lambda task: task.name,
    )
    return [problem for problems in found for problem in problems]


def run(params: Params) -> None:
    """Bring the store up to what the parameters need, and write the two receipts."""
    manifest, remarks = read_table(MANIFEST.path)
    aspect = manifest_aspect(remarks)
    selection, _ = read_table(SELECTION.path)
    calibration, _ = read_table(CALIBRATION.path)
    on_cluster = params.cluster.distributed
    # where workers compute, the model here only tells what features are
    encoder = load_encoder(params, "cpu" if on_cluster else None)
    store = Store(store_root(params.features.store))
    spaces = {
        feature: feature_space(encoder, feature, params, aspect)
        for feature in {*params.reference_features(), *params.test_features()}
    }
    # images to calibrate on are scored like test images
    scored = [*manifest.loc[manifest["split"] == "test", "hash"], *calibration["hash"]]
    needs: dict[str, set[str]] = {}
    for keys, features in (
        (selection["hash"], params.reference_features()),
        (scored, params.test_features()),
    ):
        for key in keys:
            needs.setdefault(key, set()).update(spaces[feature].fingerprint for feature in features)
    tasks = plan_segments(
        needs,
        {space.fingerprint: store.present(space) for space in spaces.values()},
        {space.fingerprint: space.row_bytes for space in spaces.values()},
        SEGMENT_BYTES,
        SEGMENT_IMAGES,
    )
    computed = len({key for task in tasks for key in task.keys})
    log.info(
        "%d of %d images have all their features in the store, %d to compute on %s",
        len(needs) - computed, len(needs), computed,
        "the cluster" if on_cluster else encoder.device,
    )  # fmt: skip
    lacking = Counter(space for task in tasks for space in task.spaces for _ in task.keys)
    store.prepare({space: lacking[space.fingerprint] for space in spaces.values()})
    by_print = {space.fingerprint: (feature, space) for feature, space in spaces.items()}
    paths = zip(manifest["hash"], manifest["path"], strict=True)
    sources = {key: Source(key, path) for key, path in paths}
    if on_cluster:
        categories = dict(zip(manifest["hash"], manifest["category"], strict=True))
        problems = _encode_on_cluster(tasks, store, by_print, sources, categories, params, aspect)
    else:
        extraction = Extraction(encoder, store, by_print, sources, params, aspect)
        extraction.run(tasks)
        problems = extraction.problems
    if problems:
        raise DataError(
            f"{summarise(problems)} (all other images are stored; repair or remove "
            "these and run again)"
        )
    write_receipt(
        REFERENCES,
        store,
        {spaces[f]: selection["hash"].tolist() for f in params.reference_features()},
    )
    write_receipt(TEST, store, {spaces[f]: scored for f in params.test_features()})


if __name__ == "__main__":
    run_stage("stages.extract")
