"""Whether two runs differ on the same images: intervals of differences, and permutation tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, counted, summarise
from fade.further_metrics import further_image_metrics
from fade.metrics import image_metrics
from fade.uncertainty import (
    IMAGE_METRICS,
    percentile_interval,
    permutation_p_value,
    swapped_differences,
)
from pipeline.evaluation.results import MEAN
from pipeline.process.progress import Progress
from pipeline.report.intervals import DEFAULT_REPLICATES, ImageScores, Place, draw_seed

UNPAIRED = "--unpaired sets the means side by side all the same"

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paired:
    """How sure a difference between two runs is.

    Attributes:
        low, high: ends of its 95 % bootstrap interval over images.
        p_value: two-sided, of image metrics by permutation, of others by bootstrap.
    """

    low: float
    high: float
    p_value: float


def pair_scores(
    a: Mapping[Place, ImageScores], b: Mapping[Place, ImageScores]
) -> dict[Place, tuple[ImageScores, ImageScores]]:
    """Scores of the categories and shots that both runs have.

    Raises:
        DataError: a category has other test images, other labels or other seeds in the two runs.
    """
    places = sorted(a.keys() & b.keys())
    problems = [
        f"{category} at {counted(shots, 'shot')}: {problem}"
        for category, shots in places
        if (problem := _difference(a[category, shots], b[category, shots]))
    ]
    if problems:
        raise DataError(
            f"the two runs are not of the same test data: {summarise(problems)} ({UNPAIRED})"
        )
    return {place: (a[place], b[place]) for place in places if a[place].known and b[place].known}


def _difference(a: ImageScores, b: ImageScores) -> str:
    """Why images of one category and shots cannot be paired; empty if they can."""
    if a.seeds != b.seeds:
        return f"seeds {list(a.seeds)} and {list(b.seeds)}"
    for one, other, which in ((a, b, "first"), (b, a, "second")):
        if alone := sorted(set(one.images) - set(other.images)):
            images = counted(len(alone), "image", "is")
            return f"{images} in the {which} run alone, such as {alone[0]}"
    changed = np.flatnonzero(a.is_anomaly != b.is_anomaly)
    if len(changed):
        images = counted(len(changed), "image", "has")
        return f"{images} another label, such as {a.images[changed[0]]}"
    return ""


def paired_tests(
    pairs: Mapping[Place, tuple[ImageScores, ImageScores]],
    complete: Mapping[int, Sequence[str]],
    replicates: int = DEFAULT_REPLICATES,
    say: Callable[[str], None] = lambda line: None,
) -> dict[tuple[str, str, int], Paired]:
    """Interval and p-value of each difference in an image metric.

    Images are drawn, and exchanged between the runs, within each category. Of the mean over
    categories every replicate is the mean of the categories' replicates.

    Args:
        pairs: see :func:`pair_scores`.
        complete: by shots the categories over which both runs take the mean; none where these differ.
        replicates: bootstrap samples, and permutations.
        say: takes lines on the progress of long work, where there is no terminal.

    Returns:
        By metric, category (``mean`` for their mean) and shots; undefined differences are left out.
    """
    found: dict[tuple[str, str, int], Paired] = {}
    progress = Progress(3 * replicates * len(pairs), "comparing", "draw", say)
    with progress:
        for shots in sorted({shots for _, shots in pairs}):
            drawn: dict[str, dict[str, tuple[float, _Floats, _Floats]]] = {}
            for category in sorted(name for name, of in pairs if of == shots):
                for metric, parts in _replicates(
                    *pairs[category, shots], category, replicates, progress.advance
                ).items():
                    drawn.setdefault(metric, {})[category] = parts
            for metric, by_category in drawn.items():
                for category, parts in by_category.items():
                    found[metric, category, shots] = _paired(*parts)
                names = complete.get(shots, ())
                if names and set(names) == set(by_category):
                    values, resampled, swapped = zip(*(by_category[n] for n in names), strict=True)
                    found[metric, MEAN, shots] = _paired(
                        float(np.mean(values)), np.mean(resampled, axis=0), np.mean(swapped, axis=0)
                    )
    return found


def _replicates(
    a: ImageScores,
    b: ImageScores,
    category: str,
    replicates: int,
    advance: Callable[[int], None],
) -> dict[str, tuple[float, _Floats, _Floats]]:
    """By metric the difference, its bootstrap replicates, and its permutations."""
    seed = draw_seed(category)
    of_a, of_b = (run.samples(category, replicates, advance) for run in (a, b))
    swapped = swapped_differences(a.scores, b.scores, a.is_anomaly, replicates, seed, advance)
    means = [
        {name: np.mean([value[name] for value in values]) for name in IMAGE_METRICS}
        for values in (
            [_all_metrics(scores, run.is_anomaly) for scores in run.scores] for run in (a, b)
        )
    ]
    return {
        name: (float(means[1][name] - means[0][name]), of_b[name] - of_a[name], swapped[name])
        for name in IMAGE_METRICS
        if np.isfinite(means[1][name])
    }


def _all_metrics(scores: _Floats, is_anomaly: NDArray[np.bool_]) -> dict[str, float]:
    return image_metrics(scores, is_anomaly)[0] | further_image_metrics(scores, is_anomaly)[0]


def _paired(value: float, resampled: _Floats, swapped: _Floats) -> Paired:
    return Paired(*percentile_interval(resampled), permutation_p_value(value, swapped))
