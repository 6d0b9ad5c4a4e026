"""A CSV file of own images."""

from collections import Counter
from collections.abc import Iterator, Sequence

from fade.datasets.labels import ANOMALY, meaning
from fade.datasets.leftovers import Note, ignore
from fade.datasets.names import few
from fade.datasets.table_paths import TablePaths
from fade.datasets.tables import TableRecords, table_record, table_rows
from fade.errors import DataError
from fade.types import GOOD, DataPath, ImageRecord

CSV_MANIFEST = "manifest.csv"

CSV_COLUMNS = ("image", "category", "split", "label", "mask")


def iterate_csv(
    root: DataPath, categories: Sequence[str] | None, note: Note = ignore
) -> Iterator[ImageRecord]:
    """Yield the images that a CSV file lists: ``root`` itself, or ``manifest.csv`` in it.

    Columns, named in the first row, in any order: image, category, split (train or test), label
    and, if there are masks, mask. Labels such as good, normal, ok and 0 mean no defect, such as 1,
    bad and NG a defect without a name, anything else is the defect's name; see
    :func:`fade.datasets.labels.meaning`. A test row with an empty label is of an image without one.
    Paths are relative to the CSV's folder and must stay in it.
    In each category and split the CSV's order is kept. Raises DataError with file, row number and
    value.
    """
    table = root / CSV_MANIFEST if root.is_dir() else root
    if not table.is_file():
        raise DataError(
            f"{table} does not exist; format csv needs a CSV file, or a folder with {CSV_MANIFEST}"
        )
    rows = table_rows(table)
    where, header = next(rows, (f"{table}, row 1", []))
    columns = [column.lower() for column in header]
    _check_header(columns, where)
    paths = TablePaths(table.parent)
    records = TableRecords(lambda r: r.split == "test")
    for where, row in rows:
        cell = dict(zip(columns, row, strict=True))
        defect = _csv_defect(cell["label"], where)
        records.append(table_record(paths, where, None, defect=defect, **cell))
    yield from records.chosen(categories, table, note)


def _check_header(columns: Sequence[str], where: str) -> None:
    hint = "separate them by commas" if any(";" in c or "\t" in c for c in columns) else ""
    missing = [c for c in CSV_COLUMNS if c not in columns and c != "mask"]
    unknown = [c for c in columns if c not in CSV_COLUMNS]
    twice = [c for c, n in Counter(columns).items() if n > 1]
    problems = [
        f"{problem} {few([repr(name) for name in names])}"
        for problem, names in (("lacks", missing), ("does not know", unknown), ("repeats", twice))
        if names
    ]
    if problems:
        hint = hint or f"expected are {', '.join(CSV_COLUMNS)} (mask may be left out)"
        raise DataError(f"{where}: the header {', '.join(problems)}; {hint}")


def _csv_defect(label: str, where: str) -> str:
    """The defect that a label names; an empty one is refused elsewhere in training rows."""
    match meaning(label) if label else "kind":
        case "good":
            return GOOD
        case "defect":
            return ANOMALY
        case "kind":
            return label
        case _:
            raise DataError(
                f"{where}: label {label!r} does not say whether the image is good; write good, or the "
                "defect's name, or leave the cell of a test image empty if nobody knows"
            )
