"""Stage manifest: list the data set's images, with the hash and size of each."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import tee
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from cache.keys import Keys
from cache.layout import content_key
from cache.place import open_path
from fade.aspect import Aspect, middle_aspect
from fade.datasets.names import GOOD_LABELS, plain_name
from fade.datasets.overlooked import stray_masks, unread
from fade.datasets.read import dataset_root, iterate_dataset
from fade.errors import DataError, plain, summarise
from fade.preprocess import decode_mask, decode_rgb, image_size
from fade.types import DataPath, ImageRecord
from pipeline.artefacts.catalogue import CATEGORIES, MANIFEST, SKIPPED
from pipeline.artefacts.tables import table_parts, table_writer, write_json
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.schema import ClusterParams, Params
from pipeline.dataset.file_index import Facts, Listing, open_listing, pieces
from pipeline.stage import run_stage

log = logging.getLogger("fade")

CHUNK_FILES = 64
"""Images that one task reads."""
GROUP_IMAGES = 1 << 14
"""Rows that are written at once."""
COLUMNS = (
    "name", "path", "category", "split", "defect", "is_anomaly", "mask", "hash", "bytes", "width",
    "height", "mask_hash",
)  # fmt: skip

BAD_LABELS = frozenset({"anomaly", "anomalous", "bad", "defect", "defective", "ng", "not-good"})
"""Folder names, in lower case, that say defect, beside those that :data:`GOOD_LABELS` says good."""


@dataclass(frozen=True, slots=True)
class Block:
    """Images that one task looks at.

    Attributes:
        root: that paths are relative to.
        records: of the images.
        known: for each what a listing says of the image and of its mask.
        exif_rotation: whether images are turned as the camera says.
        decode: whether images are decoded, which takes much longer than a look at the header.
    """

    root: DataPath
    records: tuple[ImageRecord, ...]
    known: tuple[tuple[Facts | None, Facts | None], ...]
    exif_rotation: bool
    decode: bool


def examine(block: Block) -> list[dict[str, Any] | str]:
    """Manifest rows of the images that can be used; of the others the reason."""
    found: list[dict[str, Any] | str] = []
    for record, known in zip(block.records, block.known, strict=True):
        try:
            found.append(_row(record, known, block))
        except DataError as error:
            found.append(str(error))
    return found


def _row(
    record: ImageRecord, known: tuple[Facts | None, Facts | None], block: Block
) -> dict[str, Any]:
    """A manifest row; checks that mask and image agree, and that the files can be opened."""
    root, exif_rotation = block.root, block.exif_rotation
    facts = _unchanged(root, record.path, known[0])
    if facts is None or facts.width is None or facts.height is None or block.decode:
        data = _read(root, record.path)
        width, height = image_size(data, record.path, exif_rotation=exif_rotation)
        if block.decode:
            decode_rgb(data, record.path, exif_rotation=exif_rotation)
        key, size = content_key(data), len(data)
    else:
        key, size = facts.hash, facts.size
        width, height = facts.shown(exif_rotation)
    row = {
        **asdict(record),
        "hash": key,
        "bytes": size,
        "width": width,
        "height": height,
        "mask_hash": None,
        "marked": None,
    }
    if record.mask is not None:
        facts = _unchanged(root, record.mask, known[1])
        if facts is None or facts.marked is None or facts.width is None or facts.height is None:
            mask = _read(root, record.mask)
            pixels = decode_mask(mask, record.mask, exif_rotation=exif_rotation)
            mask_height, mask_width = pixels.shape
            row.update(mask_hash=content_key(mask), marked=bool(pixels.any()))
        else:
            mask_width, mask_height = facts.shown(exif_rotation)
            row.update(mask_hash=facts.hash, marked=facts.marked)
        if (mask_height, mask_width) != (height, width):
            turned = exif_rotation and (mask_height, mask_width) == (width, height)
            raise DataError(
                f"the mask {record.mask} is {mask_width} x {mask_height} pixels, its image "
                f"{record.path} {width} x {height}: they must have the same size"
                + (" once turned as EXIF says; was the mask drawn unturned?" if turned else "")
            )
    elif record.unused_mask is not None:
        with contextlib.suppress(DataError):  # whatever it is, nobody reads it
            mask = _read(root, record.unused_mask)
            pixels = decode_mask(mask, record.unused_mask, exif_rotation=exif_rotation)
            row["marked"] = bool(pixels.any())
    return row


def _unchanged(root: DataPath, path: str, known: Facts | None) -> Facts | None:
    """What is known of a file, if that still holds."""
    if known is None:
        return None
    try:
        return known if known.fits((root / path).stat()) else None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _read(root: DataPath, path: str) -> bytes:
    try:
        return (root / path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _warn_unless_watched(params: Params) -> None:
    """DVC looks only at ``dataset.watch``: say so when that does not cover the images."""
    if "://" in params.dataset.path:  # the listing that is watched says what lies there
        return
    path, watch = Path(params.dataset.path).resolve(), Path(params.dataset.watch).resolve()
    if watch.is_dir() and path != watch and watch not in path.parents:
        log.warning(
            "dataset.watch is %s, which does not contain dataset.path %s: `dvc repro` will not "
            "notice changed images; set dataset.watch to the same folder",
            params.dataset.watch, params.dataset.path,
        )  # fmt: skip


class Remarks:
    """What a reader of the metrics must know of the data, gathered row by row."""

    def __init__(self) -> None:
        self.rows = self.tests = self.unmasked = 0
        self.categories: dict[str, int] = {}
        self._empty: list[str] = []
        self._filled: list[str] = []
        self._at_odds: list[str] = []
        self._keys: list[Keys] = []
        self._category, self._test, self._anomaly = array("I"), array("B"), array("B")
        self._masks, self._masked = array("q"), array("I")

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take some rows in."""
        self._keys.append(Keys.of(row["hash"] for row in rows))
        for row in rows:
            category, path = row["category"], row["path"]
            test, anomaly = row["split"] == "test", row["is_anomaly"]
            self._category.append(self.categories.setdefault(category, len(self.categories)))
            self._test.append(test)
            self._anomaly.append(anomaly)
            self.rows += 1
            self.tests += test
            self.unmasked += test and anomaly and row["mask"] is None
            if anomaly and row["marked"] is False:
                self._empty.append(row["mask"])
            if not anomaly and row["marked"]:
                self._filled.append(row["unused_mask"])
            if row["mask"] is not None:
                self._masks.append(hash(row["mask"]))
                self._masked.append(self.rows - 1)
            folder = path.split("/")[-2] if "/" in path else ""
            if test and {_says(folder), _says(row["defect"])} - {None, anomaly}:
                self._at_odds.append(f"{path} is labelled {row['defect']!r}")

    def lines(self, table: Path) -> Iterator[str]:
        """The remarks, one line each.

        Args:
            table: of the rows, in the order in which they were taken in.
        """
        leaked, shared, torn, repeated = self._duplicates()
        masked = np.frombuffer(self._masked, np.uintc)
        several = [masked[rows].tolist() for rows in _equal(np.frombuffer(self._masks, np.int64))]
        groups = (*leaked, *shared, *torn, *repeated, *several)
        paths = _paths(table, [row for group in groups for row in group])

        def told(groups: Sequence[Sequence[int]]) -> str:
            return summarise([" = ".join(paths.get(r, "") for r in rows) for rows in groups])

        if leaked:
            yield (
                f"{len(leaked)} test images are training images too, so that scores flatter: "
                f"{told(leaked)}"
            )
        if shared:
            yield f"{len(shared)} images lie in more than one category: {told(shared)}"
        if torn:
            yield f"{len(torn)} test images are labelled both good and defect: {told(torn)}"
        if repeated:
            yield (
                f"{len(repeated)} training images are there more than once in their category, and count "
                f"as several shots: {told(repeated)}"
            )
        if several:
            yield f"{len(several)} masks are given to more than one image: {told(several)}"
        for found, what in (
            (self._empty, "defect images have a mask without a defect pixel"),
            (self._filled, "good images have a mask with defect pixels, which is not used"),
            (self._at_odds, "labels disagree with the image's folder"),
        ):
            if found:
                yield f"{len(found)} {what}: {summarise(found)}"

    def _duplicates(self) -> tuple[list[list[int]], ...]:
        """Rows of equal images: each test image with its training image, then those that lie in
        several categories, then test images with both labels, then training images of one category.
        """
        leaked, shared, torn, repeated = [], [], [], []
        test, anomaly = np.frombuffer(self._test, bool), np.frombuffer(self._anomaly, bool)
        category = np.frombuffer(self._category, np.uintc)
        for rows in _equal(Keys.join(self._keys).data):
            tests, train = rows[test[rows]], rows[~test[rows]]
            if len(train):
                leaked += [[int(row), int(train[-1])] for row in tests]
            if (category[rows] != category[rows[0]]).any():
                shared.append(rows.tolist())
            if len(tests) and anomaly[tests].any() and not anomaly[tests].all():
                torn.append(tests.tolist())
            of_category = (train[category[train] == own] for own in np.unique(category[train]))
            repeated += [own.tolist() for own in of_category if len(own) > 1]
        return sorted(leaked), sorted(shared), sorted(torn), sorted(repeated)


