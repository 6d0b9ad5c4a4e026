"""What decisions are worth against labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.verdicts import (
    ANOMALOUS,
    GOOD,
    UNKNOWN,
    VerdictCounts,
    count,
    cuts,
    verdict,
)

SCORES = st.sampled_from([-0.5, 0.0, 0.1, 0.25, 0.3, 0.3000001, 0.9, 1.0])


def test_f1_counts_both_kinds_of_errors() -> None:
    found = VerdictCounts(images=7, good=3, anomalous=3, called=4, alarms=2, missed=1)
    assert found.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))


@pytest.mark.parametrize(("good", "anomalous"), [(3, 0), (0, 3), (0, 0)])
def test_there_is_no_f1_of_one_kind_of_images(good: int, anomalous: int) -> None:
    assert VerdictCounts(good + anomalous, good, anomalous, called=0, alarms=0, missed=0).f1 is None


def test_an_image_without_a_score_has_no_verdict() -> None:
    for label in (GOOD, ANOMALOUS, UNKNOWN):
        assert verdict(label, math.nan, 0.5) == verdict(label, 0.7, None) == ""


@given(st.lists(st.tuples(st.sampled_from([GOOD, ANOMALOUS, UNKNOWN]), SCORES)), SCORES)
def test_counts_are_those_of_the_verdicts_one_by_one(
    images: list[tuple[int, float]], threshold: float
) -> None:
    labels, scores = [label for label, _ in images], [score for _, score in images]
    words = [verdict(label, score, threshold) for label, score in images]
    found = count(np.array(labels, np.int8), np.array(scores), threshold)
    assert found == VerdictCounts(
        len(images), labels.count(GOOD), labels.count(ANOMALOUS),
        sum(score > threshold for score in scores),
        words.count("false alarm"), words.count("missed"),
    )  # fmt: skip


@given(st.lists(SCORES), st.none() | SCORES)
def test_each_way_to_divide_the_images_is_offered_once(
    scores: list[float], threshold: float | None
) -> None:
    found = cuts(np.array(scores), threshold)
    assert found == sorted(set(found))
    divided = [sum(score > cut for score in scores) for cut in found if cut != threshold]
    ways = {sum(score > cut for score in scores) for cut in [-9.0, *scores]} if scores else set()
    assert set(divided) <= ways
    assert len(divided) == len(set(divided))
    if threshold is not None:
        assert threshold in found
        divided.append(sum(score > threshold for score in scores))
    assert ways <= set(divided)


@pytest.mark.parametrize("images", [7, 8, 20, 1000])
def test_of_many_scores_so_many_thresholds_are_spread_over_the_images(images: int) -> None:
    scores = np.random.default_rng(0).permutation(images) / images
    found = cuts(scores, None, most=7)
    above = [int((scores > cut).sum()) for cut in found]
    assert (above[0], above[-1], len(found)) == (images, 0, 8)
    steps = -np.diff(above)
    assert steps.max() - steps.min() <= 1
