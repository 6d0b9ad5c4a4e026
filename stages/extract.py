"""Stage extract: features of all images that a run needs into the store, only those it lacks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.keys import Keys
from cache.layout import SegmentTask, Space, cut, group_needs, segment_tasks
from cache.store import Store
from fade.datasets import dataset_root
from fade.errors import DataError, summarise
from fade.types import Feature
from pipeline.images import image_sources, lacking, scored_images
from pipeline.loader import Pixels, Source, prefetch
from pipeline.models import SEGMENT_BYTES, SEGMENT_IMAGES, feature_space, load_encoder
from pipeline.params import Params
from pipeline.paths import REFERENCES, SELECTION, TEST, store_root
from pipeline.progress import Progress
from pipeline.receipts import write_receipt
from pipeline.runner import run_stage
from pipeline.tables import read_table

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
    ) -> None:
        self.encoder, self.store, self.params = encoder, store, params
        self.features, self.sources = features, sources
        self.problems: list[str] = []

    def run(self, tasks: Iterable[SegmentTask], total: int) -> None:
        """Work through tasks of so many images; those that cannot be used are noted, left out."""
        runtime, dataset = self.params.runtime, self.params.dataset
        tasks, ahead = tee(tasks)  # the loader is a few images ahead
        pixels = prefetch(
            ((self.sources[key], self._sizes(task)) for task in ahead for key in task.keys),
            dataset_root(dataset.format, Path(dataset.path)),
            exif_rotation=dataset.exif_rotation,
            workers=runtime.loader_workers,
            ahead=2 * runtime.batch_size,
        )
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


def run(params: Params) -> None:
    """Bring the store up to what the parameters need, and write the two receipts."""
    selection, _ = read_table(SELECTION.path)
    encoder = load_encoder(params)
    store = Store(store_root(params.features.store))
    spaces = {
        feature: feature_space(encoder, feature, params)
        for feature in {*params.reference_features(), *params.test_features()}
    }
    for space in spaces.values():
        store.register(space)
    # images to calibrate on are scored like test images
    scored = scored_images()
    references = Keys.of(selection["hash"])
    groups = group_needs(
        [
            (references, [spaces[feature].fingerprint for feature in params.reference_features()]),
            (scored, [spaces[feature].fingerprint for feature in params.test_features()]),
        ]
    )
    missing = lacking(groups, {space.fingerprint: space for space in spaces.values()}, store)
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
        needed - computed, needed, computed, encoder.device,
    )  # fmt: skip
    extraction = Extraction(
        encoder,
        store,
        {space.fingerprint: (feature, space) for feature, space in spaces.items()},
        image_sources(),
        params,
    )
    extraction.run(tasks, computed)
    if extraction.problems:
        raise DataError(
            f"{summarise(extraction.problems)} (all other images are stored; repair or remove "
            "these and run again)"
        )
    write_receipt(
        REFERENCES,
        store,
        {spaces[f]: references for f in params.reference_features()},
    )
    write_receipt(TEST, store, {spaces[f]: scored for f in params.test_features()})


if __name__ == "__main__":
    run_stage("stages.extract")
