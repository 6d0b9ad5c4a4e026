"""Finds the images of a data set on disk, in the order in which FADE's reference draws count them.

Only folder listings and CSV files are read here; no image is opened.
"""

import csv
import errno
import hashlib
import io
import os
import posixpath
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, cast, get_args

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, ParameterError
from fade.types import GOOD, DataPath, DatasetFormat, ImageRecord, RemotePath, Split

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
)
"""Suffixes of images and masks, in lower case; files may have them in either case."""

ANOMALY = "anomaly"
"""The ``defect`` of an anomalous image whose data set does not name defects."""

GOOD_LABELS = frozenset({"good", "normal", "ok", "0"})
"""Labels of the csv format, in lower case, that mean an image without a defect."""

MANIFEST = "manifest.csv"
VISA_TABLE = "split_csv/1cls.csv"
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
CSV_COLUMNS = ("image", "category", "split", "label", "mask")

UNREAD_SUFFIXES = frozenset({".avif", ".heic", ".heif", ".jfif", ".jp2", ".jxl"})
"""Suffixes of images that are not read, in lower case."""

VISA_LABELS = ("normal", ANOMALY)
_RESERVED_CATEGORY = "mean"  # the row of averages in results/metrics.csv
_LOOP = "is a link that leads back to itself; remove it"
_PARTS = ("train", "test", "ground_truth")
_LAYOUT = "train/good/, test/<defect>/ and ground_truth/<defect>/"


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
        "mvtec": _iterate_mvtec,
        "visa": _iterate_visa,
        "folder": _iterate_folder,
        "csv": _iterate_csv,
    }
    if format not in readers:
        known = ", ".join(get_args(DatasetFormat))
        raise ParameterError(f"data set format {format!r} is unknown; choose one of {known}")
    if limit is not None and limit < 1:
        raise ParameterError(f"limit is {limit}, at least 1 is needed; leave it empty for no limit")
    records = readers[format](Path(root) if isinstance(root, str) else root, categories)
    return records if limit is None else _limited(records, limit)


def dataset_root(format: DatasetFormat, path: DataPath) -> DataPath:
    """Return the folder that the paths of a data set's records are relative to.

    It is ``path`` itself, or the folder of the CSV file that a csv data set's ``path`` may name.
    """
    path = Path(path) if isinstance(path, str) else path
    return path.parent if format == "csv" and not path.is_dir() else path


def read_mvtec(root: DataPath, categories: Sequence[str] | None = None) -> list[ImageRecord]:
    """Read a data set in MVTec-AD layout: a folder for each category.

    In it ``train/good/``, ``test/<defect>/`` and ``ground_truth/<defect>/``. Test images are sorted
    by defect, then by file name, in code-point order. A mask is found by its image's name, with or
    without ``_mask``; one that two images would get is refused. Raises DataError.
    """
    return list(_iterate_mvtec(root, categories))


def _iterate_mvtec(root: DataPath, categories: Sequence[str] | None) -> Iterator[ImageRecord]:
    found = _category_folders(root)
    if not found:
        single = _has_split(root)
        hint = "it looks like a single category: use format folder" if single else "check the path"
        raise DataError(f"{root}: no folder in it has {_LAYOUT} (MVTec layout); {hint}")
    chosen = _choose(found, categories, root)
    for name in chosen:
        yield from _read_category(root, f"{name}/", name)


def read_folder(root: DataPath, categories: Sequence[str] | None = None) -> list[ImageRecord]:
    """Read one category, or a folder of categories, in the layout of :func:`read_mvtec`.

    A root that has ``train/`` or ``test/`` itself is one category, named after the root. Good
    training images may also lie in ``train/`` itself, where it has no ``good/``. Every part but one
    of train and test is optional. Raises DataError.
    """
    return list(_iterate_folder(root, categories))