def _equal(values: np.ndarray) -> Iterator[np.ndarray]:
    """Places of equal values, for each value that is there more than once.

    Few of a million are Python objects.
    """
    order = np.argsort(values, kind="stable")
    again = np.zeros(len(order) + 1, bool)
    again[1:-1] = values[order[1:]] == values[order[:-1]]
    # runs of equal values: where one starts and ends
    starts = np.flatnonzero(~again[:-1] & again[1:])
    stops = np.flatnonzero(again[:-1] & ~again[1:]) + 1
    for start, stop in zip(starts, stops, strict=True):
        yield order[start:stop]


def _paths(table: Path, rows: Sequence[int]) -> dict[int, str]:
    """Paths of some rows of the manifest."""
    wanted = np.unique(np.array(rows, np.int64))
    found: dict[int, str] = {}
    start = 0
    for part in table_parts(table, ["path"]) if len(wanted) else ():
        stop = start + len(part["path"])
        low, high = np.searchsorted(wanted, (start, stop))
        for row in wanted[low:high].tolist():
            found[row] = part["path"][row - start].as_py()
        start = stop
    return found


def _says(name: str) -> bool | None:
    """Whether a folder's or defect's name says that there is a defect; None where it says neither."""
    name = plain_name(name)
    return name in BAD_LABELS if name in BAD_LABELS | GOOD_LABELS else None


