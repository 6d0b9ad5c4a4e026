"""Rows of the manifest: an image's hash and size, and whether its mask agrees."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import tee
from pathlib import Path
from typing import IO, Any

from cache.layout import batched, content_key
from cache.location import open_path
from fade.aspect import AspectRatio, median_aspect_ratio
from fade.datasets.leftovers import Account, Note, ignore
from fade.datasets.read import iterate_dataset, table_files
from fade.errors import DataError, counted, plain, summarise
from fade.files import read_data, readable
from fade.inspection import FileInspection, inspect_image
from fade.preprocess import decode_rgb
from fade.types import DataPath, ImageRecord
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.cluster import ClusterParams
from pipeline.config.schema import DatasetParams, Params
from pipeline.dataset.file_index import FileIndex, FileInfo, differs, open_file_index
from pipeline.dataset.masks import mask_files, read_mask
from pipeline.dataset.stamps import Entry, stamp

CHUNK_FILES = 64
"""Images that one task reads."""
COLUMNS = (
    "name", "path", "category", "split", "defect", "is_anomaly", "mask", "hash", "bytes", "width",
    "height", "mask_hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ManifestBlock:
    """Images that one task looks at.

    Attributes:
        root: that paths are relative to.
        known: for each what a listing says of the image and of its mask.
        exif_rotation: whether images are turned as the camera says.
        decode: whether images are decoded, which takes much longer than a look at the header.
    """

    root: DataPath
    records: tuple[ImageRecord, ...]
    known: tuple[tuple[FileInfo | None, FileInfo | None], ...]
    exif_rotation: bool
    decode: bool


def examine(block: ManifestBlock) -> list[dict[str, Any] | str]:
    """Manifest rows of the images that can be used; of the others the reason."""
    found: list[dict[str, Any] | str] = []
    for record, known in zip(block.records, block.known, strict=True):
        try:
            found.append(_row(record, known, block))
        except DataError as error:
            found.append(str(error))
    return found


def _check_alike(block: ManifestBlock, outcome: Sequence[dict[str, Any] | str]) -> None:
    """Look here, too, at a block's first image, and at each that a worker refused.

    Raises:
        DataError: the worker saw other files.
    """
    trios = zip(block.records, block.known, outcome, strict=True)
    for number, (record, known, there) in enumerate(trios):
        if number == 0 or isinstance(there, str):
            (here,) = examine(replace(block, records=(record,), known=(known,)))
            both_refuse = isinstance(here, str) and isinstance(there, str)
            if here != there and not both_refuse:  # in words of their versions
                raise differs(record.path)


def _row(
    record: ImageRecord, known: tuple[FileInfo | None, FileInfo | None], block: ManifestBlock
) -> dict[str, Any]:
    """A manifest row; checks that mask and image agree, and that the files can be opened."""
    root, exif_rotation = block.root, block.exif_rotation
    info = _unchanged(root, record.path, known[0])
    inspection: dict[str, Any] | None = None
    if info is None or info.width is None or info.height is None or block.decode:
        data = read_data(root / record.path, record.path)
        found = inspect_image(data, record.path)
        width, height = found.shown(exif_rotation)
        if block.decode:
            decode_rgb(data, record.path, exif_rotation=exif_rotation)
        key, size = content_key(data), len(data)
        inspection = asdict(found)
    else:
        key, size = info.hash, info.size
        width, height = info.shown(exif_rotation)
        if info.exif_swaps_sides:
            # or another that swaps the sides
            inspection = asdict(FileInspection(info.width, info.height, orientation=6))
    row = {
        **asdict(record),
        "hash": key,
        "bytes": size,
        "width": width,
        "height": height,
        "mask_hash": None,
        "marked": None,
        "covered": None,
        "loses_colours": False,
        "inspection": inspection,
    }
    if record.mask is not None:
        info = _unchanged(root, record.mask, known[1])
        if info is None or None in (info.has_defect_pixels, info.width, info.height):
            lossy: list[str] = []
            pixels, mask_key = read_mask(
                root, record.mask, exif_rotation=exif_rotation, lossy=lossy
            )
            mask_height, mask_width = pixels.shape
            row.update(
                mask_hash=mask_key,
                marked=bool(pixels.any()),
                covered=float(pixels.mean()),
                loses_colours=bool(lossy),
            )
        else:
            mask_width, mask_height = info.shown(exif_rotation)
            row.update(mask_hash=info.hash, marked=info.has_defect_pixels)
        if (mask_height, mask_width) != (height, width):
            swapped = (mask_height, mask_width) == (width, height)
            raise DataError(
                f"the mask {record.mask} is {mask_width} x {mask_height} pixels, its image "
                f"{record.path} {width} x {height}: they must have the same size"
                + (_exif_advice(exif_rotation, inspection) if swapped else "")
            )
    elif record.unused_mask is not None:
        with contextlib.suppress(DataError):  # whatever it is, nobody reads it
            pixels, _ = read_mask(root, record.unused_mask, exif_rotation=exif_rotation)
            row["marked"] = bool(pixels.any())
    return row


def _exif_advice(exif_rotation: bool, inspection: Mapping[str, Any] | None) -> str:
    """What to do about sizes that are swapped, if EXIF may be the cause."""
    if exif_rotation:
        return (
            " once turned as EXIF says; was the mask drawn unturned? Then set dataset.exif_rotation "
            "to false"
        )
    if inspection is not None and inspection["orientation"] > 4:
        return (
            "; EXIF says that the image is to be turned: if its mask was drawn upright, set "
            "dataset.exif_rotation to true (dataset.format folder or csv)"
        )
    return ""


def _unchanged(root: DataPath, path: str, known: FileInfo | None) -> FileInfo | None:
    """What is known of a file, if that still holds."""
    if known is None:
        return None
    with readable(path):
        return known if known.fits((root / path).stat()) else None


def _blocks(params: Params, root: DataPath, listing: FileIndex | None) -> Iterator[ManifestBlock]:
    dataset = params.dataset
    for records in batched(dataset_records(dataset), CHUNK_FILES):
        known: list[tuple[FileInfo | None, FileInfo | None]] = [(None, None)] * len(records)
        if listing is not None:
            images = listing.find([record.path for record in records])
            masks = listing.find([record.mask or record.path for record in records])
            known = [
                (image[1] if image else None, mask[1] if mask else None)
                for image, mask in zip(images, masks, strict=True)
            ]
        yield ManifestBlock(
            root.absolute(), tuple(records), tuple(known), dataset.exif_rotation,
            dataset.on_bad_image == "skip",
        )  # fmt: skip


def dataset_records(dataset: DatasetParams, note: Note = ignore) -> Iterator[ImageRecord]:
    """The records of the images that a run is asked to use, as they are found.

    Args:
        note: is told of what is left out, and why.
    """
    return iterate_dataset(
        dataset.format, open_path(dataset.path), dataset.categories, dataset.limit, note
    )


def _files(root: DataPath, record: ImageRecord) -> list[str]:
    """Paths of an image and of the files of its mask; of a folder's masks the folder, too."""
    mask = record.found_mask
    folder = [mask] if mask and mask.endswith("/") else []  # another file may come
    return [record.path, *(mask_files(root, mask) if mask else ()), *folder]


