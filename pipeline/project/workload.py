"""Which images a run will work on, found without opening more of them than must be."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.keys import Keys
from cache.layout import content_key
from cache.location import open_path
from fade.aspect import AspectRatio, median_aspect_ratio
from fade.datasets.read import dataset_root
from fade.errors import DataError, StoreError
from fade.files import read_data, readable
from fade.preprocess import image_size
from fade.types import DataPath
from pipeline.artefacts.catalogue import MANIFEST, SKIPPED
from pipeline.artefacts.tables import manifest_aspect, read_json, table_columns, table_parts
from pipeline.config.schema import Params
from pipeline.dataset.manifest import dataset_records
from pipeline.dataset.selection import (
    calibration_positions,
    check_batches,
    check_shots,
    reference_positions,
)
from pipeline.evaluation.corrections import corrections

SAMPLE_IMAGES = 4
"""Images that are encoded to take the time."""
_Found = tuple[Keys, NDArray[np.intp], AspectRatio | None]
"""Keys of images, their positions in the data set, and the aspect ratio that they keep, if any."""
READ_BYTES = 1 << 30
"""Bytes of images that are read at most to find equal ones, where no manifest tells."""


@dataclass(frozen=True)
class Workload:
    """What a run works on.

    Attributes:
        tests: keys of test images; equal ones come again.
        batches: how many test images that differ each category has.
        references: keys by category of distinct references, over all seeds.
        calibration: keys of the training images that thresholds come from, scored like tests.
        sample: some of the images to time.
        known: whether the keys are those of the files, so that the store can be asked for them.
        aspect: the aspect ratio that images keep; None: squashed to squares.
        remarks: what could not be found out.
        unlabelled: how many test images have no label, nor one in ``evaluate.labels``.
    """

    tests: Keys
    batches: Mapping[str, int]
    references: Mapping[str, Sequence[str]]
    calibration: Sequence[str]
    sample: Sequence[DataPath]
    known: bool
    aspect: AspectRatio | None = None
    remarks: Sequence[str] = ()
    unlabelled: int = 0

    @cached_property
    def scored(self) -> Keys:
        """Keys of all images to score, each once."""
        return _each_once(Keys.join([self.tests, Keys.of(self.calibration)]))

    @cached_property
    def distinct_references(self) -> Keys:
        """Keys of all references, each once, whatever their category."""
        return _each_once(Keys.of(key for part in self.references.values() for key in part))


def imagined(params: Params, images: int) -> Workload:
    """So many test images of one category, and its references."""
    seeds = {trial.seed for trial in params.trials() if trial.shots}
    shots = params.max_shots if params.needs_vision else 0
    references = [f"reference {number}" for number in range(shots * len(seeds))]
    tests = Keys.of(f"test {number}" for number in range(images))
    return Workload(tests, {"any": images}, {"any": references}, (), (), False)


def of_data_set(params: Params) -> Workload:
    """The data set's images, of which the stages choose those that this chooses.

    Contents come from the last manifest; images that are new or were replaced are read, as long as they
    are few. Without a manifest images of the same size in bytes are read, so that equal ones count once.

    Raises:
        DataError: the data set or the file of labels cannot be read, or there are no images for what
            is asked.
        ParameterError: more shots than a category has training images.
    """
    root = dataset_root(params.dataset.format, open_path(params.dataset.path))
    remarks: list[str] = []
    listed = _Listed(params, root)
    manifest = _Manifest.read(params)
    found = manifest.find(listed) if manifest else None
    if found is None:
        remarks.append("no manifest fits yet: as if the store held nothing of these images")
        found = listed.contents(remarks)
    keys, kept, aspect = found
    aspect = aspect and params.features.kept(aspect)
    is_test = listed.is_test[kept]
    if not is_test.any() and not params.threshold.images:
        raise DataError(
            f"{params.dataset.path} has no test images and threshold.images is 0: nothing would be scored"
        )
    category = listed.category[kept]
    seeds = sorted({trial.seed for trial in params.trials() if trial.shots})
    shots = params.max_shots if params.needs_vision else 0
    references: dict[str, Sequence[str]] = {}
    batches: dict[str, int] = {}
    calibration: list[str] = []
    for number, name in enumerate(listed.categories):
        mine = category == number
        if not mine.any():
            continue
        batches[name] = len(keys.take(np.flatnonzero(mine & is_test)).distinct())
        training = keys.take(np.flatnonzero(mine & ~is_test))
        check_shots(name, len(training), shots)
        chosen = reference_positions(len(training), shots, seeds).values()
        references[name] = list(dict.fromkeys(training[at] for part in chosen for at in part))
        last = calibration_positions(training, sorted(params.vision.seeds), params.threshold.images)
        calibration += training.take(last)
    if params.needs_batch:
        check_batches(batches)
    return Workload(
        keys.take(is_test),
        batches,
        references,
        calibration,
        listed.sample,
        manifest is not None and not remarks,
        aspect,
        remarks,
        listed.unlabelled,
    )


class _Listed:
    """The images of a data set in its order, in arrays: a million of them are planned for.

    Attributes:
        paths: hashes of their paths.
        is_test, category: of each image; the category as a number.
        categories: by number.
        sample: the first test images; training images where there are none.
        unlabelled: how many have no label.
    """

    def __init__(self, params: Params, root: DataPath) -> None:
        self.params, self.root = params, root
        is_test, category = array("B"), array("I")
        numbers: dict[str, int] = {}
        first: dict[str, list[DataPath]] = {"train": [], "test": []}
        self.unlabelled, labels = 0, corrections(params.evaluate.labels)

        def named() -> Iterator[str]:
            for record in dataset_records(params.dataset):
                is_test.append(record.split == "test")
                self.unlabelled += labels.get(record.path, record.is_anomaly) is None
                category.append(numbers.setdefault(record.category, len(numbers)))
                if len(first[record.split]) < SAMPLE_IMAGES:
                    first[record.split].append(root / record.path)
                yield content_key(record.path.encode())

        self.paths = Keys.of(named())
        self.is_test = np.frombuffer(is_test, bool)
        self.category = np.frombuffer(category, np.uintc)
        self.categories = list(numbers)
        self.sample = first["test"] or first["train"]

    def contents(self, remarks: list[str]) -> _Found:
        """Keys that are the same for equal images.

        Args:
            remarks: gets a line if not all images that should be were read.
        """
        keep = self.params.features.keeps_aspect
        every = np.arange(len(self.paths))
        sizes = self.stats[:, 0]
        _, number, count = np.unique(sizes, return_inverse=True, return_counts=True)
        read = np.full(len(sizes), True) if keep else (count[number] > 1) & (sizes >= 0)
        if not self.may_read(read):
            remarks.append(
                "the images were not read: as if all of them differed"
                + (" and had the aspect ratio of the first ones" if keep else "")
            )
            first = [self._shape(read_data(path), path) for path in self.sample if keep]
            return self.paths, every, median_aspect_ratio(first) if first else None
        data = self.paths.data.copy()
        shapes = np.zeros((len(every), 2), np.int64)
        for at, path, content in self._read(read):
            data[at] = Keys.of([content_key(content)]).data[0]
            if keep:
                shapes[at] = self._shape(content, path)
        keys = Keys(data, self.paths.hashes)
        if not keep:
            return keys, every, None
        skip = self.params.dataset.on_bad_image == "skip"
        return _of_one_aspect(keys, every, shapes, skip)

    def hashes(self, which: NDArray[np.bool_]) -> Keys:
        """Hashes of the contents of some images, in their order."""
        return Keys.of(content_key(content) for _, _, content in self._read(which))

    def may_read(self, which: NDArray[np.bool_]) -> bool:
        """Whether some images are on this machine, and few enough to be read."""
        sizes = self.stats[which, 0]
        return bool((sizes >= 0).all()) and int(sizes.sum()) <= READ_BYTES

    def _read(self, which: NDArray[np.bool_]) -> Iterator[tuple[int, str, bytes]]:
        for at, record in enumerate(dataset_records(self.params.dataset) if which.any() else ()):
            if at < len(which) and which[at]:
                yield at, record.path, read_data(self.root / record.path)

    @cached_property
    def stats(self) -> NDArray[np.int64]:
        """Bytes of each image and when it changed, in nanoseconds; -1 where asking would be a request."""
        if "://" in self.params.dataset.path:
            return np.full((len(self.paths), 2), -1, np.int64)
        found = array("q")
        for record in dataset_records(self.params.dataset):
            with readable(record.path):
                stat = os.stat(str(self.root / record.path))
                # the second time cannot be set back, as copies do with the first
                found.extend((stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns)))
        return np.frombuffer(found, np.int64).reshape(-1, 2)

    def _shape(self, content: bytes, path: Any) -> tuple[int, int]:
        return image_size(content, str(path), exif_rotation=self.params.dataset.exif_rotation)


def _each_once(keys: Keys) -> Keys:
    """Keys in the order of their first appearance."""
    return keys.take(keys.first())


@dataclass(frozen=True)
class _Manifest:
    """What the last manifest says of its images.

    Attributes:
        paths: hashes of their paths, in order.
        bytes: (n,) their sizes.
        shapes: (n, 2) their width and height.
        left_out: hashes of paths that are no part of it though the data set has them.
        aspect: the aspect ratio that images keep; None: squashed to squares.
        keep, skip: how it is now, see ``features.aspect`` and ``dataset.on_bad_image``.
        made: when it was written, in nanoseconds.
    """

    paths: Keys
    hashes: Keys
    bytes: NDArray[np.int64]
    shapes: NDArray[np.int64]
    left_out: Keys
    aspect: AspectRatio | None
    keep: bool
    skip: bool
    made: int

    @classmethod
    def read(cls, params: Params) -> _Manifest | None:
        """The manifest of the project, if there is one of this data set."""
        paths: list[Keys] = []
        hashes: list[Keys] = []
        numbers = [np.zeros((0, 3), np.int64)]
        columns = ("bytes", "width", "height")
        try:
            made = MANIFEST.path.stat().st_mtime_ns
            _, remarks = table_columns(MANIFEST.path)
            if (remarks["dataset"], remarks["format"]) != (
                params.dataset.path,
                params.dataset.format,
            ):
                return None
            aspect = manifest_aspect(remarks)
            for part in table_parts(MANIFEST.path, ("path", "hash", *columns)):
                paths.append(_hashed(part["path"].to_pylist()))
                hashes.append(Keys.of(part["hash"].to_pylist()))
                numbers.append(np.stack([part[name].to_numpy() for name in columns], axis=1))
            skipped = [item["path"] for item in read_json(SKIPPED.path)["skipped"]]
        except (StoreError, OSError, LookupError, TypeError):
            return None
        joined = Keys.join(paths)
        order = np.argsort(joined.data)
        told = np.concatenate(numbers)[order]
        return cls(
            joined.take(order),
            Keys.join(hashes).take(order),
            told[:, 0],
            told[:, 1:],
            _hashed(skipped).distinct(),
            aspect,
            params.features.keeps_aspect,
            params.dataset.on_bad_image == "skip",
            made,
        )

    def find(self, listed: _Listed) -> _Found | None:
        """Contents of images, in their order; those that are new or were replaced are read.

        None where that is too much, or where their aspect ratios matter.
        """
        positions = self.paths.get_indexer(listed.paths)
        known = positions >= 0
        left_out = self.left_out.get_indexer(listed.paths) >= 0
        new = ~(known | left_out) | (listed.stats[:, 1] > self.made)
        if known.any():
            there = known & (listed.stats[:, 0] >= 0)
            new[there] |= listed.stats[there, 0] != self.bytes[positions[there]]
        if not len(known) or not listed.may_read(new):
            return None
        if self.aspect and not self.keep and left_out.any():
            return None  # some were left out for their aspect ratio, perhaps
        if not new.any():
            kept = np.flatnonzero(known)
            found = self.hashes.take(positions[kept])
            if not self.keep or self.aspect:
                return found, kept, self.aspect if self.keep else None
            return _of_one_aspect(found, kept, self.shapes[positions[kept]], self.skip)
        if self.keep:
            return None
        both = Keys.join([self.hashes, listed.hashes(new)])
        positions[new] = len(self.hashes) + np.arange(np.count_nonzero(new))
        kept = np.flatnonzero(positions >= 0)
        return both.take(positions[kept]), kept, None


def _hashed(paths: Iterable[str]) -> Keys:
    """Hashes of paths."""
    return Keys.of(content_key(path.encode()) for path in paths)


def _of_one_aspect(
    keys: Keys, kept: NDArray[np.intp], shapes: NDArray[np.int64], skip: bool
) -> _Found:
    """Of some images those that have the median aspect ratio; all of them where none is left out."""
    if not len(keys):
        return keys, kept, None
    aspect = median_aspect_ratio((int(width), int(height)) for width, height in shapes)
    if skip:
        fits = np.array([aspect.fits(int(width), int(height)) for width, height in shapes])
        keys, kept = keys.take(fits), kept[fits]
    return keys, kept, aspect
