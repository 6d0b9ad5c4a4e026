"""Stage manifest: list the data set's images, with the hash and size of each."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from cache.layout import batched
from cache.location import open_path
from fade.datasets.leftovers import Account
from fade.datasets.read import TABLE_FORMATS, dataset_root
from fade.errors import DataError, counted, plain, summarise
from pipeline.artefacts.catalogue import CATEGORIES, MANIFEST, SKIPPED
from pipeline.artefacts.tables import table_writer, write_json
from pipeline.config.schema import Params
from pipeline.dataset.accounting import (
    unused_files,
    unused_rows,
    unused_summary,
    unused_warnings,
)
from pipeline.dataset.audit import Remarks, misnamed_folders
from pipeline.dataset.manifest import (
    COLUMNS,
    examined_rows,
    fitting_rows,
    listing_digest,
    spool_rows,
)
from pipeline.dataset.stamps import check_recorded, recorded
from pipeline.stage import run_stage

log = logging.getLogger("fade")

GROUP_IMAGES = 1 << 14
"""Rows of the manifest that are written at once."""


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


def run(params: Params) -> None:
    """Write the manifest, the list of categories, and what is left out or odd."""
    dataset = params.dataset
    _warn_unless_watched(params)
    path = open_path(dataset.path)
    root = dataset_root(dataset.format, path)
    total, found = listing_digest(params)  # refuses bad tables and folders before hours of work
    remarks = Remarks(dataset.exif_rotation)
    skipped: list[dict[str, str]] = []
    types = {"is_anomaly": "bool", **dict.fromkeys(("bytes", "width", "height"), "int64")}
    columns = {name: types.get(name, "string") for name in COLUMNS}
    with TemporaryFile("w+", encoding="utf-8") as spool, recorded(root) as record_stamps:
        rows = examined_rows(params, root, total, skipped, record_stamps)
        kept: list[int] | None = None
        if params.features.keeps_aspect:
            # which rows stay, all of them tell
            aspect = spool_rows(rows, spool)
            kept = [aspect.width, aspect.height] if aspect else None
            rows = fitting_rows(spool, aspect, skipped, params) if aspect else iter(())
        about: dict[str, Any] = {
            "dataset": dataset.path, "format": dataset.format, "aspect": kept,
        }  # fmt: skip
        if params.features.aspect == "smaller_edge":
            about["crop"] = True
        with table_writer(MANIFEST.path, columns, **about) as write:
            for part in batched(rows, GROUP_IMAGES):
                remarks.add(part)
                write({name: [row[name] for row in part] for name in COLUMNS})
            reasons = [item["reason"] for item in skipped]
            if skipped and dataset.on_bad_image == "fail":
                raise DataError(
                    f"{summarise(reasons)} (or leave such images out: dataset.on_bad_image skip)"
                )
            if not remarks.rows:
                raise DataError(f"{dataset.path}: not one image can be used: {summarise(reasons)}")
    # DVC hashes the data when the stage has ended, and would take it for what was read
    check_recorded(dataset)
    account = Account()
    if listing_digest(params, account) != (total, found):
        raise DataError(f"{dataset.path}: images came or went while it was read: run again")
    warnings = list(remarks.lines(MANIFEST.path))
    unused = unused_files(dataset, account)
    warnings += unused_warnings(dataset, unused)
    if dataset.format not in TABLE_FORMATS:
        warnings += misnamed_folders(path, list(remarks.categories))
    warnings = [plain(warning) for warning in warnings]
    write_json({"categories": list(remarks.categories)}, CATEGORIES.path)
    about_files = {"skipped": skipped, "warnings": warnings, "unused": unused_rows(unused)}
    write_json(about_files, SKIPPED.path)
    if skipped:
        log.warning(
            "%s cannot be used, left out: %s", counted(len(skipped), "image"), summarise(reasons)
        )
    if unused:
        log.info("%s", unused_summary(unused))
    for warning in warnings:
        log.warning("%s", warning)
    log.info(
        "%s, %d training and %s%s%s",
        counted(len(remarks.categories), "category"), remarks.rows - remarks.tests,
        counted(remarks.tests, "test image"),
        f"; {counted(remarks.unmasked, 'defect image', 'has')} no mask and no part in pixel metrics"
        if remarks.unmasked else "",
        f"; {counted(remarks.unlabelled, 'test image', 'has')} no label and no part in metrics"
        if remarks.unlabelled else "",
    )  # fmt: skip


if __name__ == "__main__":
    run_stage("stages.manifest")