def _iterate_folder(root: DataPath, categories: Sequence[str] | None) -> Iterator[ImageRecord]:
    if _has_split(root):
        name = root.resolve().name
        _check_category(name, str(root))
        _choose([name], categories, root)
        yield from _read_category(root, "", name, loose_train=True)
        return
    found = _category_folders(root)
    if not found:
        raise DataError(
            f"{root}: neither it nor a folder in it has train/ or test/; expected {_LAYOUT}, "
            "directly or in a folder for each category"
        )
    for name in _choose(found, categories, root):
        yield from _read_category(root, f"{name}/", name, loose_train=True)


def read_visa(root: DataPath, categories: Sequence[str] | None = None) -> list[ImageRecord]:
    """Read a data set in VisA layout, whose images ``split_csv/1cls.csv`` lists.

    Five columns by position: object, split, label (normal or anomaly), image, mask. In each
    category and split the anomalous images come first, then the good ones, each in the CSV's order.
    Raises DataError with file, row number and value.
    """
    return list(_iterate_visa(root, categories))


def _iterate_visa(root: DataPath, categories: Sequence[str] | None) -> Iterator[ImageRecord]:
    _require_folder(root)
    table = root / VISA_TABLE
    if not table.is_file():
        raise DataError(f"{table} does not exist; format visa needs it: check the path")
    rows = _rows(table)
    _, header = next(rows, (1, []))
    if len(header) != len(VISA_COLUMNS) or header[1].lower() in get_args(Split):
        raise DataError(
            f"{table}, row 1: {','.join(header)!r} is not a header of the five columns "
            f"{', '.join(VISA_COLUMNS)}"
        )
    paths = _TablePaths(root)
    records = _Records(lambda r: 2 * (r.split == "test") + (not r.is_anomaly))
    for number, row in rows:
        where = f"{table}, row {number}"
        _check_width(row, len(VISA_COLUMNS), where)
        category, split, label, image, mask = row
        if label.lower() not in VISA_LABELS:
            raise DataError(
                f"{where}: label is {label!r}, but it must be {' or '.join(VISA_LABELS)}"
            )
        defect = ANOMALY if label.lower() == ANOMALY else GOOD
        records.append(_table_record(paths, where, category, split, label, defect, image, mask))
    yield from records.chosen(categories, table)


def read_csv(root: DataPath, categories: Sequence[str] | None = None) -> list[ImageRecord]:
    """Read the images that a CSV file lists: ``root`` itself, or ``manifest.csv`` in it.

    Columns, named in the first row, in any order: image, category, split (train or test), label
    and, if there are masks, mask. Labels good, normal, ok and 0 mean no defect, 1 means a
    defect without a name, anything else is the defect's name. Paths are relative to the CSV's
    folder and must stay in it. In each category and split the CSV's order is kept. Raises
    DataError with file, row number and value.
    """
    return list(_iterate_csv(root, categories))


def _iterate_csv(root: DataPath, categories: Sequence[str] | None) -> Iterator[ImageRecord]:
    table = root / MANIFEST if root.is_dir() else root
    if not table.is_file():
        raise DataError(
            f"{table} does not exist; format csv needs a CSV file, or a folder with {MANIFEST}"
        )
    rows = _rows(table)
    _, header = next(rows, (1, []))
    columns = [column.lower() for column in header]
    _check_header(columns, table)
    paths = _TablePaths(table.parent)
    records = _Records(lambda r: r.split == "test")
    for number, row in rows:
        where = f"{table}, row {number}"
        _check_width(row, len(columns), where)
        cell = dict(zip(columns, row, strict=True))
        label = cell["label"]
        records.append(
            _table_record(
                paths,
                where,
                cell["category"],
                cell["split"],
                label,
                _csv_defect(label),
                cell["image"],
                cell.get("mask", ""),
            )
        )
    yield from records.chosen(categories, table)


# Folder layouts


