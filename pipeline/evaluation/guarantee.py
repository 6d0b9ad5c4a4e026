"""What a threshold from normal images promises: a limit on false alarms, and whether one image is odd."""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Confidence with which the limit on false alarms holds."""
FAR = 5.0
"""Scaled median absolute deviations above the others' median from which on a score is far away."""
MIN_SPREAD = 0.01
"""Smallest spread of the others' scores (0 to 1): nearly equal ones count as spread by this much."""
MIN_OTHERS = 4
"""Smallest number of other images that tells how scores spread."""


def false_alarm_limit(images: int, above: int, confidence: float = CONFIDENCE) -> float:
    """The false-alarm rate that a threshold keeps with a confidence.

    The threshold is the score of one of n normal images, of which so many are ranked above it. The
    share of normal images that score above the k-th smallest of n is at most as large as a beta variable
    with parameters n - k + 1 and k (order statistics; ties only lower it). This is that variable's
    quantile. At the highest of n images it is 1 - (1 - confidence)^(1/n).

    Args:
        images: n, drawn independently from what will come.
        above: how many of them are ranked above the threshold, n - k.
        confidence: with which the rate holds.

    >>> [round(false_alarm_limit(n, 0), 3) for n in (29, 59, 149, 299)]
    [0.098, 0.05, 0.02, 0.01]
    """
    if not above:
        return 1 - (1 - confidence) ** (1 / images)
    if above >= images:
        return 1.0
    # the rate at which so few of n images score above with the probability that is left
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(above, images, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def limit_text(limit: float) -> str:
    """A limit in percent with one decimal, rounded up: to the nearest it would promise too much.

    >>> [limit_text(false_alarm_limit(n, 0)) for n in (1, 29, 59, 299, 10_000)]
    ['95.0', '9.9', '5.0', '1.0', '0.1']
    """
    return f"{math.ceil(1000 * limit - 1e-9) / 10:.1f}"


def rank_that_keeps(images: int, rate: float, confidence: float = CONFIDENCE) -> int:
    """The rank k of the lowest of n normal scores that keeps a false-alarm rate with a confidence.

    The highest, n, where none does: :func:`images_needed` says how many images would do.

    >>> [rank_that_keeps(n, 0.05) for n in (58, 59, 92, 93)]
    [58, 59, 92, 92]
    """

    def limit(above: int) -> float:
        return false_alarm_limit(images, above, confidence)

    keep = bisect_right(range(images), rate, key=limit)  # numbers above it that keep the rate
    return images - max(keep - 1, 0)


def images_needed(rate: float, confidence: float = CONFIDENCE) -> int:
    """The smallest number of normal images whose highest score keeps a false-alarm rate.

    >>> [images_needed(rate) for rate in (0.1, 0.05, 0.02, 0.01)]
    [29, 59, 149, 299]
    """
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


def _at_most(count: int, images: int, rate: float) -> float:
    """Probability of at most ``count`` events among so many images, each at a rate between 0 and 1."""
    terms = np.arange(count + 1)
    logarithms = [
        math.lgamma(images + 1)
        - math.lgamma(k + 1)
        - math.lgamma(images - k + 1)
        + k * math.log(rate)
        + (images - k) * math.log1p(-rate)
        for k in terms.tolist()
    ]
    return float(np.exp(logarithms).sum())


def stands_far(
    scores: NDArray[np.float64], position: int, least_spread: float = MIN_SPREAD
) -> bool:
    """Whether one of the scores (n,) of normal images stands far above the others.

    It does if it is more than 5 scaled median absolute deviations (1.4826 x MAD, a standard deviation
    where scores are normally distributed) above the median of the others; at least 4 others are needed.
    The deviation counts as ``least_spread`` where it is smaller.

    >>> stands_far(np.array([0.2, 0.22, 0.25, 0.21, 0.81]), 4)
    True
    >>> stands_far(np.array([0.2, 0.22, 0.25, 0.21, 0.27]), 4)
    False
    """
    others = np.delete(scores, position)
    if len(others) < MIN_OTHERS:
        return False
    middle = np.median(others)
    spread = max(1.4826 * float(np.median(np.abs(others - middle))), least_spread)
    return bool(scores[position] - middle > FAR * spread)
