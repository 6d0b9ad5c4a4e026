"""Misses and false alarms of thresholds, and the warnings about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fade.types import Trial
from pipeline.evaluation.decisions import Decisions, all_decisions, decide, decision_warnings
from pipeline.evaluation.groups import counted_noun
from pipeline.evaluation.normal_thresholds import from_normal
from pipeline.evaluation.thresholds import Threshold, undecided

TRIAL = Trial(4, 0)


def threshold(image: float | None, category: str = "nut", trial: Trial = TRIAL) -> Threshold:
    return Threshold(category, trial.shots, trial.seed, image, None, "training", 9, "")


def table(scores: list[float], labels: list[bool], category: str = "nut") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "category": category, "shots": TRIAL.shots, "seed": TRIAL.seed,
            "is_anomaly": labels, "score": scores,
        }
    )  # fmt: skip


def test_what_equals_the_threshold_is_normal() -> None:
    found = decide(
        threshold(0.5), np.array([0.5, 0.6, 0.5, 0.9]), np.array([False, False, True, True])
    )
    assert found == Decisions("nut", 4, 0, good=2, false_alarms=1, anomalous=2, missed=1)


@pytest.mark.parametrize(
    ("image", "scores"), [(None, [0.1]), (0.5, []), (0.5, [float("nan")])], ids=str
)
def test_without_scores_or_threshold_nothing_is_decided(
    image: float | None, scores: list[float]
) -> None:
    assert decide(threshold(image), np.array(scores), np.zeros(len(scores), bool)) is None


def test_of_each_category_and_trial() -> None:
    scores = pd.concat([table([0.1, 0.9], [False, True]), table([0.9], [False], "bolt")])
    thresholds = [
        threshold(0.5), threshold(0.5, "bolt"), threshold(0.5, trial=Trial(1, 0)),
        undecided("none", TRIAL, "no images"),
    ]  # fmt: skip
    found = all_decisions(thresholds, scores.reset_index(drop=True))
    assert [(f.category, f.false_alarms, f.good, f.missed, f.anomalous) for f in found] == [
        ("nut", 0, 1, 0, 1),
        ("bolt", 1, 1, 0, 0),
    ]


@pytest.mark.parametrize(
    ("false_alarms", "missed", "warned"),
    [(0, 0, False), (2, 2, False), (3, 0, True), (0, 3, True), (4, 4, True)],
)
def test_more_than_half_of_either_is_warned_of(
    false_alarms: int, missed: int, warned: bool
) -> None:
    found = Decisions("nut", 4, 0, 4, false_alarms, 4, missed)
    lines = list(decision_warnings([threshold(0.5)], [found], TRIAL, "image"))
    assert len(lines) == warned
    assert not list(decision_warnings([threshold(None)], [found], TRIAL, "image"))


def test_a_trial_is_warned_of_for_its_own_decisions_alone() -> None:
    both = [threshold(0.5), replace(threshold(0.5), seed=1)]
    calm, bad = Decisions("nut", 4, 0, 4, 0, 4, 0), Decisions("nut", 4, 1, 4, 4, 4, 0)
    assert not list(decision_warnings(both, [calm, bad], TRIAL, "image"))
    (line,) = decision_warnings(both, [bad, calm], Trial(4, 1), "image")
    assert line.startswith("nut, 4 shots, seed 1: at the threshold 0.500, 4 of 4 good images")


def test_images_that_lack_are_told_without_test_images_too() -> None:
    lacking = replace(threshold(0.5), lacking=3, remark="3 more good images are lacking")
    (line,) = decision_warnings([lacking], [], TRIAL, "image")
    assert line == "nut, 4 shots, seed 0: 3 more good images are lacking."


def test_one_odd_image_that_hides_every_defect_is_named() -> None:
    """40 good test images and 60 with defects, and among 30 training images one scores 0.81."""
    rng = np.random.default_rng(0)
    normal = np.append(rng.normal(0.3, 0.02, 29), 0.81)
    paths = [f"nut/train/good/{number:03}.png" for number in range(30)]
    made = from_normal("nut", TRIAL, normal, None, 0.99, held_out=False, reason="", paths=paths)
    assert made.set_by == paths[29]
    assert made.false_alarm_limit == pytest.approx(1 - 0.05 ** (1 / 30))
    scores = table([0.3] * 40 + [0.7] * 60, [False] * 40 + [True] * 60)
    decisions = all_decisions([made], scores)
    first, second = decision_warnings([made], decisions, TRIAL, "image")
    assert first.startswith(
        "nut, 4 shots, seed 0: nut/train/good/029.png sets the threshold 0.810, far above 29 "
        "other images"
    )
    assert second == (
        "nut, 4 shots, seed 0: at the threshold 0.810, 0 of 40 good images called anomalous, "
        "60 of 60 anomalous missed."
    )
    assert not list(decision_warnings([made], decisions, Trial(1, 0), "image"))
    calm = from_normal(
        "nut", TRIAL, normal[:29], None, 0.99, held_out=False, reason="", paths=paths
    )  # fmt: skip
    assert not list(decision_warnings([calm], all_decisions([calm], scores), TRIAL, "image"))


def test_parts_are_called_parts() -> None:
    scores = table([0.6, 0.9], [False, True])
    (found,) = decisions = all_decisions([threshold(0.5)], scores)
    assert found.sentence("part") == "1 of 1 good part called anomalous, 0 of 1 anomalous missed"
    (line,) = decision_warnings([threshold(0.5)], decisions, TRIAL, counted_noun("folder"))
    assert line == f"nut, 4 shots, seed 0: at the threshold 0.500, {found.sentence('part')}."
    assert counted_noun(None) == "image"
