"""Stage select: which images each category and seed takes as references, and to calibrate on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cache.keys import Keys
from fade.errors import counted
from pipeline.artefacts.catalogue import CALIBRATION, CATEGORIES, MANIFEST, SELECTION
from pipeline.artefacts.tables import read_json, read_table, write_table
from pipeline.config.schema import Params
from pipeline.dataset.selection import (
    calibration_positions,
    check_batches,
    check_shots,
    reference_positions,
)
from pipeline.stage import run_stage

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")


def select_references(
    manifest: pd.DataFrame, categories: list[str], shots: int, seeds: list[int]
) -> pd.DataFrame:
    """References by category, seed and rank; the first k ranks are the references of k shots.

    Raises:
        DataError: a category has no training image.
        ParameterError: a category has fewer training images than ``shots``.
    """
    import pandas as pd

    rows = []
    train = manifest[manifest["split"] == "train"]
    by_category = dict(tuple(train.groupby("category", sort=False)))
    for category in categories if shots else []:
        images = by_category.get(category, train.iloc[:0])
        check_shots(category, len(images), shots)
        paths, hashes = images["path"].tolist(), images["hash"].tolist()
        for seed, positions in reference_positions(len(images), shots, seeds).items():
            for rank, position in enumerate(positions):
                rows.append((category, seed, rank, paths[position], hashes[position]))
    frame = pd.DataFrame(rows, columns=["category", "seed", "rank", "path", "hash"])
    return frame.astype(
        {"category": "str", "seed": "int64", "rank": "int64", "path": "str", "hash": "str"}
    )


def select_calibration(
    manifest: pd.DataFrame, categories: list[str], seeds: list[int], limit: int
) -> pd.DataFrame:
    """Training images to calibrate thresholds on, in the manifest's order, ``limit`` a category at most.

    See :func:`calibration_positions`.
    """
    import pandas as pd

    parts = [pd.DataFrame(columns=["category", "path", "hash"], dtype="str")]
    train = manifest[manifest["split"] == "train"]
    by_category = train.groupby("category", sort=False).indices
    for category in categories:
        images = train.iloc[by_category.get(category, [])]
        chosen = calibration_positions(Keys.of(images["hash"]), seeds, limit)
        parts.append(images.iloc[chosen][["category", "path", "hash"]])
    return pd.concat(parts, ignore_index=True)


def run(params: Params) -> None:
    """Write the selection and the images to calibrate on."""
    columns = ("category", "split", "path", "hash", "width", "height")
    manifest, _ = read_table(MANIFEST.path, columns, split="train")
    categories = read_json(CATEGORIES.path)["categories"]
    seeds = sorted({trial.seed for trial in params.trials() if trial.shots})
    shots = params.max_shots if params.needs_vision else 0
    selection = select_references(manifest, categories, shots, seeds)
    if params.needs_batch:
        tests, _ = read_table(MANIFEST.path, ("category", "hash"), split="test")
        distinct = tests.groupby("category", sort=False)["hash"].nunique()
        check_batches({category: int(distinct.get(category, 0)) for category in categories})
    write_table(selection, SELECTION.path)
    calibration = select_calibration(
        manifest, categories, sorted(params.vision.seeds), params.threshold.images
    )
    sizes = manifest[["path", "width", "height"]]
    write_table(calibration.merge(sizes, on="path"), CALIBRATION.path)
    log.info(
        "%s for %s, up to %s, %s; %s to calibrate on",
        counted(selection["hash"].nunique(), "distinct reference"),
        counted(len(categories), "category"), counted(shots, "shot"),
        counted(len(seeds), "seed"), counted(len(calibration), "image"),
    )  # fmt: skip


if __name__ == "__main__":
    run_stage("stages.select")
