"""Intervals of what stage evaluate resampled: pixel metrics, and rates at thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from fade.errors import StoreError
from fade.uncertainty import percentile_interval
from pipeline.artefacts.catalogue import REPLICATES
from pipeline.artefacts.tables import read_table
from pipeline.config.evaluate import MIN_SAMPLES
from pipeline.evaluation.results import MEAN

if TYPE_CHECKING:
    import pandas as pd

Samples = Mapping[tuple[str, str, int], NDArray[np.float64]]
"""By metric, category (``mean`` for their mean) and shots: values by sample, each the mean over seeds."""
_KEYS = ("category", "shots", "seed", "replicate")


def read_samples(
    summary: Path, complete: Mapping[int, Sequence[str]]
) -> dict[tuple[str, str, int], NDArray[np.float64]]:
    """The samples of the run that a summary is of; none where it has no replicates.

    Args:
        complete: by shots the categories that the mean is over.

    Raises:
        StoreError: the file is damaged, of another schema version, or holds something else.
    """
    path = summary.parent / REPLICATES.path.name
    if not path.is_file():
        return {}
    table, _ = read_table(path)
    try:
        return samples(table, complete)
    except (KeyError, ValueError, TypeError):  # other columns, types or rows
        raise StoreError(
            f"{path} holds no replicates of metrics: run `fade run --force evaluate`"
        ) from None


def samples(
    table: pd.DataFrame, complete: Mapping[int, Sequence[str]]
) -> dict[tuple[str, str, int], NDArray[np.float64]]:
    """Samples of a table of replicates; metrics that are undefined in a seed are left out.

    The mean over categories is that of the categories that have the metric, as in the summary.

    Args:
        table: rows of replicates.parquet.
        complete: by shots the categories that the mean is over.
    """
    names = [str(name) for name in table.columns if name not in _KEYS]
    found: dict[tuple[str, str, int], NDArray[np.float64]] = {}
    parts = table.sort_values(["replicate", "seed"], kind="stable")
    for key, rows in parts.groupby(["category", "shots"], sort=False):
        category, shots = cast(tuple[str, int], key)
        seeds = rows["seed"].nunique()
        for name in names:
            values = rows[name].to_numpy(float).reshape(-1, seeds)
            if not np.isnan(values).all(axis=0).any():
                found[name, str(category), int(shots)] = values.mean(axis=1)
    for shots, categories in complete.items():
        for name in names:
            known = [found[name, one, shots] for one in categories if (name, one, shots) in found]
            if known:
                found[name, MEAN, shots] = _mean(known)
    return found


def _mean(known: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Samples of the mean over categories, each the mean of one defined sample of each category.

    Categories are drawn independently, so any of their samples may stand together: the first defined
    ones do, the second ones, and so on. Were those of one number taken, of many categories with few
    images next to no sample would have a value. Two runs on the same images lack the same samples.
    """
    defined = [values[np.isfinite(values)] for values in known]
    fewest = min(map(len, defined))
    return np.mean([values[:fewest] for values in defined], axis=0)


def sample_intervals(found: Samples) -> dict[tuple[str, str, int], tuple[float, float]]:
    """95 % intervals of samples; none where too few have a value (:data:`MIN_SAMPLES`)."""
    return {place: percentile_interval(values) for place, values in found.items() if _tell(values)}


def _tell(values: NDArray[np.float64]) -> bool:
    """Whether samples tell an interval."""
    return int(np.isfinite(values).sum()) >= MIN_SAMPLES


def sample_differences(
    a: Samples, b: Samples, same: Iterable[tuple[str, int]]
) -> dict[tuple[str, str, int], NDArray[np.float64]]:
    """``b`` less ``a``, sample by sample, as equal images have equal draws; none of too few.

    Args:
        a, b: samples of two runs.
        same: the categories, and ``mean``, by shots that are of the same images and seeds.
    """
    wanted, found = set(same), {}
    for place in sorted(a.keys() & b.keys()):
        if place[1:] not in wanted or _categories(a, place) != _categories(b, place):
            continue
        count = min(len(a[place]), len(b[place]))
        differences = b[place][:count] - a[place][:count]
        if _tell(differences):
            found[place] = differences
    return found


def _categories(found: Samples, place: tuple[str, str, int]) -> set[str]:
    """The categories whose mean a place may be."""
    metric, category, shots = place
    if category != MEAN:
        return {category}
    return {name for of, name, count in found if (of, count) == (metric, shots)}
