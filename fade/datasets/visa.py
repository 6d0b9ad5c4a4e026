"""VisA: images that a table of five columns lists, one table for each split."""

from collections.abc import Iterator, Sequence
from typing import get_args

from fade.datasets.labels import ANOMALY
from fade.datasets.leftovers import Note, ignore
from fade.datasets.listing import require_folder
from fade.datasets.table_paths import TablePaths
from fade.datasets.tables import TableRecords, table_record, table_rows
from fade.errors import DataError
from fade.types import GOOD, DataPath, DatasetFormat, ImageRecord, Split

VISA_TABLES: dict[DatasetFormat, str] = {
    "visa": "split_csv/1cls.csv",
    "visa-2cls-highshot": "split_csv/2cls_highshot.csv",
    "visa-2cls-fewshot": "split_csv/2cls_fewshot.csv",
}
"""The table of each format."""

VISA_COLUMNS = ("object", "split", "label", "image", "mask")

VISA_LABELS = ("normal", ANOMALY)


def iterate_visa(
    root: DataPath,
    categories: Sequence[str] | None,
    note: Note = ignore,
    format: DatasetFormat = "visa",
) -> Iterator[ImageRecord]:
    """Yield a data set in VisA layout, whose images ``split_csv/1cls.csv`` lists.

    Five columns by position: object, split, label (normal or anomaly), image, mask. In each
    category and split the anomalous images come first, then the good ones, each in the CSV's order.
    Raises DataError with file, row number and value.

    ``format`` is one of :data:`VISA_TABLES`; of splits of two classes training images with a defect
    are left out.
    """
    require_folder(root)
    table = root / VISA_TABLES[format]
    if not table.is_file():
        others = [other for other, path in VISA_TABLES.items() if (root / path).is_file()]
        hint = f"set dataset.format to {' or '.join(others)}" if others else "check the path"
        raise DataError(f"{table} does not exist; format {format} needs it: {hint}")
    rows = table_rows(table)
    where, header = next(rows, (f"{table}, row 1", []))
    if len(header) != len(VISA_COLUMNS) or header[1].lower() in get_args(Split):
        raise DataError(
            f"{where}: {','.join(header)!r} is not a header of the five columns "
            f"{', '.join(VISA_COLUMNS)}"
        )
    paths = TablePaths(root)
    records = TableRecords(lambda r: 2 * (r.split == "test") + (not r.is_anomaly))
    for where, row in rows:
        category, split, label, image, mask = row
        if label.lower() not in VISA_LABELS:
            raise DataError(
                f"{where}: label is {label!r}, but it must be {' or '.join(VISA_LABELS)}"
            )
        defect = ANOMALY if label.lower() == ANOMALY else GOOD
        record = table_record(
            paths, where, None if format == "visa" else note, category=category, split=split,
            label=label, defect=defect, image=image, mask=mask,
        )  # fmt: skip
        records.append(record)
    yield from records.chosen(categories, table, note)
