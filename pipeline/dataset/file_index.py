"""The listing that ``fade scan`` keeps of a data set, so that nobody need read a million files again.

DVC watches this one file in place of the images: it changes only when their content does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.keys import Keys
from cache.layout import batched, content_key
from cache.location import open_path
from fade.datasets.read import TABLE_FORMATS, dataset_root, iterate_dataset, table_files
from fade.errors import DataError, ParameterError, StoreError, first_line
from fade.files import open_plain, read_data, readable
from fade.masks import has_colours_without_red
from fade.preprocess import decode_mask, image_size
from fade.types import DataPath, DataStat
from pipeline.artefacts.tables import table_columns, table_parts, table_writer
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.cluster import ClusterParams
from pipeline.config.schema import DatasetParams, Params
from pipeline.dataset.masks import mask_files

BLOCK_FILES = 256
"""Files of one task."""
COLUMNS = {
    "path": "string", "size": "int64", "mtime": "int64", "hash": "string", "width": "int32",
    "height": "int32", "turned": "bool", "marked": "bool",
}  # fmt: skip
"""The listing's columns with their types: a path, then what :class:`FileInfo` has."""
_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is known of a file.

    Attributes:
        size: bytes.
        mtime: nanoseconds, of the last change when the content was read.
        width, height: pixels as stored; None where it is no sound image.
        exif_swaps_sides: whether the camera's rotation swaps the two; the column ``turned``.
        has_defect_pixels: of masks, whether any pixel is a defect; the column ``marked``. None where
            the mask is to be read again, as it has colours that are warned of.
    """

    size: int
    mtime: int
    hash: str
    width: int | None = None
    height: int | None = None
    exif_swaps_sides: bool = False
    has_defect_pixels: bool | None = None

    def shown(self, exif_rotation: bool) -> tuple[int, int]:
        """(width, height) of a sound image, turned as the camera says or as stored."""
        size = (self.width or 0, self.height or 0)
        return size[::-1] if exif_rotation and self.exif_swaps_sides else size

    def fits(self, stat: DataStat) -> bool:
        """Whether a file still has this size and time."""
        return (self.size, self.mtime) == (stat.st_size, stat.st_mtime_ns)


def inspect(root: DataPath, path: str, *, mask: bool = False) -> FileInfo:
    """Read a file and find out what there is to know of it.

    Raises:
        DataError: it cannot be read.
    """
    with readable(path):
        stat = (root / path).stat()
    data = read_data(root / path, path)
    width = height = has_defects = None
    swaps_sides = False
    with suppress(DataError):
        width, height = image_size(data, path)
        if mask and not has_colours_without_red(data, path):
            has_defects = bool(decode_mask(data, path).any())
        swaps_sides = image_size(data, path, exif_rotation=True) != (width, height)
    return FileInfo(
        len(data), stat.st_mtime_ns, content_key(data), width, height, swaps_sides, has_defects
    )  # fmt: skip


class FileIndex:
    """The listing in memory, some ninety bytes a file."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        table_columns(path)  # refuses another schema version
        keys: list[Keys] = []
        hashes: list[Keys] = []
        numbers: dict[str, list[NDArray[np.int64]]] = {
            name: [np.zeros(0, np.int64)] for name in COLUMNS if name not in ("path", "hash")
        }
        for part in table_parts(path, list(COLUMNS)):
            keys.append(Keys.of(content_key(name.encode()) for name in part["path"].to_pylist()))
            hashes.append(Keys.of(part["hash"].to_pylist()))
            for name, parts in numbers.items():
                kind = pa.int64() if name in ("size", "mtime") else pa.int32()
                parts.append(part[name].cast(kind).fill_null(_UNKNOWN).to_numpy())
        self._keys, self._hashes = Keys.join(keys), Keys.join(hashes)
        self._numbers = {
            name: np.concatenate(parts[1:] or parts) for name, parts in numbers.items()
        }
        self._order = np.argsort(self._keys.data)
        self._sorted = self._keys.take(self._order)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, paths: list[str]) -> list[tuple[int, FileInfo] | None]:
        """For each path its position in the listing and what is known of it, if it is there."""
        found: list[tuple[int, FileInfo] | None] = []
        for at in self._sorted.get_indexer(content_key(path.encode()) for path in paths):
            found.append(None if at < 0 else self._info(int(self._order[at])))
        return found

    def _info(self, row: int) -> tuple[int, FileInfo]:
        size, mtime, width, height, turned, marked = (
            int(self._numbers[name][row]) for name in self._numbers
        )
        return row, FileInfo(
            size, mtime, self._hashes[row],
            None if width == _UNKNOWN else width, None if height == _UNKNOWN else height,
            turned == 1, None if marked == _UNKNOWN else marked == 1,
        )  # fmt: skip


def open_file_index(dataset: DatasetParams) -> FileIndex | None:
    """The listing that ``dataset.watch`` names, if it is one: it may be a list of somebody's own.

    Raises:
        StoreError: it is damaged or of another schema version.
    """
    path = Path(dataset.watch)
    return FileIndex(path) if _is_listing(path) else None


def _is_listing(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_plain(path) as file:
            if file.read(4) != b"PAR1":
                return False
    except OSError:
        return False
    try:
        return set(COLUMNS) <= set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} cannot be read ({first_line(error)}): delete it if `fade scan` wrote it, "
            "and scan again; else name another file as dataset.watch"
        ) from None


@dataclass(frozen=True, slots=True)
class _ScanBlock:
    """Files that one task looks at, each with what the listing said of it."""

    root: DataPath
    files: tuple[tuple[str, bool, FileInfo | None], ...]
    everything: bool


