"""Which images a gallery shows, against plain sorting of rows one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.report.selection import Gallery, select_gallery

ROWS = 120
"""Enough that a sort which is not stable changes the order of equal scores."""


def table(seed: int) -> pd.DataFrame:
    """Two categories in turn, few distinct scores, and images without a label."""
    rng = np.random.default_rng(seed)
    labels = [True, False, None]
    return pd.DataFrame(
        {
            "category": ["nut", "bolt"] * (ROWS // 2),
            "is_anomaly": [labels[n] for n in rng.integers(len(labels), size=ROWS)],
            "score": rng.integers(4, size=ROWS) / 4,
        }
    )


def ranked(scores: pd.DataFrame, label: bool | None, sign: int) -> list[int]:
    """Rows of the nuts with a label by rising (1) or falling (-1) score, equal ones as they come."""
    rows = [
        row
        for row, (name, given) in enumerate(
            zip(scores["category"], scores["is_anomaly"], strict=True)
        )
        if name == "nut" and given is label
    ]
    return sorted(rows, key=lambda row: sign * scores["score"][row])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [0, 1, 4, 15, 99])
def test_without_a_threshold_the_extremes(seed: int, k: int) -> None:
    scores = table(seed)
    rising = ranked(scores, True, 1)
    hits = ranked(scores, True, -1)[: min(k, len(rising) // 2)]
    assert select_gallery(scores, "nut", k) == Gallery(
        misses=tuple([row for row in rising if row not in hits][:k]),
        alarms=tuple(ranked(scores, False, -1)[:k]),
        hits=tuple(hits),
        unlabelled=tuple(ranked(scores, None, -1)[:k]),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [0, 1, 4, 99])
@pytest.mark.parametrize("threshold", [-1.0, 0.25, 0.4, 0.75])
def test_by_a_threshold_what_it_decides(seed: int, k: int, threshold: float) -> None:
    scores = table(seed)
    score = scores["score"]
    found = [row for row in ranked(scores, True, -1) if score[row] > threshold]
    hits = found[: min(k, (len(found) + 1) // 2)]
    normal = [row for row in ranked(scores, False, 1) if score[row] <= threshold]
    right = sorted(set(found) - set(hits) | set(normal))
    assert select_gallery(scores, "nut", k, threshold) == Gallery(
        misses=tuple([row for row in ranked(scores, True, 1) if score[row] <= threshold][:k]),
        alarms=tuple([row for row in ranked(scores, False, -1) if score[row] > threshold][:k]),
        close=tuple(sorted(right, key=lambda row: abs(score[row] - threshold))[:k]),
        hits=tuple(hits),
        unlabelled=tuple(ranked(scores, None, -1)[:k]),
    )


def test_without_scores_the_first_ones_anomalous_before() -> None:
    scores = table(0).assign(score=np.nan)
    anomalous = ranked(scores, True, 1)
    others = sorted([*ranked(scores, False, 1), *ranked(scores, None, 1)])
    for k in (0, 3, 25, 99):
        expected = Gallery(unranked=tuple((sorted(anomalous) + others)[:k]))
        assert select_gallery(scores, "nut", k) == expected
    assert select_gallery(scores, "no such category", 3) == Gallery()
