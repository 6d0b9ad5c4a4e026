"""Galleries: which images of a category are worth a look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fade.errors import ParameterError, StoreError
from pipeline.report.verdicts import ANOMALOUS, GOOD, UNKNOWN, labels_of

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Rows worth a look, best example first; positions within one trial's rows of scores.

    Attributes:
        misses: anomalous images with the lowest scores; of a threshold, those that are not above it.
        alarms: good images with the highest scores; of a threshold, those above it.
        close: of a threshold, images that it judges rightly, the nearest to it first.
        hits: anomalous images with the highest scores; of a threshold, those above it.
        unlabelled: images without a label, highest scores first.
        unranked: the first images of the category, where it has no scores at all.
    """

    misses: tuple[int, ...] = ()
    alarms: tuple[int, ...] = ()
    close: tuple[int, ...] = ()
    hits: tuple[int, ...] = ()
    unlabelled: tuple[int, ...] = ()
    unranked: tuple[int, ...] = ()


def select_gallery(
    scores: pd.DataFrame, category: str, k: int, threshold: float | None = None
) -> Gallery:
    """Choose at most ``k`` images of each kind from the scores of one trial.

    No image is shown twice: with fewer than ``2 k`` anomalous images, hits and misses share them,
    and the odd one is a miss. With a threshold the decision says which is which. Equal scores keep
    the order of the rows. Anomalous images come first among the unranked.

    Args:
        scores: a row per image of one trial with ``category``, ``is_anomaly`` and ``score``.
        k: images per kind, at least 0.
        threshold: scores above it are anomalous; None without a decision.

    Raises:
        ParameterError: ``k`` is negative.
        StoreError: some of the category's scores are no finite numbers and others are.
    """
    if k < 0:
        raise ParameterError(f"a gallery of {k} images cannot be made: ask for 0 or more")
    rows = np.flatnonzero(scores["category"].astype(str) == category)
    values = scores["score"].to_numpy(dtype=np.float64)[rows]
    labels = labels_of(scores)[rows]
    finite = np.isfinite(values)
    if not finite.any():
        first = np.argsort(labels != ANOMALOUS, kind="stable")
        return Gallery(unranked=_positions(rows[first][:k]))
    if not finite.all():
        raise StoreError(
            f"not finite: {np.count_nonzero(~finite)} of {len(rows)} scores of category {category}: "
            "run `fade run --force evaluate` to compute them again"
        )
    order = np.argsort(-values, kind="stable")
    unlabelled = rows[order[labels[order] == UNKNOWN]]
    if threshold is not None:
        return _by_decision(rows, values, labels, k, threshold, unlabelled)
    rising = np.argsort(values, kind="stable")
    rising = rows[rising[labels[rising] == ANOMALOUS]]
    hits = rows[order[labels[order] == ANOMALOUS]][: min(k, len(rising) // 2)]
    misses = [row for row in rising[: k + len(hits)] if row not in hits][:k]
    alarms = rows[order[labels[order] == GOOD]][:k]
    return Gallery(
        misses=_positions(misses),
        alarms=_positions(alarms),
        hits=_positions(hits),
        unlabelled=_positions(unlabelled[:k]),
    )


def _by_decision(
    rows: Rows,
    values: NDArray[np.float64],
    labels: NDArray[np.int8],
    k: int,
    threshold: float,
    unlabelled: Rows,
) -> Gallery:
    above = values > threshold
    rising, falling = np.argsort(values, kind="stable"), np.argsort(-values, kind="stable")
    missed = rising[(~above & (labels == ANOMALOUS))[rising]]
    alarms = falling[(above & (labels == GOOD))[falling]]
    found = falling[(above & (labels == ANOMALOUS))[falling]]
    # half of few found ones are close calls
    hits = found[: min(k, -(-len(found) // 2))]
    right = (above & (labels == ANOMALOUS)) | (~above & (labels == GOOD))
    right[hits] = False
    near = np.argsort(np.abs(values - threshold), kind="stable")
    close = near[right[near]]
    return Gallery(
        misses=_positions(rows[missed[:k]]),
        alarms=_positions(rows[alarms[:k]]),
        close=_positions(rows[close[:k]]),
        hits=_positions(rows[hits]),
        unlabelled=_positions(unlabelled[:k]),
    )


def _positions(rows: Rows | list[np.intp]) -> tuple[int, ...]:
    return tuple(int(row) for row in rows)