def _category_folders(root: DataPath) -> list[str]:
    _require_folder(root)
    found = [name for name in _list(root)[1] if _has_split(root / name)]
    for name in found:
        _check_category(name, str(root / name))
    return found


def _has_split(folder: DataPath) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _read_category(
    root: DataPath, prefix: str, category: str, *, loose_train: bool = False
) -> Iterator[ImageRecord]:
    """Yield the records of the category whose folder is ``root / prefix``."""
    folder = root / prefix
    empty = True
    train = _train_images(folder / "train", loose_train)
    for record in _unique(_record(f"{prefix}{path}", category, "train", GOOD) for path in train):
        empty = False
        yield record
    stray, defects = _list(folder / "test") if (folder / "test").is_dir() else ([], [])
    if stray:
        raise DataError(
            f"{folder / 'test' / stray[0]} lies in no defect's folder; "
            f"move it to test/{GOOD} or test/<defect>"
        )
    for defect in defects:
        images = _list(folder / "test" / defect)[0]
        masks = _masks(folder / "ground_truth" / defect)
        truth = f"{prefix}ground_truth/{defect}"
        _refuse_shared(masks, images, truth)
        for record in _unique(
            _record(
                f"{prefix}test/{defect}/{file}",
                category,
                "test",
                defect,
                f"{truth}/{mask}" if (mask := masks.get(os.path.splitext(file)[0])) else None,
            )
            for file in images
        ):
            empty = False
            yield record
    if empty:
        raise DataError(
            f"{folder}: no image in train/{GOOD} or test/<defect>; "
            f"known suffixes are {_known_suffixes()}"
        )


def _train_images(train: DataPath, loose: bool) -> list[str]:
    """Return the good training images as paths that start with ``train/``."""
    if not train.is_dir():
        return []
    files, folders = _list(train)
    if GOOD in folders:
        return [f"train/{GOOD}/{file}" for file in _list(train / GOOD)[0]]
    if files and loose:
        return [f"train/{file}" for file in files]
    if files or folders:
        what = "its images directly" if files else f"only {_few(folders)}"
        raise DataError(f"{train} has {what} but no folder {GOOD}; put good images in it")
    return []


def _masks(folder: DataPath) -> dict[str, str]:
    """Return the mask's file name for each image name that the folder has a mask for."""
    if not folder.is_dir():
        return {}
    plain: dict[str, str] = {}
    marked: dict[str, str] = {}
    for file in _list(folder)[0]:
        stem = os.path.splitext(file)[0]
        if stem in plain:
            raise DataError(
                f"{folder}: {plain[stem]} and {file} are masks of the same image; keep one"
            )
        plain[stem] = file
        if stem.endswith("_mask"):
            marked[stem.removesuffix("_mask")] = file
    return plain | marked


def _refuse_shared(masks: dict[str, str], images: Sequence[str], truth: str) -> None:
    """Refuse a mask that is called as one image and, without ``_mask``, as another."""
    of_both = {
        stem
        for name in masks
        if (stem := name.removesuffix("_mask")) != name and masks[name] == masks.get(stem)
    }
    found = [file for file in images if os.path.splitext(file)[0] in of_both]
    if not found:
        return
    stems = {os.path.splitext(file)[0] for file in found}
    for file in images:
        stem = os.path.splitext(file)[0]
        if stem.endswith("_mask") and stem.removesuffix("_mask") in stems:
            raise DataError(
                f"{truth}/{masks[stem]} is called as the mask of {stem.removesuffix('_mask')} and as "
                f"that of {file}; rename it, or one of the images"
            )


