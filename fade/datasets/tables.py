"""CSV files that list images: their rows, and their records in little memory."""

import csv
import io
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast, get_args

import numpy as np
from numpy.typing import NDArray

from fade.datasets.hashes import short_hash
from fade.datasets.leftovers import DEFECT_IN_TRAINING, OTHER_CATEGORY, Note, ignore
from fade.datasets.names import check_category, stem
from fade.datasets.records import choose_categories, image_record, same_name
from fade.datasets.table_paths import TablePaths
from fade.errors import DataError, counted
from fade.files import read_data
from fade.types import GOOD, UNLABELLED, DataPath, ImageRecord, Split


def table_rows(table: DataPath) -> Iterator[tuple[str, list[str]]]:
    """Yield the place of each row, for errors, and its stripped cells, as many as the header has.

    The header comes first; empty rows are left out.
    """
    number = width = 0
    try:
        with _opened(table) as file:
            for number, row in enumerate(csv.reader(file, strict=True), start=1):
                cells = [cell.strip() for cell in row]
                if not any(cells):
                    continue
                where = f"{table}, row {number}"
                width = width or len(cells)
                if len(cells) != width:
                    raise DataError(
                        f"{where}: {','.join(cells)!r} has {counted(len(cells), 'cell')}, not {width}"
                    )
                yield where, cells
    except UnicodeDecodeError as error:
        raise DataError(
            f"{table}, after row {number}: {error.object[error.start : error.start + 4]!r} "
            "is not UTF-8; save the file as UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(f"{table}, after row {number}: no valid CSV ({error})") from error
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror or error}") from error


def _opened(table: DataPath) -> IO[str]:
    if isinstance(table, Path):
        return table.open(encoding="utf-8-sig", newline="")
    return io.TextIOWrapper(io.BytesIO(read_data(table)), encoding="utf-8-sig", newline="")


def table_record(
    paths: TablePaths,
    where: str,
    note: Note | None,
    *,
    category: str,
    split: str,
    label: str,
    defect: str,
    image: str,
    mask: str = "",
) -> ImageRecord | None:
    """Return the record that a row of a table describes; errors start with ``where``.

    A test image with an empty label has none, and so no mask. Of a training image with a defect ``note``
    is told, and there is no record; without ``note`` (None) it is refused.
    """
    unlabelled = not label and split.lower() == "test"
    for column, value in (("image", image), ("category", category), ("label", label)):
        if not value and not (unlabelled and column == "label"):
            raise DataError(f"{where}: {column} is empty; fill it in")
    check_category(category, where)
    path = paths.check(image, f"{where}: image")
    mask_path = paths.check(mask, f"{where}: mask") if mask else None
    if mask_path == path:
        raise DataError(
            f"{where}: mask {mask!r} is the image itself; name its mask or leave the cell empty"
        )
    if unlabelled:
        if mask_path:
            raise DataError(
                f"{where}: label is empty, but there is a mask {mask!r}: name the defect, or remove "
                "the mask if nobody knows whether there is one"
            )
        return image_record(path, category, "test", UNLABELLED)
    if split.lower() not in get_args(Split):
        raise DataError(f"{where}: split is {split!r}, but it must be train or test")
    if split.lower() == "train" and defect != GOOD:
        if note is not None:
            for left_out in filter(None, (path, mask_path)):
                note(left_out, DEFECT_IN_TRAINING)
            return None
        raise DataError(
            f"{where}: training image {image!r} has label {label!r}, but references must be good; "
            "correct the label or make it a test image"
        )
    return image_record(path, category, cast(Split, split.lower()), defect, mask_path)


class _Texts:
    """Many strings in one piece of memory."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("Q", [0])

    def append(self, text: str) -> None:
        self._bytes += text.encode()
        self._ends.append(len(self._bytes))

    def __getitem__(self, position: int) -> str:
        return self._bytes[self._ends[position] : self._ends[position + 1]].decode()


class TableRecords:
    """The records of a table in little memory, to be given out in another order.

    ``rank`` tells which records of a category come first; those of equal rank keep their order.
    """

    def __init__(self, rank: Callable[[ImageRecord], int]) -> None:
        self._rank = rank
        self._paths, self._masks = _Texts(), _Texts()
        self._kinds: dict[tuple[str, Split, str], int] = {}
        self._kind, self._order = array("I"), array("B")

    def append(self, record: ImageRecord | None) -> None:
        """Take a record in, if there is one."""
        if record is None:
            return
        kind = (record.category, record.split, record.defect)
        self._kind.append(self._kinds.setdefault(kind, len(self._kinds)))
        self._order.append(self._rank(record))
        self._paths.append(record.path)
        self._masks.append(record.found_mask or "")

    def chosen(
        self, categories: Sequence[str] | None, table: DataPath, note: Note = ignore
    ) -> Iterator[ImageRecord]:
        """Yield the records of some categories, tell of the others; refuse images that share a name."""
        if not self._kind:
            raise DataError(f"{table} lists no images; add a row for each")
        found = sorted({category for category, _, _ in self._kinds})
        chosen = choose_categories(found, categories, table)
        number = {name: position for position, name in enumerate(chosen)}
        kinds = list(self._kinds)
        position = np.array([number.get(category, -1) for category, _, _ in kinds])
        of_row = position[np.frombuffer(self._kind, np.uintc)]
        rows = np.lexsort((np.frombuffer(self._order, np.uint8), of_row))
        first = int(np.searchsorted(of_row[rows], 0))
        for row in rows[:first]:
            for path in filter(None, (self._paths[row], self._masks[row])):
                note(path, OTHER_CATEGORY)
        rows = rows[first:]
        self._refuse_same_names(rows)
        for row in rows:
            category, split, defect = kinds[self._kind[row]]
            yield image_record(self._paths[row], category, split, defect, self._masks[row] or None)

    def _refuse_same_names(self, rows: NDArray[np.intp]) -> None:
        names = (stem(self._paths[row]) for row in rows)
        hashes = np.fromiter((short_hash(name) for name in names), np.uint64, len(rows))
        order = np.argsort(hashes, kind="stable")
        again = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        if len(again):
            at = again[np.argmin(order[again + 1])]
            raise same_name(self._paths[rows[order[at]]], self._paths[rows[order[at + 1]]])