def _overlooked(
    root: DataPath, tested: Iterable[ImageRecord], categories: Sequence[str]
) -> Iterator[str]:
    """What lies in a folder layout but is not used, one line for each kind."""
    if stray := stray_masks(root, tested):
        yield f"{len(stray)} masks belong to no image: {summarise(stray)}"
    suffixes, misnamed = unread(root, categories)
    for suffix, count in suffixes.items():
        yield f"{count} files with suffix {suffix} are not read: save them as PNG, or remove them"
    if misnamed:
        yield (
            f"{len(misnamed)} folders are not read, since they are called almost, but not train, test "
            f"or ground_truth: {summarise(misnamed)}"
        )


def _blocks(params: Params, root: DataPath, listing: Listing | None) -> Iterator[Block]:
    dataset = params.dataset
    for records in pieces(_records(params), CHUNK_FILES):
        known: list[tuple[Facts | None, Facts | None]] = [(None, None)] * len(records)
        if listing is not None:
            images = listing.find([record.path for record in records])
            masks = listing.find([record.mask or record.path for record in records])
            known = [
                (image[1] if image else None, mask[1] if mask else None)
                for image, mask in zip(images, masks, strict=True)
            ]
        yield Block(
            root.absolute(), tuple(records), tuple(known), dataset.exif_rotation,
            dataset.on_bad_image == "skip",
        )  # fmt: skip


def _records(params: Params) -> Iterator[ImageRecord]:
    dataset = params.dataset
    return iterate_dataset(
        dataset.format, open_path(dataset.path), dataset.categories, dataset.limit
    )  # fmt: skip


def _examined(
    params: Params,
    root: DataPath,
    total: int,
    skipped: list[dict[str, str]],
    tested: dict[str, ImageRecord],
) -> Iterator[dict[str, Any]]:
    """Rows of the images that can be used, as they come.

    Args:
        params: of the run.
        root: that paths are relative to.
        total: how many images there are.
        skipped: gets path and reason of the others.
        tested: gets a test image for each folder of categories that has some.
    """
    blocks, ahead = tee(_blocks(params, root, open_listing(params.dataset)))
    cluster = params.cluster
    if not cluster.distributed:  # threads do: reading and hashing leave Python's lock alone
        cluster = ClusterParams(kind="threads", workers=params.runtime.loader_workers)
    outcomes = iterate_tasks(
        examine, blocks, cluster, "manifest",
        weight=lambda block: len(block.records), total=total,
    )  # fmt: skip
    for outcome, block in zip(outcomes, ahead, strict=True):
        for record, found in zip(block.records, outcome, strict=True):
            if record.split == "test":
                tested.setdefault(record.path.rpartition("/test/")[0], record)
            if isinstance(found, str):
                skipped.append({"path": record.path, "reason": plain(found)})
            else:
                yield found


