"""Reads a data set of any format."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from fade.datasets.csv_table import iterate_csv
from fade.datasets.folder import iterate_folder
from fade.datasets.mvtec import iterate_mvtec
from fade.datasets.records import limit_tests
from fade.datasets.visa import iterate_visa
from fade.errors import ParameterError
from fade.types import DataPath, DatasetFormat, ImageRecord


def read_dataset(
    format: DatasetFormat,
    root: DataPath,
    categories: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[ImageRecord]:
    """Return the images of a data set: category by category, in each training then test images.

    ``categories`` chooses and orders the categories; None or an empty list means all, by name.
    ``limit`` keeps the first so many test images of each defect (and of good ones) in each
    category; training images are never cut. Record paths start at :func:`dataset_root`.

    Raises ParameterError for an unknown format, a limit below 1 or a category named twice, and
    DataError for a data set that is absent, incomplete or contradicts itself.
    """
    return list(iterate_dataset(format, root, categories, limit))


def iterate_dataset(
    format: DatasetFormat,
    root: DataPath,
    categories: Sequence[str] | None = None,
    limit: int | None = None,
) -> Iterator[ImageRecord]:
    """Yield what :func:`read_dataset` returns, for data sets whose records would fill the memory.

    Errors come when the record at fault is reached.
    """
    readers: dict[str, Callable[[DataPath, Sequence[str] | None], Iterator[ImageRecord]]] = {
        "mvtec": iterate_mvtec,
        "visa": iterate_visa,
        "folder": iterate_folder,
        "csv": iterate_csv,
    }
    if format not in readers:
        known = ", ".join(get_args(DatasetFormat))
        raise ParameterError(f"data set format {format!r} is unknown; choose one of {known}")
    if limit is not None and limit < 1:
        raise ParameterError(f"limit is {limit}, at least 1 is needed; leave it empty for no limit")
    records = readers[format](Path(root) if isinstance(root, str) else root, categories)
    return records if limit is None else limit_tests(records, limit)


def dataset_root(format: DatasetFormat, path: DataPath) -> DataPath:
    """Return the folder that the paths of a data set's records are relative to.

    It is ``path`` itself, or the folder of the CSV file that a csv data set's ``path`` may name.
    """
    path = Path(path) if isinstance(path, str) else path
    return path.parent if format == "csv" and not path.is_dir() else path