Stamps = list[list[tuple[str, int]]]
"""By record: path and stamp of its image, then of the files of its mask."""


def _stamped(blocks: Iterable[ManifestBlock]) -> Iterator[tuple[ManifestBlock, Stamps]]:
    """Blocks, each with stamps of its images and masks as they are before they are read."""
    for block in blocks:
        files = (_files(block.root, record) for record in block.records)
        yield block, [[(path, stamp(block.root, path)) for path in paths] for paths in files]


def _entries(stamps: Stamps, outcome: Sequence[dict[str, Any] | str]) -> Iterator[Entry]:
    for (image, *masks), found in zip(stamps, outcome, strict=True):
        key, mask_key = (
            (None, None) if isinstance(found, str) else (found["hash"], found["mask_hash"])
        )
        yield *image, key
        for mask in masks:  # of several files no hash is known: any change counts
            yield *mask, mask_key if len(masks) == 1 else None


def _table_entries(params: Params, root: DataPath) -> Iterator[Entry]:
    """Stamps of the files that list the images, where there are some."""
    dataset = params.dataset
    if isinstance(root, Path):
        for name in table_files(dataset.format, open_path(dataset.path)):
            yield name, stamp(root, name), content_key(read_data(root / name, name))


def examined_rows(
    params: Params,
    root: DataPath,
    total: int,
    skipped: list[dict[str, str]],
    record_stamps: Callable[[Iterable[Entry]], None],
) -> Iterator[dict[str, Any]]:
    """Rows of the images that can be used, as they come.

    Args:
        root: that paths are relative to.
        total: how many images there are.
        skipped: gets path and reason of the others.
        record_stamps: gets the stamps of all files.
    """
    record_stamps(_table_entries(params, root))
    blocks, ahead = tee(_stamped(_blocks(params, root, open_file_index(params.dataset))))
    cluster = params.cluster
    if not cluster.distributed:  # threads do: reading and hashing leave Python's lock alone
        cluster = ClusterParams(kind="threads", workers=params.runtime.loader_workers)
    outcomes = iterate_tasks(
        examine, (block for block, _ in blocks), cluster, "manifest",
        weight=lambda block: len(block.records), total=total,
    )  # fmt: skip
    for outcome, (block, stamps) in zip(outcomes, ahead, strict=True):
        if params.cluster.distributed:
            _check_alike(block, outcome)
        record_stamps(_entries(stamps, outcome))
        for record, found in zip(block.records, outcome, strict=True):
            if isinstance(found, str):
                skipped.append({"path": record.path, "reason": plain(found)})
            else:
                yield found


def spool_rows(rows: Iterable[dict[str, Any]], file: IO[str]) -> AspectRatio | None:
    """Write rows to a file; the median aspect ratio of their images, None if there are none."""
    sizes: Counter[tuple[int, int]] = Counter()
    for row in rows:
        sizes[row["width"], row["height"]] += 1
        file.write(json.dumps(row) + "\n")
    return median_aspect_ratio(sizes.elements()) if sizes else None


def fitting_rows(
    file: IO[str], aspect: AspectRatio, skipped: list[dict[str, str]], params: Params
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
            f"features.aspect is {params.features.aspect}, unlike the aspect ratio of {len(unfit)} of "
            f"{counted(count, 'image')}: {summarise(unfit)} (make a run for each aspect ratio, with "
            "its categories in dataset.categories (docs/nonsquare.md), set features.aspect to square, "
            "or leave such images out: dataset.on_bad_image skip)"
        )


def listing_digest(params: Params, account: Account | None = None) -> tuple[int, bytes]:
    """How many images there are, and a hash of which, masks included.

    Args:
        account: takes in what is used and what is left out.
    """
    count, digest = 0, hashlib.blake2b(digest_size=20)
    note = account.note if account else ignore
    for count, record in enumerate(dataset_records(params.dataset, note), 1):  # noqa: B007
        if account:
            account.use(record)
        digest.update(f"{record}\n".encode())
    return count, digest.digest()
