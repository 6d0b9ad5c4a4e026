"""Stage manifest: list the data set's images, with the hash and size of each."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cache.layout import content_key
from fade.datasets import dataset_root, read_dataset
from fade.errors import DataError, summarise
from fade.preprocess import image_size
from fade.types import ImageRecord
from pipeline.params import Params
from pipeline.paths import CATEGORIES, MANIFEST
from pipeline.progress import Progress
from pipeline.runner import run_stage
from pipeline.tables import write_json, write_table

log = logging.getLogger("fade")


def _row(record: ImageRecord, root: Path, exif_rotation: bool) -> dict[str, Any]:
    """A manifest row; checks that the files can be opened and that mask and image agree."""
    data = _read(root, record.path)
    width, height = image_size(data, record.path, exif_rotation=exif_rotation)
    row = {
        **asdict(record),
        "hash": content_key(data),
        "bytes": len(data),
        "width": width,
        "height": height,
        "mask_hash": None,
    }
    if record.mask is not None:
        mask = _read(root, record.mask)
        mask_width, mask_height = image_size(mask, record.mask)
        if (mask_width, mask_height) != (width, height):
            raise DataError(
                f"the mask {record.mask} is {mask_width} x {mask_height} pixels, its image "
                f"{record.path} {width} x {height}: they must have the same size"
            )
        row["mask_hash"] = content_key(mask)
    return row


def _read(root: Path, path: str) -> bytes:
    try:
        return (root / path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _warn_unless_watched(params: Params) -> None:
    """DVC looks only at ``dataset.watch``: say so when that does not cover the images."""
    path, watch = Path(params.dataset.path).resolve(), Path(params.dataset.watch).resolve()
    if watch.is_dir() and path != watch and watch not in path.parents:
        log.warning(
            "dataset.watch is %s, which does not contain dataset.path %s: `dvc repro` will not "
            "notice changed images; set dataset.watch to the same folder",
            params.dataset.watch, params.dataset.path,
        )  # fmt: skip


def run(params: Params) -> None:
    """Write the manifest and the list of categories."""
    import pandas as pd

    dataset = params.dataset
    _warn_unless_watched(params)
    records = read_dataset(dataset.format, Path(dataset.path), dataset.categories, dataset.limit)
    root = dataset_root(dataset.format, Path(dataset.path))
    rows: list[dict[str, Any]] = []
    problems: list[str] = []

    def attempt(record: ImageRecord) -> dict[str, Any] | DataError:
        try:
            return _row(record, root, dataset.exif_rotation)
        except DataError as error:
            return error

    with (
        ThreadPoolExecutor(params.runtime.loader_workers) as pool,
        Progress(len(records), "hashing") as progress,
    ):
        for outcome in pool.map(attempt, records):
            progress.advance()
            if isinstance(outcome, DataError):
                problems.append(str(outcome))
            else:
                rows.append(outcome)
    if problems:
        raise DataError(summarise(problems))
    frame = pd.DataFrame(rows)
    write_table(frame, MANIFEST.path, dataset=dataset.path, format=dataset.format)
    categories = list(dict.fromkeys(record.category for record in records))
    write_json({"categories": categories}, CATEGORIES.path)
    tests = frame[frame["split"] == "test"]
    unmasked = int((tests["is_anomaly"] & tests["mask"].isna()).sum())
    log.info(
        "%d categories, %d training and %d test images%s",
        len(categories), len(frame) - len(tests), len(tests),
        f"; {unmasked} defect images have no mask and are left out of pixel metrics"
        if unmasked else "",
    )  # fmt: skip


if __name__ == "__main__":
    run_stage("stages.manifest")
