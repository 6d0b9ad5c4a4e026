"""Stage manifest: list the data set's images, with the hash and size of each."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.layout import content_key, cut
from cache.place import open_path
from fade.aspect import Aspect, middle_aspect
from fade.datasets import GOOD_LABELS, dataset_root, read_dataset, stray_masks
from fade.errors import DataError, summarise
from fade.preprocess import decode_mask, decode_rgb, image_size
from fade.types import DataPath, ImageRecord
from pipeline.cluster import iterate_tasks
from pipeline.params import ClusterParams, Params
from pipeline.paths import CATEGORIES, MANIFEST, SKIPPED
from pipeline.runner import run_stage
from pipeline.tables import write_json, write_table

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")

CHUNK_FILES = 64
"""Files that one task reads."""
BAD_LABELS = frozenset({"anomaly", "anomalous", "bad", "defect", "defective", "ng", "not-good"})
"""Folder names, in lower case, that say defect, beside those that :data:`GOOD_LABELS` says good."""


def _row(
    record: ImageRecord, root: DataPath, *, exif_rotation: bool, decode: bool
) -> dict[str, Any]:
    """A manifest row; checks that mask and image agree, and that the files can be opened.

    Images are decoded only if ``decode`` is true: that takes much longer than a look at the header.
    """
    data = _read(root, record.path)
    width, height = image_size(data, record.path, exif_rotation=exif_rotation)
    if decode:
        decode_rgb(data, record.path, exif_rotation=exif_rotation)
    row = {
        **asdict(record),
        "hash": content_key(data),
        "bytes": len(data),
        "width": width,
        "height": height,
        "mask_hash": None,
        "marked": None,
    }
    if record.mask is not None:
        mask = _read(root, record.mask)
        pixels = decode_mask(mask, record.mask, exif_rotation=exif_rotation)
        if pixels.shape != (height, width):
            turned = exif_rotation and pixels.shape == (width, height)
            raise DataError(
                f"the mask {record.mask} is {pixels.shape[1]} x {pixels.shape[0]} pixels, its image "
                f"{record.path} {width} x {height}: they must have the same size"
                + (" once turned as EXIF says; was the mask drawn unturned?" if turned else "")
            )
        row.update(mask_hash=content_key(mask), marked=bool(pixels.any()))
    elif record.unused_mask is not None:
        with contextlib.suppress(DataError):  # whatever it is, nobody reads it
            mask = _read(root, record.unused_mask)
            pixels = decode_mask(mask, record.unused_mask, exif_rotation=exif_rotation)
            row["marked"] = bool(pixels.any())
    return row


def _read(root: DataPath, path: str) -> bytes:
    try:
        return (root / path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _warn_unless_watched(params: Params) -> None:
    """DVC looks only at ``dataset.watch``: say so when that does not cover the images."""
    if "://" in params.dataset.path:  # the listing that is watched says what lies there
        return
    path, watch = Path(params.dataset.path).resolve(), Path(params.dataset.watch).resolve()
    if watch.is_dir() and path != watch and watch not in path.parents:
        log.warning(
            "dataset.watch is %s, which does not contain dataset.path %s: `dvc repro` will not "
            "notice changed images; set dataset.watch to the same folder",
            params.dataset.watch, params.dataset.path,
        )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Some files to be read and hashed.

    Attributes:
        root: absolute folder that paths are relative to.
        records: of images.
        exif_rotation: whether images are turned as their camera says.
        decode: whether to look at more than the header.
    """

    root: DataPath
    records: tuple[ImageRecord, ...]
    exif_rotation: bool
    decode: bool


def read_files(task: Task) -> list[dict[str, Any] | str]:
    """For each image its row, or why it cannot be used."""
    found: list[dict[str, Any] | str] = []
    for record in task.records:
        try:
            found.append(
                _row(record, task.root, exif_rotation=task.exif_rotation, decode=task.decode)
            )
        except DataError as error:
            found.append(str(error))
    return found


