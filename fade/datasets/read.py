"""Reads a data set of any format."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from fade.datasets.csv_table import CSV_MANIFEST, iterate_csv
from fade.datasets.folder import iterate_folder
from fade.datasets.ksdd2 import iterate_ksdd2
from fade.datasets.leftovers import Note, ignore
from fade.datasets.real_iad import REAL_IAD_SPLITS, iterate_real_iad, json_files
from fade.datasets.records import limit_tests
from fade.datasets.tree import AD_2_PRIVATE, AD_2_TEST, Tree, iterate_tree
from fade.datasets.visa import VISA_TABLES, iterate_visa
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

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "train", "good").mkdir(parents=True)
        ...     _ = Path(root, "train", "good", "0.png").write_bytes(b"")
        ...     [(record.path, record.split) for record in read_dataset("folder", Path(root))]
        [('train/good/0.png', 'train')]
    """
    return list(iterate_dataset(format, root, categories, limit))


Reader = Callable[[DataPath, Sequence[str] | None, Note], Iterator[ImageRecord]]
"""Yields the records of some categories below a root, and notes what it leaves out."""

TREES: dict[DatasetFormat, Tree] = {
    "mvtec": Tree(single=False),
    # labelled images in test_public/; those of the private folders have no label
    "mvtec-ad-2": Tree(
        test=AD_2_TEST, truth=f"{AD_2_TEST}/ground_truth", unlabelled=AD_2_PRIVATE, validation=True
    ),
    # a mask is what the files of ground_truth/<defect>/000/ mark together
    "mvtec-loco": Tree(validation=True),
    "btad": Tree(),
    "mpdd": Tree(),
}
"""The layout of each format whose folders say all."""
READERS: dict[DatasetFormat, Reader] = {
    **{format: partial(iterate_tree, tree=tree, format=format) for format, tree in TREES.items()},
    **{format: partial(iterate_visa, format=format) for format in VISA_TABLES},
    **{format: partial(iterate_real_iad, format=format) for format in REAL_IAD_SPLITS},
    "folder": iterate_folder,
    "csv": iterate_csv,
    "ksdd2": iterate_ksdd2,
}
"""The reader of each format."""

TABLE_FORMATS = frozenset({"csv", *VISA_TABLES, *REAL_IAD_SPLITS})
"""Formats in which a file lists the images."""


def iterate_dataset(
    format: DatasetFormat,
    root: DataPath,
    categories: Sequence[str] | None = None,
    limit: int | None = None,
    note: Note = ignore,
) -> Iterator[ImageRecord]:
    """Yield what :func:`read_dataset` returns, for data sets whose records would fill the memory.

    ``note`` is told of images and masks that are left out on purpose, and why. Errors come when the
    record at fault is reached.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     for name in ("train/good/0.png", "test/scratch/1.png"):
        ...         Path(place, name).parent.mkdir(parents=True)
        ...         _ = Path(place, name).write_bytes(b"")
        ...     [(record.path, record.is_anomaly) for record in iterate_dataset("folder", place)]
        [('train/good/0.png', False), ('test/scratch/1.png', True)]
    """
    if format not in READERS:
        known = ", ".join(get_args(DatasetFormat))
        raise ParameterError(f"data set format {format!r} is unknown; choose one of {known}")
    if limit is not None and limit < 1:
        raise ParameterError(f"limit is {limit}, at least 1 is needed; leave it empty for no limit")
    records = READERS[format](Path(root) if isinstance(root, str) else root, categories, note)
    return records if limit is None else limit_tests(records, limit, note)


def table_files(format: DatasetFormat, path: DataPath) -> list[str]:
    """Return the files that list the images of a data set, relative to :func:`dataset_root`.

    Examples:
        >>> table_files("csv", Path("parts/images.csv")), table_files("visa", Path("visa"))
        (['images.csv'], ['split_csv/1cls.csv'])
    """
    if format == "csv":
        return [CSV_MANIFEST if path.is_dir() else path.name]
    if format in REAL_IAD_SPLITS:
        return json_files(path, format)
    return [VISA_TABLES[format]] if format in VISA_TABLES else []


def dataset_root(format: DatasetFormat, path: DataPath) -> DataPath:
    """Return the folder that the paths of a data set's records are relative to.

    It is ``path`` itself, or the folder of the CSV file that a csv data set's ``path`` may name.

    Examples:
        >>> dataset_root("csv", "parts/images.csv").as_posix(), dataset_root("mvtec", "data").as_posix()
        ('parts', 'data')
    """
    path = Path(path) if isinstance(path, str) else path
    return path.parent if format == "csv" and not path.is_dir() else path
