"""Thresholds from normal images alone, and those that somebody gives."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fade.errors import ParameterError, counted
from fade.levels import UNIT, Scale
from fade.metrics import PixelHistogram
from fade.types import Trial
from pipeline.evaluation.guarantee import (
    MIN_SPREAD,
    false_alarm_limit,
    images_needed,
    limit_text,
    rank_that_keeps,
    stands_far,
)
from pipeline.evaluation.score_text import score_text
from pipeline.evaluation.thresholds import NO_SCORES, Threshold, undecided

OVERRIDES = "threshold.overrides"


def threshold_rank(images: int, quantile: float) -> int:
    """The rank k of the lowest of n scores that has this share of them at or below it."""
    # the share is compared in images; a hair below, as 0.55 * 100 is above 55
    return max(math.ceil(quantile * images - 1e-9), 1)


def normal_level(counts: NDArray[np.int64], quantile: float) -> int:
    """The lowest level with this share of normal pixels at or below it, from counts (levels,)."""
    reached = np.cumsum(counts)
    # the share is compared in pixels; a hair below, as 0.29 * 100 is above 29
    return int(np.searchsorted(reached, quantile * reached[-1] - 1e-6))


def from_normal(
    category: str,
    trial: Trial,
    scores: NDArray[np.float64],
    histogram: PixelHistogram | None,
    quantile: float,
    *,
    held_out: bool,
    reason: str,
    paths: Sequence[str] | None = None,
    factor: float = 1.0,
    scale: Scale = UNIT,
    bounded: bool = True,
    false_alarms: float | None = None,
    parts: Sequence[str] | None = None,
) -> Threshold:
    """The threshold of a category and trial from its normal images alone.

    Images of one part are not drawn independently. The highest scores of m parts are, and of as many
    images above a threshold no more parts have one. So what it keeps is the limit of m images with as
    many above it (:func:`false_alarm_limit`), for an image of any part.

    Args:
        scores: (n,) of the images, NaN where there are no image scores.
        histogram: of their maps, None where there are none.
        quantile: share that shall count as normal.
        held_out: whether they are references that were compared with the others.
        reason: why there are none, should there be none.
        paths: of the images, to name the one that sets the threshold.
        factor: on both thresholds; where it lowers that of images, no share of false alarms is promised.
        bounded: whether scores are within [0, 1].
        false_alarms: rate that the image threshold shall keep with 95 % confidence; then it is the
            lowest score that does, and the quantile holds for pixels alone.
        parts: that the images show, by name; None where each shows one of its own.
    """
    count = len(scores)
    if not count:
        return undecided(category, trial, reason, scale)
    image = limit = set_by = lacking = None
    independent = count if parts is None else len(set(parts))

    def rank_of(images: int) -> int:
        if false_alarms is None:
            return threshold_rank(images, quantile)
        drawn = min(independent, images)
        return images - (drawn - rank_that_keeps(drawn, false_alarms))

    rank = rank_of(count)
    warning = ""
    if np.isfinite(scores).all():
        image = float(np.sort(scores)[rank - 1])
        limit = false_alarm_limit(independent, count - rank)
        if false_alarms is not None and limit > false_alarms:
            lacking = max(images_needed(false_alarms) - independent, 1)
        position = int(np.flatnonzero(scores == image)[0])
        set_by = None if paths is None else paths[position]
        least = MIN_SPREAD if bounded else MIN_SPREAD * abs(float(np.median(scores)))
        if stands_far(scores, position, least):
            warning = _far_away(scores, position, set_by, rank_of(count - 1), factor)
        if image * factor < image:  # of scores below 0, factors above 1 do that
            limit = lacking = None
        image *= factor
    known = histogram is not None and histogram.normal.any()
    pixel = None
    if histogram and known:
        pixel = normal_level(histogram.normal, quantile)
        if factor != 1:  # the level of a multiple of its value
            multiple = factor * pixel + (factor - 1) * scale.offset / scale.step
            # in levels, and a hair above: the double of 33 / 255 is cut to level 65, not 66
            pixel = int(np.clip(multiple + 1e-6, 0, scale.count - 1))
    if held_out:
        remark = (
            f"rests on {counted(count, 'reference image')}, each compared with the others: there are no "
            "other normal images"
        )
    elif false_alarms is not None:
        remark = f"{counted(count, 'training image')} outside the bank"
    else:
        remark = f"quantile {quantile:g} over {counted(count, 'training image')} outside the bank"
        if rank == count:
            remark += ": the highest of them"
    if parts is not None:
        remark += f"; they show {counted(independent, 'part')}"
    if false_alarms is not None and limit is not None:
        what = "image" if parts is None else "part"
        remark += f"; {_kept(false_alarms, count, rank, limit, lacking, what)}"
    if factor != 1:
        remark += f", times {factor:g}"
    if image is None:
        remark += f"; {NO_SCORES}"
    return Threshold(
        category, trial.shots, trial.seed, image, pixel,
        "references" if held_out else "training", count, remark, set_by, limit, warning, lacking,
        None if parts is None else independent,
    ).on(scale)  # fmt: skip


def _kept(rate: float, count: int, rank: int, limit: float, lacking: int | None, what: str) -> str:
    """Which score keeps a false-alarm rate, or how many images, or parts, are lacking for it."""
    if lacking:
        return (
            f"for at most {100 * rate:g} % false alarms "
            f"{counted(lacking, f'more good {what}', 'is')} lacking, and the highest score "
            f"keeps {limit_text(limit)} %"
        )
    which = f"with {count - rank} of them above it, the lowest" if rank < count else "the highest"
    return f"{which} score that keeps at most {100 * rate:g} % false alarms"


def overridden(
    threshold: Threshold,
    value: float,
    scores: Collection[float],
    origin: str,
    parts: Sequence[str] | None = None,
) -> Threshold:
    """The same with an image threshold that somebody chose; pixels keep theirs.

    What a value keeps that was fixed beforehand follows from how many of n normal scores lie above it,
    by the same formula as for one of the scores (:func:`false_alarm_limit`).

    Args:
        threshold: of the category and trial.
        value: scores above it are anomalous.
        scores: (n,) of the normal images; none where they are not known.
        origin: who chose it, for the remark.
        parts: that the images show, see :func:`from_normal`.

    Raises:
        ParameterError: the value is no finite number.
    """
    if not math.isfinite(value):
        raise ParameterError(f"{origin} is {value}, but must be a finite number")
    count, limit, remark = len(scores), None, f"given by {origin}"
    if count and np.isfinite(known := np.array(list(scores))).all():
        above = int(np.count_nonzero(known > value))
        limit = false_alarm_limit(count if parts is None else len(set(parts)), above)
        remark += f"; above it {above} of {counted(count, 'normal image')}"
    return replace(
        threshold, image=value, source="given", remark=remark, set_by=None, warning="",
        false_alarm_limit=limit, lacking=None,
    )  # fmt: skip


def _far_away(
    scores: NDArray[np.float64], position: int, path: str | None, rank: int, factor: float
) -> str:
    """Why to look at the image that sets a threshold."""
    others = np.delete(scores, position)
    median, without = float(np.median(others)), factor * float(np.sort(others)[rank - 1])
    return (
        f"{path or 'one image'} sets the threshold {score_text(factor * scores[position])}, far above "
        f"{counted(len(others), 'other image')} (median {score_text(median)}; without it the threshold "
        f"is {score_text(without)}): look at it, and remove it from the training images if it is not good"
    )
