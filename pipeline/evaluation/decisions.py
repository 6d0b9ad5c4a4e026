"""How thresholds divide the labelled test images: false alarms and misses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fade.errors import counted
from fade.types import Trial
from pipeline.evaluation.results import score_rows
from pipeline.evaluation.score_text import score_text
from pipeline.evaluation.thresholds import Threshold
from pipeline.evaluation.trials import trial_words

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decisions on the labelled test images, or parts, of one category in one trial.

    Attributes:
        good, anomalous: how many of each label there are.
        false_alarms: good ones above the threshold.
        missed: anomalous ones that are not above it.
    """

    category: str
    shots: int
    seed: int
    good: int
    false_alarms: int
    anomalous: int
    missed: int

    @property
    def trial(self) -> Trial:
        """The trial whose threshold decided."""
        return Trial(self.shots, self.seed)

    def sentence(self, noun: str) -> str:
        """The counts in words, of images or, where ``evaluate.group`` names them, of parts."""
        return (
            f"{self.false_alarms} of {counted(self.good, f'good {noun}')} called anomalous, "
            f"{self.missed} of {self.anomalous} anomalous missed"
        )


def decide(
    threshold: Threshold, scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]
) -> Decisions | None:
    """The decisions of a threshold on images (n,); None without scores or a threshold."""
    if threshold.image is None or not len(scores) or not np.isfinite(scores).all():
        return None
    above = scores > threshold.image
    return Decisions(
        threshold.category,
        threshold.shots,
        threshold.seed,
        int(np.count_nonzero(~is_anomaly)),
        int(np.count_nonzero(above & ~is_anomaly)),
        int(np.count_nonzero(is_anomaly)),
        int(np.count_nonzero(~above & is_anomaly)),
    )


def all_decisions(thresholds: Sequence[Threshold], scores: pd.DataFrame) -> list[Decisions]:
    """The decisions of all thresholds for which there are scores, in the thresholds' order.

    Args:
        scores: with ``category``, ``shots``, ``seed``, ``is_anomaly`` and ``score``.
    """
    rows_of = score_rows(scores)
    values, labels = scores["score"].to_numpy(np.float64), scores["is_anomaly"].to_numpy(bool)
    found = []
    for threshold in thresholds:
        rows = rows_of.get((threshold.category, threshold.trial), np.empty(0, np.intp))
        decided = decide(threshold, values[rows], labels[rows])
        if decided is not None:
            found.append(decided)
    return found


def decision_warnings(
    thresholds: Sequence[Threshold], decisions: Sequence[Decisions], trial: Trial, noun: str
) -> Iterator[str]:
    """Why not to rely on the thresholds of one trial, a sentence each.

    An image far from the others sets a threshold, images are lacking for the rate of false alarms, or
    more than half of the labelled test images of a kind are on its wrong side.

    Args:
        noun: what the decisions count, see :func:`pipeline.evaluation.groups.counted_noun`.
    """
    of_category = {found.category: found for found in decisions if found.trial == trial}
    for threshold in thresholds:
        if threshold.trial != trial:
            continue
        if threshold.warning:
            yield f"{threshold.category}, {trial_words(trial)}: {threshold.warning}."
        if threshold.lacking:
            yield f"{threshold.category}, {trial_words(trial)}: {threshold.remark}."
        found = of_category.get(threshold.category)
        if threshold.image is None or not found:
            continue
        if 2 * found.false_alarms > found.good or 2 * found.missed > found.anomalous:
            yield (
                f"{threshold.category}, {trial_words(trial)}: at the threshold "
                f"{score_text(threshold.image)}, {found.sentence(noun)}."
            )
