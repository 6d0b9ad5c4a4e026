"""What was found of each kind of defect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fade.metrics import image_metrics
from pipeline.report.verdicts import ANOMALOUS, GOOD, count, labels_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class DefectKind:
    """The images of one kind of defect; ``missed`` and ``auroc`` are None where undefined.

    Attributes:
        images: how many there are.
        missed: those that are not above the threshold.
        auroc: image AUROC of them against the good images of the category.
    """

    name: str
    images: int
    missed: int | None
    auroc: float | None


def defect_kinds(own: pd.DataFrame, threshold: float | None) -> tuple[DefectKind, ...]:
    """A line for each kind of defect of one category in one trial, by name.

    Args:
        own: rows with ``defect``, ``is_anomaly`` and finite ``score``.
        threshold: scores above it are anomalous; None without one.
    """
    labels, scores = labels_of(own), own["score"].to_numpy(dtype=np.float64)
    names, good = own["defect"].astype(str).to_numpy(), labels == GOOD
    found = []
    for name in sorted(set(names[labels == ANOMALOUS])):
        kind = (names == name) & (labels == ANOMALOUS)
        missed = None if threshold is None else count(labels[kind], scores[kind], threshold).missed
        both = kind | good
        auroc = image_metrics(scores[both], kind[both])[0]["full_image_auroc"]
        number = int(np.count_nonzero(kind))
        found.append(DefectKind(name, number, missed, None if math.isnan(auroc) else auroc))
    return tuple(found)
