"""How far image metrics can be trusted: bootstrap intervals, and whether two detectors differ.

The image is what is drawn: all seeds and both detectors see the same draw, so that their differences
are paired. Sources: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), section 13.3,
percentile intervals; E. Venkatraman, C. Begg, A distribution-free procedure for comparing receiver
operating characteristic curves from a paired experiment, Biometrika 83 (1996), permutation of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, ParameterError
from fade.further_metrics import IMAGE_AP
from fade.metrics import METRIC_NAMES

IMAGE_METRICS = (*METRIC_NAMES[:3], IMAGE_AP)
"""Metrics that scores and labels of images alone decide."""
_CELLS = 1 << 21
"""Replicates x images that are held at once."""

Seed = int | tuple[int, ...]
_Floats = NDArray[np.float64]


def draws(
    is_anomaly: NDArray[np.bool_], replicates: int, seed: Seed
) -> Iterator[NDArray[np.int64]]:
    """Bootstrap samples, each as many good and as many anomalous images as there are.

    Args:
        is_anomaly: labels (n,).
        replicates: how many samples.
        seed: of the draws, one number or several; equal labels and seed give equal samples.

    Yields:
        How often each sample has each image, (some replicates, n); all of them in turn.

    Examples:
        >>> import numpy as np
        >>> [counts] = draws(np.array([True, False, False]), 2, seed=0)
        >>> counts[:, 0].tolist(), counts.sum(axis=1).tolist()
        ([1, 1], [3, 3])
    """
    generator = np.random.default_rng(seed)
    labels = [np.flatnonzero(is_anomaly == label) for label in (False, True)]
    for rows in _portions(replicates, len(is_anomaly)):
        counts = np.zeros((rows, len(is_anomaly)), np.int64)
        for positions in labels:
            if len(positions):
                shares = np.full(len(positions), 1 / len(positions))
                counts[:, positions] = generator.multinomial(len(positions), shares, size=rows)
        yield counts


def _portions(replicates: int, images: int) -> Iterator[int]:
    """How many replicates are made at a time."""
    most = max(_CELLS // max(images, 1), 1)
    for start in range(0, replicates, most):
        yield min(most, replicates - start)


def weighted_image_metrics(
    scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_], counts: NDArray[np.int64]
) -> dict[str, _Floats]:
    """The image metrics of samples in which images occur several times or not at all.

    With every image once they are those of :func:`fade.metrics.image_metrics`, and average precision.

    Args:
        scores: (n,) or, one row a sample, (replicates, n); finite.
        is_anomaly: labels (n,).
        counts: how often each sample has each image, (replicates, n).

    Returns:
        Each metric's value by sample, (replicates,); NaN where labels lack a kind that it needs.

    Raises:
        DataError: shapes differ, or a score is not finite.

    Examples:
        >>> import numpy as np
        >>> scores, labels = np.array([0.1, 0.4, 0.8]), np.array([False, True, True])
        >>> weighted_image_metrics(scores, labels, np.array([[1, 1, 1]]))["full_image_auroc"].tolist()
        [1.0]
    """
    if is_anomaly.shape != scores.shape[-1:] or counts.shape[1:] != is_anomaly.shape:
        raise DataError(
            f"scores {scores.shape}, labels {is_anomaly.shape} and counts {counts.shape} do not fit"
        )
    if not np.isfinite(scores).all():
        raise DataError("a score is not finite: compute the scores again")
    true, false = _detections(scores, is_anomaly, counts)
    total, good = true[:, -1:].astype(float), false[:, -1:].astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = true / total
        precision = np.where(true + false > 0, true / np.maximum(true + false, 1), 1.0)
        values = {
            "full_image_auroc": np.trapezoid(recall, false / good, axis=1),
            "full_image_aupr": np.trapezoid(precision, recall, axis=1),
            "full_image_f1_max": np.max(2 * true / (true + false + total), axis=1),
            IMAGE_AP: np.sum(np.diff(recall, axis=1) * precision[:, 1:], axis=1),
        }
    has_anomalous, has_good = total[:, 0] > 0, good[:, 0] > 0
    needs = {"full_image_auroc": has_anomalous & has_good}
    return {
        name: np.where(needs.get(name, has_anomalous), value, np.nan)
        for name, value in values.items()
    }


def _detections(
    scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By falling threshold, how many anomalous and how many good images of each sample are above it.

    Both are (replicates, n + 1); points that are no thresholds repeat the one before.
    """
    table = np.broadcast_to(scores, counts.shape)
    # falling; the order among equal scores does not matter, as only the last of them counts
    if scores.ndim == 1:
        order = np.broadcast_to(np.argsort(-scores, kind="stable"), counts.shape)
    else:
        order = np.argsort(-table, axis=1, kind="stable")
    falling = np.take_along_axis(table, order, axis=1)
    here = np.take_along_axis(counts, order, axis=1)
    anomalous = here * is_anomaly[order]
    start = np.zeros((len(counts), 1), np.int64)
    true = np.concatenate([start, anomalous.cumsum(axis=1)], axis=1)
    false = np.concatenate([start, (here - anomalous).cumsum(axis=1)], axis=1)
    # a threshold lies behind the last of equal scores; the points before it repeat it
    last = np.ones((len(counts), falling.shape[1] + 1), bool)
    last[:, 1:-1] = falling[:, 1:] != falling[:, :-1]
    true, false = _held(true, last), _held(false, last)
    return true, false


