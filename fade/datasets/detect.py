"""Which format the files of a folder have."""

from fade.datasets.csv_table import CSV_MANIFEST
from fade.datasets.ksdd2 import MASK_ENDING
from fade.datasets.labels import meaning
from fade.datasets.listing import list_files, list_folder
from fade.datasets.names import is_image
from fade.datasets.real_iad import REAL_IAD_SPLITS, json_folder
from fade.datasets.tree import AD_2_PRIVATE, AD_2_TEST
from fade.datasets.visa import VISA_TABLES
from fade.types import DataPath, DatasetFormat


def detect_format(path: DataPath) -> DatasetFormat | None:
    """Return the format of the data set at a path, by its folders' names; None if nothing tells.

    MPDD, which has MVTec AD's layout, is found as ``mvtec``; of VisA's and Real-IAD's splits the first
    that is there. Raises DataError for folders that cannot be listed.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     Path(place, "bottle", "ground_truth").mkdir(parents=True)
        ...     Path(place, "bottle", "train", "good").mkdir(parents=True)
        ...     Path(place, "bottle", "test", "good").mkdir(parents=True)
        ...     detect_format(Path(place))
        'mvtec'
    """
    if path.is_file():
        return "csv" if path.name.lower().endswith(".csv") else None
    if not path.is_dir():
        return None
    if (path / CSV_MANIFEST).is_file():
        return "csv"
    for format, table in VISA_TABLES.items():
        if (path / table).is_file():
            return format
    for split in REAL_IAD_SPLITS:
        if json_folder(path, split):
            return split
    if own := _category_format(path):
        return own
    images, folders = list_folder(path)
    for name in folders:
        if found := _category_format(path / name):
            return "mvtec" if found == "folder" and _is_mvtec(path, folders) else found
    return "folder" if images else None


def _category_format(folder: DataPath) -> DatasetFormat | None:
    """The format that the folder of one category, or of KolektorSDD2, has."""
    if any((folder / name).is_dir() for name in (AD_2_TEST, *AD_2_PRIVATE)):
        return "mvtec-ad-2"
    splits = [folder / split for split in ("train", "test") if (folder / split).is_dir()]
    if not splits:
        return None
    for split in splits:
        stems = {file.rpartition(".")[0] for file in list_files(split) if is_image(file)}
        if any(stem + MASK_ENDING in stems for stem in stems):
            return "ksdd2"
    kinds = {kind for split in splits for kind in list_folder(split).folders}
    if "logical_anomalies" in kinds:
        return "mvtec-loco"
    return "btad" if {"ok", "ko"} <= kinds else "folder"


def _is_mvtec(root: DataPath, folders: list[str]) -> bool:
    """Whether all categories have their images in folders that say what they are."""
    trains = [root / name / "train" for name in folders if (root / name / "train").is_dir()]
    tests = [root / name / "test" for name in folders if (root / name / "test").is_dir()]
    if any(list_folder(test).files for test in tests):
        return False
    return bool(trains) and all(
        any(meaning(kind) == "good" for kind in list_folder(train).folders) for train in trains
    )