def _rows(
    records: Sequence[ImageRecord], root: DataPath, params: Params
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows of the images that can be used, and path and reason of the others."""
    dataset, cluster = params.dataset, params.cluster
    if not cluster.distributed:  # threads do: reading and hashing leave Python's lock alone
        cluster = ClusterParams(kind="threads", workers=params.runtime.loader_workers)
    decode = dataset.on_bad_image == "skip"
    tasks = [
        Task(root.absolute(), part, dataset.exif_rotation, decode)
        for part in cut(records, CHUNK_FILES)
    ]
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for task, outcomes in zip(
        tasks,
        iterate_tasks(
            read_files, tasks, cluster, "manifest", weight=lambda task: len(task.records)
        ),
        strict=True,
    ):
        for record, outcome in zip(task.records, outcomes, strict=True):
            if isinstance(outcome, str):
                skipped.append({"path": record.path, "reason": outcome})
            else:
                rows.append(outcome)
    return rows, skipped


def _of_one_aspect(
    rows: Sequence[dict[str, Any]],
) -> tuple[Aspect, list[dict[str, Any]], list[dict[str, str]]]:
    """The median aspect ratio, the rows of images that have it, and path and reason of the others."""
    aspect = middle_aspect((row["width"], row["height"]) for row in rows)
    fitting: list[dict[str, Any]] = []
    others: list[dict[str, str]] = []
    for row in rows:
        width, height = row["width"], row["height"]
        if aspect.fits(width, height):
            fitting.append(row)
            continue
        reason = (
            f"{row['path']} is {width} x {height} pixels, not of the aspect ratio "
            f"{aspect.width}:{aspect.height}"
        )
        others.append({"path": row["path"], "reason": reason})
    return aspect, fitting, others


def data_warnings(frame: pd.DataFrame) -> Iterator[str]:
    """What a reader of the metrics must know of the data: lines about labels and masks.

    Args:
        frame: manifest rows with the columns ``marked`` (whether the mask has a defect pixel) and
            ``unused_mask``.
    """
    train = dict(zip(*_columns(frame[frame["split"] == "train"], "hash", "path"), strict=True))
    tests = frame[frame["split"] == "test"]
    leaked = [
        f"{path} = {train[key]}"
        for key, path in zip(*_columns(tests, "hash", "path"), strict=True)
        if key in train
    ]
    if leaked:
        yield (
            f"{len(leaked)} test images are training images too, so that scores flatter: "
            f"{summarise(leaked)}"
        )
    shared = [
        " = ".join(part["path"])
        for _, part in frame.groupby("hash", sort=False)
        if part["category"].nunique() > 1
    ]
    if shared:
        yield f"{len(shared)} images lie in more than one category: {summarise(shared)}"
    torn = [
        " = ".join(part["path"])
        for _, part in tests.groupby("hash", sort=False)
        if part["is_anomaly"].nunique() > 1
    ]
    if torn:
        yield f"{len(torn)} test images are labelled both good and defect: {summarise(torn)}"
    marked = frame["marked"].map(lambda value: value if isinstance(value, bool) else None)
    empty = frame.loc[frame["is_anomaly"] & (marked == False), "mask"].tolist()  # noqa: E712
    if empty:
        yield f"{len(empty)} defect images have a mask without a defect pixel: {summarise(empty)}"
    filled = frame.loc[~frame["is_anomaly"] & (marked == True), "unused_mask"].tolist()  # noqa: E712
    if filled:
        yield (
            f"{len(filled)} good images have a mask with defect pixels, which is not used: "
            f"{summarise(filled)}"
        )
    at_odds = [
        f"{path} is labelled {defect}"
        for path, defect, anomaly in zip(
            *_columns(tests, "path", "defect", "is_anomaly"), strict=True
        )
        if _folder_says(path) not in (None, bool(anomaly))
    ]
    if at_odds:
        yield f"{len(at_odds)} labels disagree with the image's folder: {summarise(at_odds)}"


def _columns(frame: pd.DataFrame, *names: str) -> list[list[Any]]:
    return [frame[name].tolist() for name in names]


def _folder_says(path: str) -> bool | None:
    """Whether the folder's name says that its images have a defect; None where it says neither."""
    folder = path.split("/")[-2].lower() if "/" in path else ""
    return folder in BAD_LABELS if folder in BAD_LABELS | GOOD_LABELS else None


def run(params: Params) -> None:
    """Write the manifest, the list of categories, and what is left out or odd."""
    import pandas as pd

    dataset = params.dataset
    _warn_unless_watched(params)
    path = open_path(dataset.path)
    records = read_dataset(dataset.format, path, dataset.categories, dataset.limit)
    rows, skipped = _rows(records, dataset_root(dataset.format, path), params)
    reasons = [item["reason"] for item in skipped]
    if skipped and dataset.on_bad_image == "fail":
        raise DataError(
            f"{summarise(reasons)} (or leave such images out: dataset.on_bad_image skip)"
        )
    if not rows:
        raise DataError(f"{dataset.path}: not one image can be used: {summarise(reasons)}")
    aspect = None
    if params.features.aspect == "keep":
        aspect, rows, others = _of_one_aspect(rows)
        unfit = [item["reason"] for item in others]
        if others and dataset.on_bad_image == "fail":
            raise DataError(
                f"features.aspect is keep, but {len(others)} of {len(rows) + len(others)} images "
                f"differ: {summarise(unfit)} (set it to square, name categories of one aspect ratio "
                "in dataset.categories, or leave such images out: dataset.on_bad_image skip)"
            )
        skipped += others
        reasons += unfit
    frame = pd.DataFrame(rows)
    warnings = list(data_warnings(frame))
    if dataset.format in ("mvtec", "folder") and (stray := stray_masks(path, records)):
        warnings.append(f"{len(stray)} masks belong to no image: {summarise(stray)}")
    frame = frame.drop(columns=["marked", "unused_mask"])
    kept = [aspect.width, aspect.height] if aspect else None
    write_table(frame, MANIFEST.path, dataset=dataset.path, format=dataset.format, aspect=kept)
    write_json({"categories": list(dict.fromkeys(frame["category"]))}, CATEGORIES.path)
    write_json({"skipped": skipped, "warnings": warnings}, SKIPPED.path)
    if skipped:
        log.warning(
            "%d images cannot be used and are left out: %s", len(skipped), summarise(reasons)
        )
    for warning in warnings:
        log.warning("%s", warning)
    tests = frame[frame["split"] == "test"]
    unmasked = int((tests["is_anomaly"] & tests["mask"].isna()).sum())
    log.info(
        "%d categories, %d training and %d test images%s",
        frame["category"].nunique(), len(frame) - len(tests), len(tests),
        f"; {unmasked} defect images have no mask and are left out of pixel metrics"
        if unmasked else "",
    )  # fmt: skip


if __name__ == "__main__":
    run_stage("stages.manifest")
