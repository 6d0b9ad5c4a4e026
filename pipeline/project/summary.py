"""What a finished run is about, in lines for the person who started it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fade.errors import FadeError, counted
from fade.types import Trial
from pipeline.artefacts.catalogue import EVALUATION, METRICS, REPORT, SCORES, SKIPPED, THRESHOLDS
from pipeline.artefacts.tables import read_json, table_parts
from pipeline.evaluation.thresholds import Threshold, read_thresholds
from pipeline.evaluation.trials import choose_trial, trial_words


def summary(folder: Path = Path()) -> list[str]:
    """Lines on the results of a project: images, decisions, what was left out, where the report is.

    Args:
        folder: of the project, whose stages have all run.
    """
    try:
        # without pandas: `fade run` waits beside its stages, and holds as little as it can
        with (folder / METRICS.path).open(encoding="utf-8", newline="") as file:
            trials = {Trial(int(row["shots"]), int(row["seed"])) for row in csv.DictReader(file)}
        data = read_json(folder / SKIPPED.path)
        skipped, warned = len(data["skipped"]), len(data["warnings"])
        categories = int(read_json(folder / EVALUATION.path)["categories"])
        thresholds = read_thresholds(folder / THRESHOLDS.path)
        known = {one.trial for one in thresholds} or trials
        trial = choose_trial(sorted(known)) if known else None  # that the report shows
        own = [one for one in thresholds if one.trial == trial]
        parts = table_parts(folder / SCORES.path, ("category", "score", "shots", "seed"))
        counts = _decisions(parts, own, trial)
    except (FadeError, OSError, LookupError, TypeError, ValueError):
        return []  # of a project with other stages
    lines = [
        f"{counted(counts[0], 'test image')} of {counted(categories, 'category')}"
        + (f", {counted(len(trials), 'trial')}" if trials else "")
    ]
    if trial is not None:
        lines.append(_decided(*counts, own, trial))
        lines += [f"warning: {one.category}: {one.warning}" for one in own if one.warning]
    if skipped:
        lines.append(f"{counted(skipped, 'image')} could not be used and left out")
    if warned:
        lines.append(f"{counted(warned, 'warning')} about the data")
    return [*lines, f"report: {REPORT.path / 'index.html'}; `fade serve --open` shows every image"]


def _decisions(
    parts: Iterable[dict[str, Any]], thresholds: Sequence[Threshold], trial: Trial | None
) -> tuple[int, int, int]:
    """How many images of a trial there are, above their category's threshold, and without a decision."""
    limits = {one.category: one.image for one in thresholds}
    images = anomalous = undecided = 0
    for part in parts:
        category = part["category"].dictionary_encode()
        limit = np.array([limits.get(name) for name in category.dictionary.to_pylist()], float)
        place, shots, seed, score = map(
            _values, (category.indices, part["shots"], part["seed"], part["score"])
        )
        shown = (shots == trial.shots) & (seed == trial.seed) if trial else slice(None)
        limit = limit[place[shown]]
        images += len(limit)
        anomalous += int((score[shown] > limit).sum())
        undecided += int(np.isnan(limit).sum())
    return images, anomalous, undecided


def _values(column: Any) -> Any:
    """An arrow array as numpy's; arrow's own way imports pandas, which only missing values need here."""
    return column.to_numpy(zero_copy_only=False) if column.null_count else np.from_dlpack(column)


def _decided(
    images: int, anomalous: int, undecided: int, thresholds: Sequence[Threshold], trial: Trial
) -> str:
    """How many images of a trial are above their category's threshold, in words."""
    of = f"with {trial_words(trial)}"
    if undecided == images:
        reasons = {one.remark.removeprefix("no decision: "): 0 for one in thresholds}
        return f"no decisions {of}: {'; '.join(filter(None, reasons)) or 'there are no thresholds'}"
    text = f"{anomalous} called anomalous, {images - anomalous - undecided} normal {of}"
    return f"{text}; {undecided} without a decision" if undecided else text