def _held(counts: NDArray[np.int64], last: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rising counts (replicates, points) in which points that are no thresholds repeat the one before."""
    return np.maximum.accumulate(np.where(last, counts, 0), axis=1)


def resampled_metrics(
    scores: Sequence[NDArray[np.floating]],
    is_anomaly: NDArray[np.bool_],
    replicates: int,
    seed: Seed,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, _Floats]:
    """The image metrics of bootstrap samples, the mean over seeds of a detector.

    Two detectors with the same labels and seed see the same samples, so that the differences of
    their replicates are paired.

    Args:
        scores: for each seed of the detector (n,), finite.
        is_anomaly: labels (n,).
        replicates: how many samples.
        seed: of the draws.
        advance: is told of each so many samples that are done.

    Returns:
        By metric (replicates,).

    Examples:
        >>> import numpy as np
        >>> labels = np.array([False, True])
        >>> resampled_metrics([np.array([0.1, 0.2])], labels, 2, 0)["full_image_auroc"].tolist()
        [1.0, 1.0]
    """
    parts: dict[str, list[_Floats]] = {name: [] for name in IMAGE_METRICS}
    for counts in draws(is_anomaly, replicates, seed):
        of_seeds = [weighted_image_metrics(one, is_anomaly, counts) for one in scores]
        for name in IMAGE_METRICS:
            parts[name].append(np.mean([found[name] for found in of_seeds], axis=0))
        advance(len(counts))
    return {name: np.concatenate(found) for name, found in parts.items()}


def percentile_interval(
    replicates: NDArray[np.floating], level: float = 0.95
) -> tuple[float, float]:
    """The interval that holds this share of replicates, as much left out below as above.

    Args:
        replicates: values of a metric, (n,); undefined ones (NaN) do not count.
        level: the share.

    Returns:
        Both ends; NaN where no replicate is defined.

    Raises:
        ParameterError: the level is not between 0 and 1.

    Examples:
        >>> import numpy as np
        >>> percentile_interval(np.arange(101), 0.5)
        (25.0, 75.0)
    """
    if not 0 < level < 1:
        raise ParameterError(f"the level of an interval is {level}: it must be between 0 and 1")
    known = replicates[np.isfinite(replicates)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def roc_band(
    scores: NDArray[np.floating],
    is_anomaly: NDArray[np.bool_],
    at: NDArray[np.floating],
    replicates: int = 400,
    seed: Seed = 0,
    level: float = 0.95,
) -> tuple[_Floats, _Floats] | None:
    """The band that holds this share of the ROC curves of bootstrap samples, rate by rate.

    Args:
        scores: (n,), finite.
        is_anomaly: labels (n,).
        at: false positive rates (m,), between 0 and 1.
        replicates: how many samples.
        seed: of the draws.
        level: the share.

    Returns:
        Lowest and highest true positive rate at each rate, (m,) each; None unless there are good and
        anomalous images.

    Examples:
        >>> import numpy as np
        >>> scores, labels = np.array([0.1, 0.4, 0.8]), np.array([False, True, True])
        >>> low, high = roc_band(scores, labels, np.array([0.5]))
        >>> low.tolist(), high.tolist()
        ([1.0], [1.0])
    """
    if is_anomaly.all() or not is_anomaly.any():
        return None
    found = []
    for counts in draws(is_anomaly, replicates, seed):
        true, false = _detections(scores, is_anomaly, counts)
        for hits, alarms in zip(true / true[:, -1:], false / false[:, -1:], strict=True):
            # at a rate of several thresholds, the best of them; equal scores make a slanted piece
            found.append(np.interp(at, alarms, hits))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def mid_ranks(scores: NDArray[np.floating]) -> _Floats:
    """Ranks (n,) of scores (n,) from 1, equal scores with their mean rank.

    Examples:
        >>> import numpy as np
        >>> mid_ranks(np.array([0.3, 0.1, 0.3])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[which]


def swapped_differences(
    a: Sequence[NDArray[np.floating]],
    b: Sequence[NDArray[np.floating]],
    is_anomaly: NDArray[np.bool_],
    permutations: int,
    seed: Seed,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, _Floats]:
    """Differences of the image metrics if it did not matter which detector a score came from.

    For each permutation a coin for every image says whether the two detectors exchange their ranks
    of it, in all seeds alike.

    Args:
        a, b: for each seed the scores (n,) of one detector.
        is_anomaly: labels (n,).
        permutations: how many.
        seed: of the coins.
        advance: is told of each so many permutations that are done.

    Returns:
        By metric ``b`` less ``a``, the mean over seeds, (permutations,).

    Examples:
        >>> import numpy as np
        >>> labels = np.array([False, True])
        >>> found = swapped_differences([np.array([0.1, 0.2])], [np.array([7.0, 8.0])], labels, 3, 0)
        >>> found["full_image_auroc"].tolist()
        [0.0, 0.0, 0.0]
    """
    generator = np.random.default_rng(seed)
    ranks = [(mid_ranks(left), mid_ranks(right)) for left, right in zip(a, b, strict=True)]
    parts: dict[str, list[_Floats]] = {name: [] for name in IMAGE_METRICS}
    for rows in _portions(permutations, len(is_anomaly)):
        swap = generator.integers(0, 2, size=(rows, len(is_anomaly))).astype(bool)
        once = np.ones(swap.shape, np.int64)
        sums = {name: np.zeros(rows) for name in IMAGE_METRICS}
        for left, right in ranks:
            first = weighted_image_metrics(np.where(swap, right, left), is_anomaly, once)
            second = weighted_image_metrics(np.where(swap, left, right), is_anomaly, once)
            for name in IMAGE_METRICS:
                sums[name] += second[name] - first[name]
        for name in IMAGE_METRICS:
            parts[name].append(sums[name] / max(len(ranks), 1))
        advance(rows)
    return {name: np.concatenate(found or [np.zeros(0)]) for name, found in parts.items()}


def permutation_p_value(difference: float, permuted: NDArray[np.floating]) -> float:
    """The share of permutations that differ at least as much, the observed one counted.

    Args:
        difference: observed.
        permuted: see :func:`swapped_differences`, (n,).

    Examples:
        >>> import numpy as np
        >>> permutation_p_value(0.2, np.array([0.1, -0.2, 0.0]))
        0.5
    """
    if not np.isfinite(difference):
        return float("nan")
    # a hair below: sums of the same numbers in another order
    as_large = np.count_nonzero(np.abs(permuted) >= abs(difference) - 1e-12)
    return float((1 + as_large) / (1 + len(permuted)))


def bootstrap_p_value(differences: NDArray[np.floating]) -> float:
    """Twice the smaller share of samples on either side of 0, the run itself counted, at most 1.

    It is the level at which the percentile interval just reaches 0 (Efron and Tibshirani, 1993, section
    15.4). With n samples it is at least 2 / (n + 1).

    Args:
        differences: of two detectors on the same samples, (n,); undefined ones (NaN) do not count.

    Examples:
        >>> import numpy as np
        >>> bootstrap_p_value(np.array([0.1, 0.2, -0.1, 0.3])), bootstrap_p_value(np.zeros(9))
        (0.8, 1.0)
    """
    known = differences[np.isfinite(differences)]
    if not len(known):
        return float("nan")
    smaller = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    return float(min(1, 2 * (1 + smaller) / (1 + len(known))))