def _spool(rows: Iterable[dict[str, Any]], file: IO[str]) -> Aspect | None:
    """Write rows to a file; the median aspect ratio of their images, None if there are none."""
    sizes: Counter[tuple[int, int]] = Counter()
    for row in rows:
        sizes[row["width"], row["height"]] += 1
        file.write(json.dumps(row) + "\n")
    return middle_aspect(sizes.elements()) if sizes else None


def _fitting(
    file: IO[str], aspect: Aspect, skipped: list[dict[str, str]], params: Params
) -> Iterator[dict[str, Any]]:
    """Rows from a file of the images that have an aspect ratio; the others are skipped or refused."""
    file.seek(0)
    unfit: list[str] = []
    count = 0
    for line in file:
        row = json.loads(line)
        width, height = row["width"], row["height"]
        count += 1
        if aspect.fits(width, height):
            yield row
            continue
        unfit.append(
            f"{row['path']} is {width} x {height} pixels, not of the aspect ratio "
            f"{aspect.width}:{aspect.height}"
        )
        if params.dataset.on_bad_image == "skip":
            skipped.append({"path": row["path"], "reason": plain(unfit[-1])})
    if unfit and not skipped and params.dataset.on_bad_image == "fail":
        raise DataError(
            f"features.aspect is keep, but {len(unfit)} of {count} images "
            f"differ: {summarise(unfit)} (set it to square, name categories of one aspect ratio "
            "in dataset.categories, or leave such images out: dataset.on_bad_image skip)"
        )


def _listing(params: Params) -> tuple[int, bytes]:
    """How many images there are, and a hash of which, masks included."""
    count, digest = 0, hashlib.blake2b(digest_size=20)
    for count, record in enumerate(_records(params), 1):  # noqa: B007
        digest.update(f"{record.path}\0{record.mask or ''}\n".encode())
    return count, digest.digest()


def run(params: Params) -> None:
    """Write the manifest, the list of categories, and what is left out or odd."""
    import pyarrow as pa

    dataset = params.dataset
    _warn_unless_watched(params)
    path = open_path(dataset.path)
    root = dataset_root(dataset.format, path)
    total, listed = _listing(params)  # refuses bad tables and folders before hours of work
    remarks = Remarks()
    skipped: list[dict[str, str]] = []
    tested: dict[str, ImageRecord] = {}
    types = {"is_anomaly": pa.bool_(), **dict.fromkeys(("bytes", "width", "height"), pa.int64())}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    with TemporaryFile("w+", encoding="utf-8") as spool:
        rows = _examined(params, root, total, skipped, tested)
        kept: list[int] | None = None
        if params.features.aspect == "keep":
            # which rows stay, all of them tell
            aspect = _spool(rows, spool)
            kept = [aspect.width, aspect.height] if aspect else None
            rows = _fitting(spool, aspect, skipped, params) if aspect else iter(())
        about = {"dataset": dataset.path, "format": dataset.format, "aspect": kept}
        with table_writer(MANIFEST.path, schema, **about) as write:
            for part in pieces(rows, GROUP_IMAGES):
                remarks.add(part)
                write({name: [row[name] for row in part] for name in COLUMNS})
            reasons = [item["reason"] for item in skipped]
            if skipped and dataset.on_bad_image == "fail":
                raise DataError(
                    f"{summarise(reasons)} (or leave such images out: dataset.on_bad_image skip)"
                )
            if not remarks.rows:
                raise DataError(f"{dataset.path}: not one image can be used: {summarise(reasons)}")
    if _listing(params) != (total, listed):
        # DVC hashes the data when the stage has ended, and would take it for what was read
        raise DataError(f"{dataset.path}: images came or went while it was read: run again")
    warnings = list(remarks.lines(MANIFEST.path))
    if dataset.format in ("mvtec", "folder"):
        warnings += _overlooked(path, tested.values(), list(remarks.categories))
    warnings = [plain(warning) for warning in warnings]
    write_json({"categories": list(remarks.categories)}, CATEGORIES.path)
    write_json({"skipped": skipped, "warnings": warnings}, SKIPPED.path)
    if skipped:
        log.warning(
            "%d images cannot be used and are left out: %s", len(skipped), summarise(reasons)
        )
    for warning in warnings:
        log.warning("%s", warning)
    log.info(
        "%d categories, %d training and %d test images%s",
        len(remarks.categories), remarks.rows - remarks.tests, remarks.tests,
        f"; {remarks.unmasked} defect images have no mask and are left out of pixel metrics"
        if remarks.unmasked else "",
    )  # fmt: skip


if __name__ == "__main__":
    run_stage("stages.manifest")
