"""Real-IAD: a JSON file for each category and split, images in folders beside it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from fade.datasets.leftovers import Note, ignore
from fade.datasets.listing import list_files, require_folder
from fade.datasets.table_paths import TablePaths
from fade.datasets.tables import TableRecords, table_record
from fade.errors import DataError
from fade.files import read_data
from fade.types import GOOD, DataPath, DatasetFormat, ImageRecord, Split

REAL_IAD_SPLITS: dict[DatasetFormat, str] = {
    "real-iad": "realiad_jsons",
    "real-iad-sv": "realiad_jsons_sv",
}
"""Folder of the JSON files of each format; ``sv`` is the split of single views."""

DEFECTS, MASK_SUFFIX = "NG", ".png"
"""The folder of images with a defect, and what their masks end in: ``1.png`` beside ``1.jpg``."""
_IMAGES = ("realiad_1024", "realiad_raw", "realiad_512", "realiad_256", "")
"""Folders that may hold the categories' images; the first that is there counts."""


def iterate_real_iad(
    root: DataPath,
    categories: Sequence[str] | None,
    note: Note = ignore,
    format: DatasetFormat = "real-iad",
) -> Iterator[ImageRecord]:
    """Yield the images of Real-IAD as it unpacks, each view an image of its own.

    ``realiad_jsons/CATEGORY.json`` (for ``real-iad-sv`` ``realiad_jsons_sv/CATEGORY.json``) lists
    under ``train`` and ``test`` images with ``image_path``, ``mask_path`` and ``anomaly_class``; the
    folder may lie in one of its own name. Paths start at ``realiad_1024/CATEGORY/``, or at that folder
    of ``realiad_raw``, ``realiad_512``, ``realiad_256`` or the root. ``note`` is told of training images
    with a defect, which are left out. Raises DataError.
    """
    require_folder(root)
    folder = json_folder(root, format)
    if folder is None:
        others = [other for other in REAL_IAD_SPLITS if json_folder(root, other)]
        hint = f"set dataset.format to {others[0]}" if others else "check the path"
        raise DataError(
            f"{root / REAL_IAD_SPLITS[format]} does not exist or has no JSON file; format {format} needs "
            f"one for each category: {hint}"
        )
    paths = TablePaths(root)
    records = TableRecords(lambda record: record.split == "test")
    for file in list_files(root / folder):
        if file.endswith(".json"):
            for record in _category(root, folder, file, paths, note):
                records.append(record)
    yield from records.chosen(categories, root / folder, note)


def json_folder(root: DataPath, format: DatasetFormat) -> str | None:
    """Return where a format's JSON files lie, relative to the root; None where there are none."""
    name = REAL_IAD_SPLITS[format]
    for folder in (name, f"{name}/{name}", f"realiad_jsons/{name}"):
        if (root / folder).is_dir() and any(f.endswith(".json") for f in list_files(root / folder)):
            return folder
    return None


def json_files(root: DataPath, format: DatasetFormat) -> list[str]:
    """Return the paths of a format's JSON files, relative to the root."""
    folder = json_folder(root, format)
    files = list_files(root / folder) if folder else []
    return [f"{folder}/{file}" for file in files if file.endswith(".json")]


def _category(
    root: DataPath, folder: str, file: str, paths: TablePaths, note: Note
) -> Iterator[ImageRecord | None]:
    table, category = root / folder / file, file.removesuffix(".json")
    content = _content(table)
    normal = content["meta"].get("normal_class", "OK")
    images = next((name for name in _IMAGES if (root / name / category).is_dir()), None)
    if images is None:
        known = ", ".join(f"{name}/{category}".lstrip("/") for name in _IMAGES)
        raise DataError(f"{table}: its images are not there; one of these folders must be: {known}")
    base = f"{images}/{category}/".lstrip("/")
    for split in get_args(Split):
        for number, row in enumerate(content[split], 1):
            where = f"{table}, {split} image {number}"
            if not isinstance(row, dict) or not {"image_path", "anomaly_class"} <= row.keys():
                raise DataError(f"{where} lacks image_path or anomaly_class; restore the file")
            label, mask = str(row["anomaly_class"]), row.get("mask_path") or ""
            defect = GOOD if label == normal else label
            image, mask = f"{base}{row['image_path']}", f"{base}{mask}" if mask else ""
            yield table_record(
                paths, where, note, category=category, split=split, label=label, defect=defect,
                image=image, mask=mask,
            )  # fmt: skip


def _content(table: DataPath) -> Mapping[str, Any]:
    try:
        content = json.loads(read_data(table))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{table} is not valid JSON ({error}); restore the file") from None
    kinds = {"meta": dict, "train": list, "test": list}
    if not isinstance(content, dict) or any(
        not isinstance(content.get(name), kind) for name, kind in kinds.items()
    ):
        raise DataError(f"{table} lacks meta, train or test, which Real-IAD has: restore the file")
    return content
