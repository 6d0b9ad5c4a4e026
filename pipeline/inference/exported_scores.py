"""What a finished run says of each exported test image: its score and decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.artefacts.catalogue import SCORES
from pipeline.artefacts.tables import read_table
from pipeline.inference.prediction import Decision, decide
from pipeline.inference.run import FinishedRun

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class ExportedScore:
    """What a run decides about an image.

    Attributes:
        score: None where the run makes none.
        threshold: scores above it are anomalous; None without one.
        decision: None without a score or threshold.
        is_anomaly: its label; None without one.
    """

    score: float | None
    threshold: float | None
    decision: Decision | None
    is_anomaly: bool | None


def exported_scores(run: FinishedRun, tests: pd.DataFrame) -> list[ExportedScore]:
    """What the run's trial says of some test images, in their order.

    Args:
        tests: rows of the manifest.

    Raises:
        StoreError: the scores are missing, damaged or of other images.
    """
    scores, _ = read_table(
        run.folder / SCORES.path,
        ["path", "score"],
        shots=run.trial.shots,
        seed=run.trial.seed,
    )
    known = dict(zip(scores["path"].astype(str), scores["score"], strict=True))
    rows = zip(tests["path"].astype(str), tests["category"], tests["is_anomaly"], strict=True)
    return [_said(run, known.get(path), category, label) for path, category, label in rows]


def _said(run: FinishedRun, score: Any, category: str, label: Any) -> ExportedScore:
    number = None if score is None or score != score else float(score)
    threshold = run.thresholds[category].image
    known = None if label is None or label != label else bool(label)
    return ExportedScore(number, threshold, decide(number, threshold), known)