def _list(folder: DataPath) -> tuple[list[str], list[str]]:
    """Return the names of a folder's images and sub-folders, sorted; hidden ones left out."""
    if not isinstance(folder, Path):
        files, folders = ([n for n in part if n[0] != "."] for part in _children(folder))
        return list(filter(is_image, files)), folders
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                fault = fault_of(entry)
                if fault and (is_image(entry.name) or fault == _LOOP):
                    raise DataError(f"{entry.path} {fault}")
                if entry.is_dir():
                    folders.append(_readable(entry.name, folder))
                elif is_image(entry.name):
                    files.append(_readable(entry.name, folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror or error}") from error
    return sorted(files), sorted(folders)


def _children(folder: DataPath) -> tuple[list[str], list[str]]:
    """Return the names of the files and folders in a folder that is not on this machine."""
    return cast(RemotePath, folder).children()


def fault_of(entry: os.DirEntry[str]) -> str | None:
    """Return why an entry of a folder is neither a file nor a folder, and what to do about it.

    Only links are looked up; None for files and folders, also behind a link.
    """
    if entry.is_symlink():
        try:
            entry.stat()
        except FileNotFoundError:
            return "is a link to nothing; restore or remove it"
        except OSError as error:
            if error.errno == errno.ELOOP:
                return _LOOP
            raise
    if entry.is_file() or entry.is_dir():
        return None
    return "is no plain file; restore or remove it"


def is_image(name: str) -> bool:
    """Tell whether a file's name has one of the known image suffixes."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _readable(name: str, folder: DataPath) -> str:
    if not is_text(name):
        raise DataError(f"{folder}: file name {name!r} is not UTF-8; rename it")
    return name


def is_text(name: str) -> bool:
    """Tell whether a file's name is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def stray_masks(root: DataPath, records: Iterable[ImageRecord]) -> list[str]:
    """Return the masks of a folder layout that belong to no image, relative to the root.

    ``records`` are those that :func:`read_mvtec` or :func:`read_folder` found there. Masks of images
    that ``limit`` cut off are not stray. Raises DataError.
    """
    found = []
    tests = {record.path.rpartition("/test/")[0] for record in records if record.split == "test"}
    for prefix in sorted(tests if not _has_split(root) else {""}):
        truth = root / prefix / "ground_truth"
        loose, defects = _list(truth) if truth.is_dir() else ([], [])
        found += [f"{prefix}/ground_truth/{mask}".lstrip("/") for mask in loose]
        for defect in defects:
            folder = root / prefix / "test" / defect
            files = _list(folder)[0] if folder.is_dir() else []
            images = {os.path.splitext(file)[0] for file in files}
            for mask in _list(truth / defect)[0]:
                stem = os.path.splitext(mask)[0]
                if not images & {stem, stem.removesuffix("_mask")}:
                    found.append(f"{prefix}/ground_truth/{defect}/{mask}".lstrip("/"))
    return found


def unread(root: DataPath, categories: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Return what a folder layout holds that looks as if it were to be read, but is not.

    That is how many images there are of each of :data:`UNREAD_SUFFIXES`, and folders, relative to the
    root, that would be ``train``, ``test`` or ``ground_truth`` but for case, spaces or a hyphen.
    Raises DataError.
    """
    suffixes: Counter[str] = Counter()
    misnamed = []
    for category in [""] if _has_split(root) else categories:
        folder = root / category
        for name in _count_unread(folder, Counter()):
            right = plain_name(name).replace("-", "_").replace(" ", "_")
            # where case does not matter, the folder is read
            if right in _PARTS and name != right and not (folder / right).is_dir():
                misnamed.append(f"{category}/{name}".lstrip("/"))
        for part in _PARTS:
            for name in _count_unread(folder / part, suffixes):
                _count_unread(folder / part / name, suffixes)
    return dict(sorted(suffixes.items())), sorted(misnamed)


def _count_unread(folder: DataPath, suffixes: Counter[str]) -> list[str]:
    """Count a folder's images that are not read; return its sub-folders, none where it is none."""
    folders: list[str] = []

    def take(names: Iterable[tuple[str, bool]]) -> None:
        for name, is_folder in names:
            suffix = os.path.splitext(name)[1].lower()
            if is_folder and name[0] != ".":
                folders.append(name)
            elif suffix in UNREAD_SUFFIXES and name[0] != ".":
                suffixes[suffix] += 1

    if isinstance(folder, Path):
        with suppress(OSError), os.scandir(folder) as entries:  # whoever reads it complains
            take((entry.name, entry.is_dir()) for entry in entries)
    elif folder.is_dir():
        for names, is_folder in zip(_children(folder), (False, True), strict=True):
            take((name, is_folder) for name in names)
    return folders


def plain_name(name: str) -> str:
    """Return a name as it looks: in lower case, without spaces around it and format characters."""
    visible = (char for char in name if unicodedata.category(char) != "Cf")
    return "".join(visible).strip().lower()


# Tables


class _TablePaths:
    """Checks the paths of a table against its root; each folder is listed only once."""

    def __init__(self, root: DataPath) -> None:
        self._remote = None if isinstance(root, Path) else root
        self._root = os.path.realpath(root) if isinstance(root, Path) else str(root)
        self._folders: dict[str, NDArray[np.uint64] | str] = {}
        self._links: set[str] = set()

    def check(self, value: str, what: str) -> str:
        """Return the path, normalised, or raise DataError that starts with ``what``."""
        if reason := self._unsafe(value):
            raise DataError(f"{what} {value!r} {reason}; give a path inside the table's data set")
        path = posixpath.normpath(value)
        if not is_image(path):
            raise DataError(f"{what} {value!r} has no suffix of {_known_suffixes()}")
        folder, _, file = path.rpartition("/")
        files = self._files(folder)
        if isinstance(files, str):
            raise DataError(f"{what} {value!r} {files}; correct the path")
        key = np.uint64(_short_hash(file))
        place = int(np.searchsorted(files, key))
        if place == len(files) or files[place] != key:
            raise DataError(f"{what} {value!r} does not exist; correct the path")
        if path in self._links and not self._inside(path):
            raise DataError(f"{what} {value!r} links to a file outside the data set; copy it")
        return path

    def _unsafe(self, value: str) -> str | None:
        if value.startswith(("/", "\\")) or value[1:2] == ":":
            return "is an absolute path"
        if "\\" in value:
            return "has backslashes where / is needed"
        if ".." in value.split("/"):
            return "has .. in it"
        return None

    def _files(self, folder: str) -> NDArray[np.uint64] | str:
        """Return the sorted hashes of the names of a folder's files, or why it has none."""
        if folder not in self._folders:
            self._folders[folder] = self._listing(folder)
        return self._folders[folder]

    def _listing(self, folder: str) -> NDArray[np.uint64] | str:
        found = array("Q")
        prefix = f"{folder}/" if folder else ""
        if self._remote is not None:  # it has no links
            names = _children(self._remote / folder)[0]
            if not names:
                return "does not exist"
            return np.sort(np.fromiter(map(_short_hash, names), np.uint64, len(names)))
        try:
            if not self._inside(folder):
                return "links to a folder outside the data set"
            with os.scandir(os.path.join(self._root, folder)) as entries:
                for entry in entries:
                    if entry.is_file() and is_text(entry.name):
                        found.append(_short_hash(entry.name))
                        if entry.is_symlink():
                            self._links.add(prefix + entry.name)
        except (OSError, ValueError):
            return "does not exist"
        return np.sort(np.frombuffer(found, np.uint64))

    def _inside(self, path: str) -> bool:
        real = os.path.realpath(os.path.join(self._root, path))
        return os.path.commonpath((real, self._root)) == self._root


def _rows(table: DataPath) -> Iterator[tuple[int, list[str]]]:
    """Yield (row number, stripped cells); the header is row 1, empty rows are left out."""
    number = 0
    try:
        with _opened(table) as file:
            for number, row in enumerate(csv.reader(file, strict=True), start=1):
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield number, cells
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
    return io.TextIOWrapper(io.BytesIO(table.read_bytes()), encoding="utf-8-sig", newline="")


def _check_header(columns: Sequence[str], table: DataPath) -> None:
    hint = "separate them by commas" if any(";" in c or "\t" in c for c in columns) else ""
    missing = [c for c in CSV_COLUMNS if c not in columns and c != "mask"]
    unknown = [c for c in columns if c not in CSV_COLUMNS]
    twice = [c for c, n in Counter(columns).items() if n > 1]
    problems = [
        f"{problem} {_few([repr(name) for name in names])}"
        for problem, names in (("lacks", missing), ("does not know", unknown), ("repeats", twice))
        if names
    ]
    if problems:
        hint = hint or f"expected are {', '.join(CSV_COLUMNS)} (mask may be left out)"
        raise DataError(f"{table}, row 1: the header {', '.join(problems)}; {hint}")


def _check_width(row: Sequence[str], width: int, where: str) -> None:
    if len(row) != width:
        raise DataError(f"{where}: {','.join(row)!r} has {len(row)} cells, {width} are needed")


def _csv_defect(label: str) -> str:
    if label.lower() in GOOD_LABELS:
        return GOOD
    return ANOMALY if label == "1" else label


def _table_record(
    paths: _TablePaths,
    where: str,
    category: str,
    split: str,
    label: str,
    defect: str,
    image: str,
    mask: str,
) -> ImageRecord:
    for column, value in (("image", image), ("category", category), ("label", label)):
        if not value:
            raise DataError(f"{where}: {column} is empty; fill it in")
    _check_category(category, where)
    path = paths.check(image, f"{where}: image")
    mask_path = paths.check(mask, f"{where}: mask") if mask else None
    if mask_path == path:
        raise DataError(
            f"{where}: mask {mask!r} is the image itself; name its mask or leave the cell empty"
        )
    match split.lower():
        case "train":
            if defect != GOOD:
                raise DataError(
                    f"{where}: training image {image!r} has label {label!r}, but references must "
                    "be good; correct the label or make it a test image"
                )
            return _record(path, category, "train", defect, mask_path)
        case "test":
            return _record(path, category, "test", defect, mask_path)
        case _:
            raise DataError(f"{where}: split is {split!r}, but it must be train or test")


class _Texts:
    """Many strings in one piece of memory."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("Q", [0])

    def append(self, text: str) -> None:
        self._bytes += text.encode()
        self._ends.append(len(self._bytes))

    def __getitem__(self, place: int) -> str:
        return self._bytes[self._ends[place] : self._ends[place + 1]].decode()


class _Records:
    """The records of a table in little memory, to be given out in another order.

    ``rank`` tells which records of a category come first; those of equal rank keep their order.
    """

    def __init__(self, rank: Callable[[ImageRecord], int]) -> None:
        self._rank = rank
        self._paths, self._masks = _Texts(), _Texts()
        self._kinds: dict[tuple[str, Split, str], int] = {}
        self._kind, self._order = array("I"), array("B")

    def append(self, record: ImageRecord) -> None:
        kind = (record.category, record.split, record.defect)
        self._kind.append(self._kinds.setdefault(kind, len(self._kinds)))
        self._order.append(self._rank(record))
        self._paths.append(record.path)
        self._masks.append(record.mask or record.unused_mask or "")

    def chosen(self, categories: Sequence[str] | None, table: DataPath) -> Iterator[ImageRecord]:
        """Yield the records of some categories; refuse images that share a name."""
        if not self._kind:
            raise DataError(f"{table} lists no images; add a row for each")
        found = sorted({category for category, _, _ in self._kinds})
        chosen = _choose(found, categories, table)
        number = {name: place for place, name in enumerate(chosen)}
        kinds = list(self._kinds)
        place = np.array([number.get(category, -1) for category, _, _ in kinds])
        of_row = place[np.frombuffer(self._kind, np.uintc)]
        rows = np.lexsort((np.frombuffer(self._order, np.uint8), of_row))
        rows = rows[np.searchsorted(of_row[rows], 0) :]
        self._refuse_same_names(rows)
        for row in rows:
            category, split, defect = kinds[self._kind[row]]
            yield _record(self._paths[row], category, split, defect, self._masks[row] or None)

    def _refuse_same_names(self, rows: NDArray[np.intp]) -> None:
        names = (os.path.splitext(self._paths[row])[0] for row in rows)
        hashes = np.fromiter((_short_hash(name) for name in names), np.uint64, len(rows))
        order = np.argsort(hashes, kind="stable")
        again = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        if len(again):
            at = again[np.argmin(order[again + 1])]
            raise _same_name(self._paths[rows[order[at]]], self._paths[rows[order[at + 1]]])


def _short_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


# Both


def _record(
    path: str, category: str, split: Split, defect: str, mask: str | None = None
) -> ImageRecord:
    name = os.path.splitext(path)[0]
    if defect == GOOD:  # nothing to mark, so a (black) mask is of no use
        return ImageRecord(name, path, category, split, defect, False, None, mask)
    return ImageRecord(name, path, category, split, defect, True, mask)


def _unique(records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
    """Refuse images that share a name, since results are listed by it; records sorted by path.

    Of files that differ only in suffix, others may come in between, such as a-b.png: those so far
    that start in the same way are remembered.
    """
    seen: dict[str, str] = {}
    for record in records:
        seen = {name: path for name, path in seen.items() if record.path.startswith(name)}
        if other := seen.get(record.name):
            raise _same_name(other, record.path)
        seen[record.name] = record.path
        yield record


def _same_name(one: str, other: str) -> DataError:
    return DataError(
        f"{other} is listed twice; remove one row"
        if one == other
        else f"{one} and {other} differ only in suffix; rename or remove one"
    )


def _limited(records: Iterable[ImageRecord], limit: int) -> Iterator[ImageRecord]:
    count: Counter[tuple[str, str]] = Counter()
    for record in records:
        if record.split == "test":
            key = (record.category, record.defect)
            count[key] += 1
            if count[key] > limit:
                continue
        yield record


def _choose(found: Sequence[str], categories: Sequence[str] | None, source: DataPath) -> list[str]:
    """Return the categories to read, in order: those asked for, or all that were found."""
    folded: dict[str, str] = {}
    for name in found:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(
                f"{source}: categories {other!r} and {name!r} differ only in case, which not every "
                "file system tells apart; rename one"
            )
    if not categories:
        return list(found)
    if isinstance(categories, str):
        raise ParameterError(f"categories is {categories!r}; give a list of names")
    twice = [name for name, n in Counter(categories).items() if n > 1]
    if twice:
        raise ParameterError(f"categories names {_few(twice)} more than once; name each once")
    known = set(found)
    absent = [repr(name) for name in categories if name not in known]
    if absent:
        raise DataError(f"{source} has no category {_few(absent)}; there is {_few(found)}")
    return list(categories)


def _check_category(name: str, where: str) -> None:
    """Refuse names that could not stand in a path or in a table of results."""
    if name in ("", ".", "..") or any(char in "/\\" or char < " " for char in name):
        raise DataError(f"{where}: category {name!r} cannot be a folder's name; rename it")
    if not plain_name(name):
        raise DataError(f"{where}: category {name!r} is blank; rename it")
    if plain_name(name) == _RESERVED_CATEGORY:
        raise DataError(f"{where}: category {name!r} is the name of the averages; rename it")


def _require_folder(root: DataPath) -> None:
    if not root.exists():
        raise DataError(f"{root} does not exist; correct the data set's path (dataset.path)")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the data set's folder (dataset.path)")


def _few(names: Sequence[str], most: int = 20) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _known_suffixes() -> str:
    return ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
