"""What the page's script holds of all test images: names, labels, scores, and thresholds to try."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fade.types import Trial
from pipeline.evaluation.results import score_rows
from pipeline.evaluation.thresholds import Threshold
from pipeline.evaluation.trials import trial_words
from pipeline.report.cards import NO_LABEL, of_trial, small_picture
from pipeline.report.gallery import draw_all
from pipeline.report.input import ReportInput
from pipeline.report.originals import quoted
from pipeline.report.verdicts import UNKNOWN, count, cuts, labels_of

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 10_000
"""Largest number of images in the table."""
MAX_SCORES = 20_000
"""Largest number of scores in the page: images times trials to switch between."""
MAX_PICTURES = 120
"""Largest number of small pictures besides those of the galleries."""

Positions = NDArray[np.intp]


def trials_to_switch(trials: Sequence[Trial], shown: Trial, images: int) -> list[Trial]:
    """The trial that the page shows, and others as far as their scores may be in it.

    Those of the same seed come first, for the effect of shots.

    >>> trials_to_switch([Trial(1, 0), Trial(1, 1), Trial(4, 0)], Trial(4, 0), 8_000)
    [Trial(shots=4, seed=0), Trial(shots=1, seed=0)]
    """
    others = [trial for trial in trials if trial != shown]
    others.sort(key=lambda trial: (trial.seed != shown.seed, -trial.shots, trial.seed))
    return [shown, *others[: max(MAX_SCORES // max(images, 1) - 1, 0)]]


def review(
    report: ReportInput, trial: Trial, cards: Collection[int], unpictured: int = MAX_PICTURES
) -> dict[str, Any]:
    """All that the script needs, as plain values.

    Args:
        report: what the page shows.
        trial: that it shows; others are there to switch to.
        cards: positions of images with a card, which stay in the table in any case.
        unpictured: how many of the other images get a small picture.

    Returns:
        ``originals``, ``trials``, ``categories``, ``rows`` by column, ``pictures`` by position, and
        how many images were ``left_out``.
    """
    chosen = of_trial(report.scores, trial)
    pairs = report.scores[["shots", "seed"]].drop_duplicates().to_numpy().tolist()
    known = [Trial(int(shots), int(seed)) for shots, seed in pairs]
    shown, tables = [], []
    for one in trials_to_switch(known, trial, min(len(chosen), MAX_ROWS)):
        table = of_trial(report.scores, one)
        if table["path"].tolist() == chosen["path"].tolist():
            shown.append(one)
            tables.append(table["score"].to_numpy(dtype=np.float64))
    thresholds = {(one.category, one.trial): one for one in report.thresholds}
    names = chosen["category"].astype(str).tolist()
    categories = list(dict.fromkeys(names))
    rows_of, labels = score_rows(chosen), labels_of(chosen)
    distance = _distance(names, tables[0], thresholds, trial)
    kept = _kept(distance, cards)
    return {
        "originals": report.originals,
        "trials": [trial_words(one) for one in shown],
        "categories": [
            _category(name, rows_of[name, trial], labels, shown, tables, thresholds)
            for name in categories
        ],
        "rows": _rows(chosen, kept, categories, tables),
        "pictures": _pictures(report, trial, chosen, kept, distance, cards, thresholds, unpictured),
        "left_out": len(chosen) - len(kept),
    }


def _distance(
    names: Sequence[str],
    scores: NDArray[np.float64],
    thresholds: Mapping[tuple[str, Trial], Threshold],
    trial: Trial,
) -> NDArray[np.float64]:
    """How far each score (n,) is from its category's threshold; without one, below the highest."""
    limits: list[float] = []
    for name in names:
        found = thresholds.get((name, trial))
        limits.append(math.nan if found is None or found.image is None else found.image)
    limit = np.array(limits)
    highest = scores.max(initial=0, where=np.isfinite(scores))
    return np.nan_to_num(np.abs(scores - np.where(np.isnan(limit), highest, limit)), nan=0.0)


def _kept(distance: NDArray[np.float64], cards: Collection[int]) -> Positions:
    """Positions of the images in the table, ascending: with a card, or nearest to a threshold."""
    order = distance.copy()
    order[list(cards)] = -1
    return np.sort(np.argsort(order, kind="stable")[:MAX_ROWS])


def _category(
    name: str,
    own: Positions,
    labels: NDArray[np.int8],
    trials: Sequence[Trial],
    tables: Sequence[NDArray[np.float64]],
    thresholds: Mapping[tuple[str, Trial], Threshold],
) -> dict[str, Any]:
    """A category's numbers of images, and of each trial what each threshold makes of them."""
    found = []
    for trial, scores in zip(trials, tables, strict=True):
        threshold = thresholds.get((name, trial))
        limit = None if threshold is None else threshold.image
        values = scores[own]
        steps = cuts(values, limit) if np.isfinite(values).all() else []
        counts = [count(labels[own], values, step) for step in steps]
        found.append(
            {
                "threshold": limit,
                "cuts": steps,
                "called": [one.called for one in counts],
                "alarms": [one.alarms for one in counts],
                "missed": [one.missed for one in counts],
            }
        )
    total = count(labels[own], tables[0][own], math.inf)
    return {
        "name": name, "images": total.images, "good": total.good, "anomalous": total.anomalous,
        "trials": found,
    }  # fmt: skip


def _rows(
    chosen: pd.DataFrame,
    kept: Positions,
    categories: Sequence[str],
    tables: Sequence[NDArray[np.float64]],
) -> dict[str, Any]:
    table, labels = chosen.iloc[kept], labels_of(chosen)[kept]
    defects = table["defect"].astype(object).where(labels != UNKNOWN, NO_LABEL).astype(str)
    kinds = {name: n for n, name in enumerate(dict.fromkeys(defects))}
    number = {name: n for n, name in enumerate(categories)}
    return {
        "position": kept.tolist(),
        "name": table["image"].astype(str).tolist(),
        "path": [quoted(path) for path in table["path"].astype(str)],
        "category": [number[name] for name in table["category"].astype(str)],
        "kinds": list(kinds),
        "kind": [kinds[defect] for defect in defects],
        "label": labels.tolist(),
        "scores": [
            [value if math.isfinite(value) else None for value in scores[kept].tolist()]
            for scores in tables
        ],
    }


def _pictures(
    report: ReportInput,
    trial: Trial,
    chosen: pd.DataFrame,
    kept: Positions,
    distance: NDArray[np.float64],
    cards: Collection[int],
    thresholds: Mapping[tuple[str, Trial], Threshold],
    most: int,
) -> dict[str, str]:
    """Small pictures of images without a card by position, of those nearest to their threshold."""
    nearest = kept[np.argsort(distance[kept], kind="stable")]
    rest = [int(one) for one in nearest if one not in cards][:most]

    categories, paths = chosen["category"], chosen["path"]  # a whole row takes a millisecond

    def drawn(position: int) -> str:
        threshold = thresholds.get((str(categories.iat[position]), trial))
        return small_picture(report, trial, str(paths.iat[position]), position, threshold)

    return {str(position): uri for position, uri in zip(rest, draw_all(drawn, rest), strict=True)}


def as_json(content: Mapping[str, Any]) -> str:
    """JSON that a script element can hold whatever names are in it: no tag, no comment, no line end.

    >>> as_json({"a": "</script><!--&\\u2028"})
    '{"a":"\\\\u003c/script\\\\u003e\\\\u003c!--\\\\u0026\\\\u2028"}'
    """
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text
