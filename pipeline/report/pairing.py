"""Whether two runs differ on the same images: intervals of differences, and permutation tests."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, summarise
from fade.uncertainty import (
    IMAGE_METRICS,
    draws,
    percentile_interval,
    permutation_p_value,
    swapped_differences,
    weighted_image_metrics,
)
from pipeline.artefacts.catalogue import SCORES
from pipeline.artefacts.tables import read_table
from pipeline.evaluation.results import MEAN

if TYPE_CHECKING:
    import pandas as pd

REPLICATES = 1000
"""Bootstrap samples of an interval, and permutations of a test."""
SEED = 0
UNPAIRED = "--unpaired sets the means side by side all the same"

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paired:
    """How sure a difference between two runs is.

    Attributes:
        low, high: ends of its 95 % bootstrap interval over images.
        p_value: of the permutation test, two-sided.
    """

    low: float
    high: float
    p_value: float


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Scores of the images of one category at so many shots in two runs.

    Attributes:
        is_anomaly: labels (n,).
        a, b: for each seed the scores (n,) of one run, images and seeds in the same order.
    """

    is_anomaly: NDArray[np.bool_]
    a: Sequence[_Floats]
    b: Sequence[_Floats]

    def differences(self, counts: NDArray[np.int64]) -> dict[str, _Floats]:
        """By image metric ``b`` less ``a``, the mean over seeds, in samples (replicates, n)."""
        found = {name: np.zeros(len(counts)) for name in IMAGE_METRICS}
        for left, right in zip(self.a, self.b, strict=True):
            first = weighted_image_metrics(left, self.is_anomaly, counts)
            second = weighted_image_metrics(right, self.is_anomaly, counts)
            for name in IMAGE_METRICS:
                found[name] += (second[name] - first[name]) / len(self.a)
        return found


def read_scores(summary: Path) -> pd.DataFrame | None:
    """The scores of the run that a summary is of; None where the summary lies alone.

    Raises:
        StoreError: the file is damaged or of another schema version.
    """
    path = summary.parent / SCORES.path.name
    if not path.is_file():
        return None
    columns = ["image", "category", "is_anomaly", "shots", "seed", "score"]
    return read_table(path, columns)[0]


def pair_scores(a: pd.DataFrame, b: pd.DataFrame) -> dict[tuple[str, int], PairedScores]:
    """Scores by category and shots that both runs have.

    Args:
        a, b: rows of scores.parquet.

    Raises:
        DataError: a category has other test images, other labels or other seeds in the two runs.
    """
    problems: list[str] = []
    found: dict[tuple[str, int], PairedScores] = {}
    of_a, of_b = _by_place(a), _by_place(b)
    for place in of_a.keys() & of_b.keys():
        problem = _difference(of_a[place], of_b[place])
        if problem:
            problems.append(f"{place[0]} at {place[1]} shots: {problem}")
            continue
        left, right = (_wide(rows) for rows in (of_a[place], of_b[place]))
        if left.isna().any(axis=None) or right.isna().any(axis=None):
            continue  # fusion.classification_mode is none: there are no image scores
        labels = of_a[place].drop_duplicates("image").set_index("image")["is_anomaly"]
        found[place] = PairedScores(
            labels[left.index].to_numpy(bool),
            list(left.to_numpy(float).T),
            list(right.to_numpy(float).T),  # the same images and seeds, sorted
        )
    if problems:
        raise DataError(
            f"the two runs are not of the same test data: {summarise(sorted(problems))} ({UNPAIRED})"
        )
    return found


def _by_place(scores: pd.DataFrame) -> dict[tuple[str, int], pd.DataFrame]:
    groups = scores.groupby(["category", "shots"], sort=False, observed=True).indices
    places = cast("dict[tuple[str, int], NDArray[np.intp]]", groups)
    return {
        (str(category), int(shots)): scores.iloc[rows] for (category, shots), rows in places.items()
    }


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """A row an image, in the order of names, a column a seed."""
    return rows.pivot(index="image", columns="seed", values="score").sort_index()


def _difference(a: pd.DataFrame, b: pd.DataFrame) -> str:
    """Why the rows of one category and shots cannot be paired; empty if they can."""
    seeds = [sorted({int(seed) for seed in rows["seed"]}) for rows in (a, b)]
    if seeds[0] != seeds[1]:
        return f"seeds {seeds[0]} and {seeds[1]}"
    labels = [rows.drop_duplicates("image").set_index("image")["is_anomaly"] for rows in (a, b)]
    for one, other, which in ((0, 1, "first"), (1, 0, "second")):
        alone = sorted(set(labels[one].index) - set(labels[other].index))
        if alone:
            return f"{len(alone)} images are in the {which} run alone, such as {alone[0]}"
        if len(labels[one]) * len(seeds[one]) != len((a, b)[one]):
            return f"images of the {which} run lack the score of a seed, or have it twice"
    changed = labels[0].index[labels[0].to_numpy() != labels[1][labels[0].index].to_numpy()]
    if len(changed):
        return f"{len(changed)} images have another label, such as {changed[0]}"
    return ""


def paired_tests(
    pairs: Mapping[tuple[str, int], PairedScores],
    complete: Mapping[int, Sequence[str]],
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> dict[tuple[str, str, int], Paired]:
    """Interval and p-value of each difference in an image metric.

    Images are drawn, and exchanged between the runs, within each category. Of the mean over
    categories every replicate is the mean of the categories' replicates.

    Args:
        pairs: see :func:`pair_scores`.
        complete: by shots the categories over which both runs take the mean; none where these differ.
        replicates: bootstrap samples, and permutations.
        seed: of the draws.

    Returns:
        By metric, category (``mean`` for their mean) and shots; undefined differences are left out.
    """
    found: dict[tuple[str, str, int], Paired] = {}
    for shots in sorted({shots for _, shots in pairs}):
        drawn: dict[str, dict[str, tuple[float, _Floats, _Floats]]] = {}
        for category in sorted(name for name, of in pairs if of == shots):
            pair = pairs[category, shots]
            once = np.ones((1, len(pair.is_anomaly)), np.int64)
            observed = pair.differences(once)
            # draws of one category say nothing of those of another
            own = seed, zlib.crc32(category.encode())
            samples = [
                pair.differences(counts) for counts in draws(pair.is_anomaly, replicates, own)
            ]
            swapped = swapped_differences(pair.a, pair.b, pair.is_anomaly, replicates, own)
            for metric in IMAGE_METRICS:
                value = float(observed[metric][0])
                if np.isfinite(value):
                    of_metric = drawn.setdefault(metric, {})
                    resampled = np.concatenate([sample[metric] for sample in samples])
                    of_metric[category] = value, resampled, swapped[metric]
        for metric, by_category in drawn.items():
            for category, (value, resampled, permuted) in by_category.items():
                found[metric, category, shots] = _paired(value, resampled, permuted)
            wanted = complete.get(shots, ())
            if wanted and set(wanted) == set(by_category):
                values, resamples, permutations = zip(
                    *(by_category[name] for name in wanted), strict=True
                )
                found[metric, MEAN, shots] = _paired(
                    float(np.mean(values)),
                    np.mean(resamples, axis=0),
                    np.mean(permutations, axis=0),
                )
    return found


def _paired(value: float, resampled: _Floats, permuted: _Floats) -> Paired:
    return Paired(*percentile_interval(resampled), permutation_p_value(value, permuted))
