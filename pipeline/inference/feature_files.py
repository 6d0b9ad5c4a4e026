"""Features of chosen images as Parquet or .npy files, with what tells whose each row is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cache.layout import batched
from fade.errors import DataError, ParameterError
from fade.files import atomic_write
from pipeline.artefacts.catalogue import MANIFEST, prepare_folder, safe_name
from pipeline.artefacts.csv_text import marked
from pipeline.artefacts.pictures import writing
from pipeline.artefacts.tables import read_table, table_writer, write_csv
from pipeline.config.schema import Params
from pipeline.features.kept import IMAGE_COLUMNS, KeptFeature, KeptFeatures, with_feature
from pipeline.process.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

FeatureForm = Literal["parquet", "npy"]
Split = Literal["test", "train", "all"]

BLOCK_BYTES = 32 << 20


def export_features(
    params: Params,
    folder: Path,
    *,
    labels: Sequence[str] = (),
    form: FeatureForm = "parquet",
    split: Split = "test",
    images: Sequence[str] = (),
    categories: Sequence[str] | None = None,
    project: Path = Path(),
    force: bool = False,
) -> dict[str, int]:
    """Write a file for each feature; by its label, of how many images.

    Args:
        folder: to write into, made if missing.
        labels: names of features; by default all that images of the split have.
        form: ``parquet``: a row for each image, with path, category, split, hash and the feature as a
            list of float32; ``npy``: an array (images, ...) in the store's type, and a CSV file with
            path, category, split and hash of its rows.
        images: patterns with ``*`` and ``?`` for paths in the data set; all by default.
        categories: some of the run's; all by default.
        force: write into a folder that is not empty.

    Raises:
        ParameterError: an unknown feature or category, or a folder that is not empty.
        DataError: no image is chosen, or none of which a feature is kept.
        StoreError: features are gone or damaged, or a file cannot be written.
    """
    chosen = _chosen(project, split, images, categories)
    kept = KeptFeatures.open(params, project)
    found = []
    for label in labels or kept.labels:
        feature = kept.located(label)
        rows = with_feature(chosen, feature)
        if len(rows):
            found.append((feature, rows))
        elif labels:
            raise DataError(f"the store keeps {label} of none of the chosen images ({len(chosen)})")
    if not found:
        why = "" if params.features.keep else " (features.keep is false)"
        raise DataError(f"the store keeps features of none of the images ({len(chosen)}){why}")
    prepare_folder(folder)
    if any(folder.iterdir()) and not force:
        raise ParameterError(
            f"{folder} is not empty: name another folder, or write into it with --force"
        )
    with Progress(sum(len(rows) for _, rows in found), "exporting") as progress:
        for feature, rows in found:
            place = folder / safe_name(feature.label)
            write = _write_parquet if form == "parquet" else _write_npy
            with writing(place):
                write(feature, rows, place, progress)
    return {feature.label: len(rows) for feature, rows in found}


def _chosen(
    project: Path, split: Split, images: Sequence[str], categories: Sequence[str] | None
) -> pd.DataFrame:
    """The manifest's rows of some images."""
    manifest, _ = read_table(project / MANIFEST.path, list(IMAGE_COLUMNS))
    known = set(manifest["category"].astype(str))
    if unknown := [name for name in categories or () if name not in known]:
        raise ParameterError(
            f"there is no category {unknown[0]!r}: the run has {', '.join(sorted(known))}"
        )
    chosen = np.ones(len(manifest), bool)
    if split != "all":
        chosen &= (manifest["split"] == split).to_numpy()
    if categories:
        chosen &= manifest["category"].isin(categories).to_numpy()
    if images:
        chosen &= np.array(
            [
                any(fnmatchcase(path, one) for one in images)
                for path in manifest["path"].astype(str)
            ],
            bool,
        )
    rows = manifest[chosen].reset_index(drop=True)
    if rows.empty:
        raise DataError(
            "no image of the manifest is chosen: look at --split, --image, --categories"
        )
    return rows


def _blocks(
    feature: KeptFeature, rows: pd.DataFrame, progress: Progress
) -> Iterator[tuple[range, np.ndarray]]:
    at_once = max(1, min(1 << 14, BLOCK_BYTES // max(1, feature.space.row_bytes)))
    keys = rows["hash"].astype(str).tolist()
    for part in batched(range(len(keys)), at_once):
        yield range(part[0], part[-1] + 1), feature.read([keys[k] for k in part])
        for _ in part:
            progress.advance()


def _write_parquet(
    feature: KeptFeature, rows: pd.DataFrame, place: Path, progress: Progress
) -> None:
    import pyarrow as pa

    space = feature.space
    size = int(np.prod(space.shape))
    types = {**dict.fromkeys(IMAGE_COLUMNS, "string"), "feature": pa.list_(pa.float32(), size)}
    remarks: dict[str, Any] = {"feature": space.label, "shape": list(space.shape)}
    with table_writer(_named(place, ".parquet"), types, **remarks) as write:
        for part, values in _blocks(feature, rows, progress):
            flat = pa.array(values.astype(np.float32).reshape(-1))
            columns = {
                name: rows[name].iloc[part.start : part.stop].astype(str).tolist()
                for name in IMAGE_COLUMNS
            }
            write({**columns, "feature": pa.FixedSizeListArray.from_arrays(flat, size)})


def _write_npy(feature: KeptFeature, rows: pd.DataFrame, place: Path, progress: Progress) -> None:
    space = feature.space
    with atomic_write(_named(place, ".npy")) as part, part.open("wb") as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(space.dtype)),
            "fortran_order": False,
            "shape": (len(rows), *space.shape),
        }
        np.lib.format.write_array_header_1_0(file, header)
        for _, values in _blocks(feature, rows, progress):
            file.write(np.ascontiguousarray(values).tobytes())
    keys = rows[list(IMAGE_COLUMNS)].astype(str)
    write_csv(keys.assign(path=[marked(path) for path in keys["path"]]), _named(place, ".csv"))


def _named(place: Path, suffix: str) -> Path:
    return place.with_name(place.name + suffix)
