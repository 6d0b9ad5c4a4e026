"""What a finished run is about, in lines for the person who started it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fade.errors import FadeError, counted
from fade.types import Trial
from pipeline.artefacts.catalogue import EVALUATION, METRICS, REPORT, SCORES, SKIPPED, THRESHOLDS
from pipeline.artefacts.tables import read_csv, read_json, read_table
from pipeline.evaluation.thresholds import Threshold, read_thresholds
from pipeline.evaluation.trials import choose_trial, trial_words


def summary(folder: Path = Path()) -> list[str]:
    """Lines on the results of a project: images, decisions, what was left out, where the report is.

    Args:
        folder: of the project, whose stages have all run.
    """
    try:
        metrics = read_csv(folder / METRICS.path)
        data = read_json(folder / SKIPPED.path)
        skipped, warned = len(data["skipped"]), len(data["warnings"])
        categories = int(read_json(folder / EVALUATION.path)["categories"])
        thresholds = read_thresholds(folder / THRESHOLDS.path)
        trial = _shown(metrics, thresholds)
        shown: dict[str, Any] = {"shots": trial.shots, "seed": trial.seed} if trial else {}
        scores, _ = read_table(folder / SCORES.path, ("category", "score"), **shown)
    except (FadeError, LookupError, TypeError, ValueError):
        return []  # of a project with other stages
    lines = [
        f"{counted(len(scores), 'test image')} of {counted(categories, 'category')}"
        + (f", {counted(len(metrics.groupby(['shots', 'seed'])), 'trial')}" if len(metrics) else "")
    ]
    if trial is not None:
        lines.append(_decided(scores, thresholds, trial))
        lines += [
            f"warning: {one.category}: {one.warning}"
            for one in thresholds
            if one.trial == trial and one.warning
        ]
    if skipped:
        lines.append(f"{counted(skipped, 'image')} could not be used and left out")
    if warned:
        lines.append(f"{counted(warned, 'warning')} about the data")
    return [*lines, f"report: {REPORT.path / 'index.html'}; `fade serve --open` shows every image"]


def _shown(metrics: Any, thresholds: Sequence[Threshold]) -> Trial | None:
    """The trial that the report shows and that new images are scored with; None where there is none."""
    pairs = zip(metrics["shots"], metrics["seed"], strict=True)
    trials = {one.trial for one in thresholds} or {Trial(int(k), int(seed)) for k, seed in pairs}
    return choose_trial(sorted(trials)) if trials else None


def _decided(scores: Any, thresholds: Sequence[Threshold], trial: Trial) -> str:
    """How many images of a trial are above their category's threshold."""
    limits = {one.category: one.image for one in thresholds if one.trial == trial}
    anomalous = undecided = 0
    for category, own in scores.groupby("category", sort=False, observed=True):
        limit = limits.get(str(category))
        if limit is None:
            undecided += len(own)
        else:
            anomalous += int((own["score"] > limit).sum())
    of = f"with {trial_words(trial)}"
    if undecided == len(scores):
        reasons = {
            one.remark.removeprefix("no decision: "): 0 for one in thresholds if one.trial == trial
        }
        return f"no decisions {of}: {'; '.join(filter(None, reasons)) or 'there are no thresholds'}"
    text = f"{anomalous} called anomalous, {len(scores) - anomalous - undecided} normal {of}"
    return f"{text}; {undecided} without a decision" if undecided else text
