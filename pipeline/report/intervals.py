"""Bootstrap intervals of a run's metrics: of images from their scores, of pixels from replicates."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, StoreError, counted, summarise
from fade.uncertainty import IMAGE_METRICS, Seed, percentile_interval, resampled_metrics
from pipeline.artefacts.catalogue import SCORES
from pipeline.artefacts.tables import read_table, table_columns
from pipeline.evaluation.results import MEAN, labelled_images
from pipeline.report.replicates import read_samples, sample_intervals
from pipeline.report.summary import find_summary, read_summary

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_REPLICATES = 1000
"""Bootstrap samples of an interval, and permutations of a test."""

Place = tuple[str, int]
"""Category and shots."""
_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class ImageScores:
    """Scores of the test images of one category at so many shots.

    Attributes:
        images: names, in their order.
        is_anomaly: labels (n,).
        seeds: ascending.
        scores: for each seed (n,); NaN where a run has no image scores.
    """

    images: tuple[str, ...]
    is_anomaly: NDArray[np.bool_]
    seeds: tuple[int, ...]
    scores: tuple[_Floats, ...]

    @property
    def known(self) -> bool:
        """Whether there are image scores: fusion.classification_mode is not none."""
        return not any(np.isnan(scores).all() for scores in self.scores)

    def samples(
        self, category: str, replicates: int, advance: Callable[[int], None] = lambda count: None
    ) -> dict[str, _Floats]:
        """Bootstrap replicates (replicates,) of each image metric, the mean over seeds."""
        seed = draw_seed(category)
        return resampled_metrics(self.scores, self.is_anomaly, replicates, seed, advance)


def draw_seed(category: str) -> Seed:
    """Draws of one category say nothing of those of another, and come again."""
    return 0, zlib.crc32(category.encode())


def read_scores(summary: Path) -> dict[Place, ImageScores] | None:
    """Scores by category and shots of the run that a summary is of; None where it lies alone.

    Raises:
        StoreError: the file is damaged or of another schema version.
        DataError: images lack the score of a seed, or have it twice.
    """
    path = summary.parent / SCORES.path.name
    if not path.is_file():
        return None
    columns = ["image", "category", "is_anomaly", "shots", "seed", "score"]
    if "group" in table_columns(path)[0]:
        columns.append("group")
    return image_scores(read_table(path, columns)[0], path)


def image_scores(table: pd.DataFrame, path: Path) -> dict[Place, ImageScores]:
    """Scores by category and shots.

    Args:
        table: rows of scores.parquet.
        path: of the file, for errors.

    Raises:
        DataError: images lack the score of a seed, or have it twice.
    """
    problems: list[str] = []
    found: dict[Place, ImageScores] = {}
    table = labelled_images(table)
    groups = table.groupby(["category", "shots"], sort=False, observed=True).indices
    for (category, shots), rows in cast("dict[Place, NDArray[np.intp]]", groups).items():
        part = table.iloc[rows]
        labels = part.drop_duplicates("image").set_index("image")["is_anomaly"].sort_index()
        seeds = tuple(sorted({int(seed) for seed in part["seed"]}))
        each = part.drop_duplicates(["image", "seed"])
        if len(each) != len(part) or len(labels) * len(seeds) != len(part):
            problems.append(f"{category} at {counted(int(shots), 'shot')}")
            continue
        wide = each.pivot(index="image", columns="seed", values="score").sort_index()
        found[str(category), int(shots)] = ImageScores(
            tuple(map(str, labels.index)),
            labels.to_numpy(bool),
            seeds,
            tuple(wide.to_numpy(float).T),
        )
    if problems:
        raise DataError(
            f"{path}: images lack the score of a seed, or have it twice, in {summarise(problems)}: "
            "run `fade run --force evaluate`"
        )
    return found


def metric_intervals(
    scores: Mapping[Place, ImageScores],
    complete: Mapping[int, Sequence[str]],
    replicates: int = DEFAULT_REPLICATES,
) -> dict[tuple[str, str, int], tuple[float, float]]:
    """95 % bootstrap intervals of image metrics, each the mean over seeds.

    Args:
        scores: see :func:`read_scores`.
        complete: by shots the categories that the mean is over.

    Returns:
        By metric, category (``mean`` for their mean) and shots; undefined metrics are left out.
    """
    found: dict[tuple[str, str, int], tuple[float, float]] = {}
    for shots, names in complete.items():
        samples = {
            name: scores[name, shots].samples(name, replicates)
            for name in names
            if (name, shots) in scores and scores[name, shots].known
        }
        for metric in IMAGE_METRICS:
            known = {
                name: drawn[metric]
                for name, drawn in samples.items()
                if np.isfinite(drawn[metric]).all()
            }
            for name, drawn in known.items():
                found[metric, name, shots] = percentile_interval(drawn)
            # the mean of a run is over the categories that have the metric
            if known:
                mean = np.mean(list(known.values()), axis=0)
                found[metric, MEAN, shots] = percentile_interval(mean)
    return found


def run_intervals(place: Path) -> dict[tuple[str, str, int], tuple[float, float]]:
    """Intervals of a run, found by its results folder, project folder or summary.

    Raises:
        StoreError: there is no run, it lacks scores.parquet, or a file is damaged.
        DataError: images lack the score of a seed, or have it twice.
    """
    path = find_summary(place)
    scores = read_scores(path)
    if scores is None:
        raise StoreError(
            f"{path.parent} has no {SCORES.path.name}, which intervals are made from: name a results or "
            "project folder"
        )
    complete = categories_by_shots(read_summary(path))
    return sample_intervals(read_samples(path, complete)) | metric_intervals(scores, complete)


def categories_by_shots(summary: pd.DataFrame) -> dict[int, list[str]]:
    """Categories of a summary by shots, in the order of names, without their mean."""
    found: dict[int, list[str]] = {}
    for category, shots in zip(summary["category"], summary["shots"], strict=True):
        if category != MEAN:
            found.setdefault(int(shots), []).append(str(category))
    return {shots: sorted(names) for shots, names in found.items()}
