"""What a finished run says of each exported test image: its score and decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fade.errors import StoreError
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
        is_anomaly: its label, corrected where ``evaluate.labels`` does so; None without one.
        defect: kind that goes with the label; empty without one.
    """

    score: float | None
    threshold: float | None
    decision: Decision | None
    is_anomaly: bool | None
    defect: str


def exported_scores(run: FinishedRun, tests: pd.DataFrame) -> list[ExportedScore]:
    """What the run's trial says of some test images, in their order.

    Args:
        tests: rows of the manifest.

    Raises:
        StoreError: the scores are missing, damaged, of other images or of another run.
    """
    place = run.folder / SCORES.path
    columns = ["path", "score", "is_anomaly", "defect"]
    scores, _ = read_table(place, columns, shots=run.trial.shots, seed=run.trial.seed)
    run.check_unchanged()  # else its thresholds are not those of the scores
    known = dict(zip(scores["path"].astype(str), scores.itertuples(index=False), strict=True))
    paths = tests["path"].astype(str).tolist()
    if lacking := [path for path in paths if path not in known]:
        raise StoreError(f"{place} has no score of {lacking[0]}: run `fade run`")
    return [
        _said(run, category, *known[path][1:])
        for path, category in zip(paths, tests["category"], strict=True)
    ]


def _said(run: FinishedRun, category: str, score: Any, label: Any, defect: Any) -> ExportedScore:
    number = None if score is None or score != score else float(score)
    threshold = run.thresholds[category].image
    known = None if label is None or label != label else bool(label)
    return ExportedScore(number, threshold, decide(number, threshold), known, str(defect or ""))