def _inspect_block(block: _ScanBlock) -> list[tuple[FileInfo, bool]]:
    """What is known of each file, and whether its content had to be read."""
    found: list[tuple[FileInfo, bool]] = []
    for path, mask, known in block.files:
        with readable(path):
            stat = (block.root / path).stat()
        if known is not None and known.fits(stat) and not block.everything:
            found.append((known, False))
        else:
            found.append((inspect(block.root, path, mask=mask), True))
    return found


def differs(path: str) -> DataError:
    """The error for a file that a worker of a cluster sees otherwise than this machine."""
    return DataError(
        f"a worker of the cluster does not see {path} as this machine does: give all of them the same "
        "data set under the same path, not copies of it, and run again"
    )


@dataclass
class Scan:
    """What a scan found.

    Attributes:
        files: images, masks and tables.
        added, changed, removed: since the listing was written. What is read otherwise than by an
            older version counts as changed.
        touched: with another time but the same content.
        read: whose content was read.
        written: whether the listing was.
    """

    files: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    touched: int = 0
    read: int = 0
    written: bool = False

    def count(self, info: FileInfo, old: FileInfo | None, was_read: bool) -> None:
        """Take in a file that was looked at, and what the listing said of it."""
        self.files += 1
        self.read += was_read
        if old is None:
            self.added += 1
        elif replace(old, mtime=info.mtime) != info:
            self.changed += 1
        elif old.mtime != info.mtime:
            self.touched += 1


class _UpToDate(Exception):
    """Leaves a listing as it is."""


def scan(params: Params, *, everything: bool = False, refresh: bool = False) -> Scan:
    """Bring the listing of the data set up to date; it is rewritten only if some content changed.

    Args:
        params: ``dataset.watch`` names the listing.
        everything: read all files, not only those of another size or time.
        refresh: write new times of files whose content did not change, too.

    Raises:
        ParameterError: ``dataset.watch`` names no file for a listing, or one of somebody's own.
        DataError: the data set, or a file of it, cannot be read.
        StoreError: the listing is damaged.
    """
    dataset, cluster = params.dataset, params.cluster
    before = _listing_to_renew(dataset)
    root = dataset_root(dataset.format, open_path(dataset.path)).absolute()
    total = sum(1 for _ in _files(dataset))
    if not cluster.distributed:
        cluster = ClusterParams(kind="threads", workers=params.runtime.loader_workers)
    asked: deque[tuple[Sequence[tuple[str, bool]], list[tuple[int, FileInfo] | None]]] = deque()

    def blocks() -> Iterator[_ScanBlock]:
        for part in batched(_files(dataset), BLOCK_FILES):
            known: list[tuple[int, FileInfo] | None] = [None] * len(part)
            if before is not None:
                known = before.find([name for name, _ in part])
            asked.append((part, known))
            entries = zip(part, known, strict=True)
            files = tuple((name, mask, old[1] if old else None) for (name, mask), old in entries)
            yield _ScanBlock(root, files, everything)

    found, same_order = Scan(), True
    with suppress(_UpToDate), table_writer(Path(dataset.watch), COLUMNS) as write:
        rows: list[tuple[Any, ...]] = []
        outcomes = iterate_tasks(
            _inspect_block, blocks(), cluster, "scan",
            weight=lambda block: len(block.files), unit="file", total=total,
        )  # fmt: skip
        for outcome in outcomes:
            part, known = asked.popleft()
            (name, mask), (info, was_read) = part[0], outcome[0]
            if cluster.distributed and was_read:
                here = inspect(root, name, mask=mask)
                if replace(here, mtime=info.mtime) != info:
                    raise differs(name)
            for (name, _), (info, was_read), old in zip(part, outcome, known, strict=True):
                same_order &= old is None or old[0] == found.files
                found.count(info, old[1] if old else None, was_read)
                rows.append((name, *astuple(info)))  # in the order of COLUMNS
            if len(rows) >= 1 << 14:
                write(_columns(rows))
                rows = []
        if rows:
            write(_columns(rows))
        found.removed = len(before) - (found.files - found.added) if before else 0
        news = bool(found.added or found.changed or found.removed) or not same_order
        found.written = before is None or news or (refresh and found.touched > 0)
        if not found.written:
            raise _UpToDate
    return found


def _listing_to_renew(dataset: DatasetParams) -> FileIndex | None:
    """The listing as it is; None where a new one is to be written.

    Raises:
        ParameterError: ``dataset.watch`` names no file for a listing, or one of somebody's own.
        StoreError: the listing is damaged.
    """
    target = Path(dataset.watch)
    if target.is_dir() or target.resolve() == open_path(dataset.path).resolve():
        raise ParameterError(
            f"dataset.watch is {dataset.watch}, which holds the data: name a file for the listing "
            "there, such as listing.parquet, and run `fade scan` again"
        )
    found = open_file_index(dataset)
    if found is None and target.exists():
        raise ParameterError(
            f"dataset.watch is {dataset.watch}, which `fade scan` did not write and leaves alone: a list "
            "of your own needs no scan; for a listing name another file, such as listing.parquet"
        )
    return found


def _columns(rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


def _files(dataset: DatasetParams) -> Iterator[tuple[str, bool]]:
    """Paths of everything that a manifest depends on, and which of them are masks."""
    path = open_path(dataset.path)
    for table in table_files(dataset.format, path):
        yield table, False
    root = dataset_root(dataset.format, path)
    masks: set[str] = set()  # a table may give one to several images
    for record in iterate_dataset(dataset.format, path, dataset.categories):
        yield record.path, False
        mask = record.found_mask
        if mask and mask not in masks:
            if dataset.format in TABLE_FORMATS:
                masks.add(mask)
            for file in mask_files(root, mask):
                yield file, True
