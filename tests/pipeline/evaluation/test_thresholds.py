"""Thresholds: where they come from, what they promise, and what a run says of them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.errors import ParameterError, StoreError
from fade.levels import FINE, UNIT, Scale
from fade.metrics import PixelHistogram, image_metrics, pixel_metrics
from fade.regions import label_regions
from fade.sampling import reference_order
from fade.types import Trial
from pipeline.artefacts.tables import read_json, write_json
from pipeline.config.load import parse_params
from pipeline.evaluation.guarantee import false_alarm_limit
from pipeline.evaluation.normal_thresholds import (
    from_normal,
    normal_level,
    overridden,
    threshold_rank,
)
from pipeline.evaluation.thresholds import (
    Threshold,
    best_level,
    best_threshold,
    from_labels,
    read_thresholds,
    write_thresholds,
)
from pipeline.evaluation.trial_thresholds import (
    calibration_parts,
    label_thresholds,
    normal_thresholds,
)
from pipeline.scoring.calibration import trial_images
from stages.select import select_calibration
from tests.projects import changed, golden_params, run_stages
from tests.stages.test_vision_encoder import vision_params

Params = dict[str, Any]
SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=30)
QUANTILES = st.floats(0.01, 1)


@given(SCORES, QUANTILES)
@settings(max_examples=30, deadline=None)
def test_so_many_normal_images_stay_normal(scores: list[float], quantile: float) -> None:
    values = np.array(scores)
    threshold = np.sort(values)[threshold_rank(len(values), quantile) - 1]
    assert threshold in scores
    assert (values <= threshold).mean() >= quantile - 1e-9
    assert (values < threshold).mean() <= quantile + 1e-9


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60), QUANTILES)
@settings(max_examples=30, deadline=None)
def test_so_many_normal_pixels_stay_normal(levels: list[int], quantile: float) -> None:
    level = normal_level(np.bincount(levels, minlength=256), quantile)
    assert level in levels
    assert (np.array(levels) <= level).mean() >= quantile - 1e-6
    assert (np.array(levels) < level).mean() < quantile


def test_shares_that_floats_miss() -> None:
    assert 0.29 * 100 < 29
    assert normal_level(np.bincount(np.arange(100), minlength=256), 0.29) == 28
    assert normal_level(np.bincount([3, 200], minlength=256), 1.0) == 200


def f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.booleans()), min_size=1))
@settings(max_examples=30, deadline=None)
def test_best_threshold_reaches_the_metric(pairs: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in pairs])
    truth = np.array([label for _, label in pairs])
    threshold = best_threshold(scores, truth)
    if truth.all() or not truth.any():
        assert threshold is None
        return
    assert threshold is not None
    values, _ = image_metrics(scores, truth)
    assert f1(scores > threshold, truth) == pytest.approx(values["full_image_f1_max"])


def test_best_threshold_lies_between() -> None:
    assert best_threshold(np.array([0.2, 0.6]), np.array([False, True])) == pytest.approx(0.4)
    high = np.nextafter(0.2, 1)
    threshold = best_threshold(np.array([0.2, high]), np.array([False, True]))
    assert threshold is not None
    assert 0.2 <= threshold < high


def histogram(levels: np.ndarray, mask: np.ndarray) -> PixelHistogram:
    return PixelHistogram.of_image(levels, label_regions(mask))


def test_best_level_reaches_the_metric() -> None:
    dice = np.random.default_rng(0)
    mask = np.zeros((16, 16), bool)
    mask[:5, :5] = True
    levels = np.clip(dice.normal(80, 40, (16, 16)) + 60 * mask, 0, 255).astype(np.uint8)
    found = histogram(levels, mask)
    level = best_level(found)
    assert level is not None
    assert 0 <= level <= 254
    best = pixel_metrics(found)[0]["full_pixel_f1_max"]
    assert f1(levels > level, mask) == pytest.approx(best)
    assert best_level(histogram(levels, np.zeros_like(mask))) is None


def test_what_thresholds_say() -> None:
    trial, none = Trial(2, 0), np.zeros(0)
    found = from_normal("a", trial, none, None, 0.9, held_out=False, reason="no image")
    assert (found.image, found.pixel, found.source) == (None, None, "none")
    assert found.remark == "no decision: no image"
    scores = np.array([0.1, 0.3])
    found = from_normal("a", trial, scores, None, 0.9, held_out=True, reason="")
    assert (found.image, found.pixel, found.images, found.source) == (0.3, None, 2, "references")
    assert "rests on 2 reference images" in found.remark
    few = [
        from_normal("a", trial, np.zeros(n), None, 0.9, held_out=False, reason="") for n in (9, 10)
    ]
    assert [found.remark.endswith("the highest of them") for found in few] == [True, False]
    unscored = from_normal("a", trial, scores * np.nan, None, 0.9, held_out=False, reason="")
    assert unscored.image is None
    assert unscored.remark.endswith("; none on image scores, which single images do not have")
    labels = np.array([False, True])
    found = from_labels("a", trial, scores, labels, None)
    assert found.image == pytest.approx(0.2)
    assert "optimistic" in found.remark
    assert from_labels("a", trial, scores, labels | True, None).source == "none"
    assert from_labels("a", trial, scores * np.nan, labels, None).image is None
    pixels = histogram(np.array([[0, 9]], np.uint8), np.array([[False, True]]))
    unscored = from_labels("a", trial, scores * np.nan, labels, pixels)
    assert (unscored.image, unscored.pixel) == (None, 8)
    assert unscored.remark.endswith(
        "optimistic; none on image scores, which single images do not have"
    )


def test_a_rate_of_false_alarms_is_asked_for() -> None:
    """Which scores keep it: at the r-th largest of n, the bound of a beta variable decides."""
    trial, scores = Trial(1, 0), np.arange(1000) / 1000

    def asked(count: int, rate: float) -> Threshold:
        return from_normal(
            "a", trial, scores[:count], None, 0.5, held_out=False, reason="", false_alarms=rate,
            paths=[f"{k}.png" for k in range(count)],
        )  # fmt: skip

    plenty = asked(1000, 0.01)
    above = int((scores > (plenty.image or 0)).sum())
    assert false_alarm_limit(1000, above) <= 0.01 < false_alarm_limit(1000, above + 1)
    assert (above, plenty.lacking) == (4, None)  # 95 % limits: 0.0092 of 4, 0.0105 of 5
    assert plenty.set_by == "995.png"
    assert "with 4 of them above it, the lowest score that keeps at most 1 % false" in plenty.remark
    exact = asked(299, 0.01)
    assert (exact.image, exact.lacking) == (0.298, None)
    few = asked(50, 0.01)
    assert (few.image, few.lacking) == (0.049, 249)
    assert few.false_alarm_limit == pytest.approx(1 - 0.05 ** (1 / 50))
    assert "249 more good images are lacking, and the highest score keeps 5.9 %" in few.remark
    assert few.as_json()["lacking"] == 249
    assert "lacking" not in exact.as_json()


@pytest.mark.parametrize("scale", [UNIT, Scale(FINE, 0.01, 3.0)])
def test_a_factor_is_on_scores_and_on_the_values_of_levels(scale: Scale) -> None:
    scores, none = np.array([0.1, 0.3, 0.2]), PixelHistogram.empty(scale.count)
    for level in (0, 3, 11, 33, 66, 100, 127):
        none.normal[:] = 0
        none.normal[level] = 5
        for factor in (2.0, 0.5):
            found = from_normal(
                "a", Trial(1, 0), scores, none, 0.9, held_out=False, reason="", factor=factor,
                scale=scale,
            )  # fmt: skip
            exact = Fraction(factor) * level
            if scale != UNIT:  # the offset is 300 levels
                exact += 300 * (Fraction(factor) - 1)
            assert found.pixel == max(math.floor(exact), 0)
            assert found.image == pytest.approx(0.3 * factor)
            assert (found.false_alarm_limit is None) == (factor < 1)
            assert found.remark.endswith(f", times {factor:g}")
    highest = PixelHistogram.empty()
    highest.normal[200] = 1
    beyond = from_normal(
        "a", Trial(1, 0), scores, highest, 0.9, held_out=False, reason="", factor=2.0
    )
    assert beyond.pixel == 255


def test_views_of_one_part_do_not_count_as_images_of_several() -> None:
    """With views that are nearly alike, the limit of 50 images holds in half of the cases."""
    rng, trial, normal = np.random.default_rng(0), Trial(1, 0), NormalDist()
    names = [f"{view}" for view in np.repeat(range(10), 5)]
    kept = {True: 0, False: 0}
    for _ in range(600):
        of_part = rng.normal(size=10)
        scores = (0.97**0.5 * np.repeat(of_part, 5)) + 0.03**0.5 * rng.normal(size=50)
        for grouped in kept:
            found = from_normal(
                "a", trial, scores, None, 0.96, held_out=False, reason="", bounded=False,
                parts=names if grouped else None,
            )  # fmt: skip
            assert found.image is not None
            assert found.false_alarm_limit is not None
            kept[grouped] += 1 - normal.cdf(found.image) <= found.false_alarm_limit
    assert kept[False] < 450
    assert kept[True] > 570
    assert (found.parts, found.as_json().get("parts")) == (None, None)


def test_what_is_said_of_parts() -> None:
    scores, names = np.arange(50) / 50, [f"{view // 5}" for view in range(50)]

    def asked(rate: float | None) -> Threshold:
        return from_normal(
            "a", Trial(1, 0), scores, None, 0.99, held_out=False, reason="", false_alarms=rate,
            parts=names,
        )  # fmt: skip

    found = asked(None)
    assert (found.images, found.parts, found.as_json()["parts"]) == (50, 10, 10)
    assert found.false_alarm_limit == pytest.approx(1 - 0.05**0.1)
    assert "over 50 training images outside the bank: the highest of them; they" in found.remark
    assert found.remark.endswith("they show 10 parts")
    few, exact = asked(0.1), asked(0.4)
    assert (few.image, few.lacking) == (0.98, 19)
    assert "19 more good parts are lacking, and the highest score keeps 25.9 %" in few.remark
    assert (exact.image, exact.lacking) == (scores[-2], None)  # 1 of 10 parts keeps 39.4 %
    given = overridden(found, 0.97, scores.tolist(), "somebody", names)
    assert given.false_alarm_limit == pytest.approx(false_alarm_limit(10, 1))


def test_one_odd_image_is_told_with_the_thresholds_that_follow() -> None:
    def warning(scores: list[float], **options: Any) -> str:
        made = from_normal(
            "a", Trial(1, 0), np.array(scores), None, 0.7, held_out=False, reason="", **options
        )
        return made.warning

    odd = [0.9, 0.2, 0.3, 0.25, 0.22]
    assert warning(odd) == ""  # 0.3 is the threshold: the fourth of five
    asked = {"false_alarms": 0.01, "paths": list("abcde")}
    assert warning(odd, **asked) == (
        "a sets the threshold 0.900, far above 4 other images (median 0.235; without it the "
        "threshold is 0.300): look at it, and remove it from the training images if it is not good"
    )
    doubled = warning(odd, factor=2.0, **asked)
    assert doubled.startswith("a sets the threshold 1.800, far above 4 other images (median 0.235;")
    assert "without it the threshold is 0.600)" in doubled
    # how near scores count as equal follows their size where they have no limit
    small = [value / 1000 for value in (20.0, 10, 10, 10, 10)]
    assert warning(small, false_alarms=0.01) == ""
    assert "one image sets" in warning(small, false_alarms=0.01, bounded=False)


def test_of_equally_good_thresholds_the_highest() -> None:
    truth = np.array([True, False, True])
    # below all three F1 is 4 / 5, above 0.5 it is 2 / 3
    assert best_threshold(np.array([0.2, 0.5, 0.9]), truth) == np.nextafter(0.2, -1)
    good = np.array([False, True, False, False, True])  # 2 / 3 above 0.1 and above 0.4
    assert best_threshold(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), good) == pytest.approx(0.45)
    levels = np.array([[0, 3, 7, 7, 9]], np.uint8)
    assert best_level(histogram(levels, good[None])) == 8
    assert best_level(histogram(levels, good[None] | True)) is None
    # a threshold below every level would have the better F1, 6 / 7
    mask = np.array([[True, True, True, False]])
    assert best_level(histogram(np.array([[0, 0, 1, 0]], np.uint8), mask)) == 0


def test_a_factor_that_lowers_a_threshold_keeps_no_rate() -> None:
    """One above 1 lowers what is below 0, one below 1 raises it."""

    def limit(factor: float) -> float | None:
        scores = -np.arange(1.0, 60.0)
        found = from_normal(
            "a", Trial(1, 0), scores, None, 1.0, held_out=False, reason="", factor=factor
        )
        assert found.image == -factor
        return found.false_alarm_limit

    assert limit(1.0) == limit(0.5) == false_alarm_limit(59, 0)
    assert limit(2.0) is None


def test_thresholds_that_are_given_say_what_they_keep() -> None:
    scores = np.arange(50) / 100
    found = from_normal("a", Trial(1, 0), scores, None, 0.9, held_out=False, reason="")
    given = overridden(found, 0.475, scores, "threshold.overrides")
    assert (given.image, given.source, given.set_by) == (0.475, "given", None)
    assert given.false_alarm_limit == false_alarm_limit(50, 2)
    assert given.remark == "given by threshold.overrides; above it 2 of 50 normal images"
    unknown = overridden(found, 0.475, np.zeros(0), "--threshold")
    assert (unknown.false_alarm_limit, unknown.remark) == (None, "given by --threshold")
    assert overridden(found, -1.0, scores, "x").false_alarm_limit == pytest.approx(1)
    at_one = overridden(found, 0.48, scores, "x")  # what is at the threshold is not above it
    assert at_one.false_alarm_limit == false_alarm_limit(50, 1)
    unscored = overridden(found, 0.48, np.append(scores, np.nan), "x")
    assert (unscored.false_alarm_limit, unscored.remark) == (None, "given by x")
    with pytest.raises(ParameterError, match="x is nan, but must be a finite number"):
        overridden(found, float("nan"), scores, "x")


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    written = [
        Threshold("a", 1, 0, 0.5, None, "training", 3, "so"),
        Threshold("b", 1, 0, None, 7, "none", 0, ""),
    ]
    write_thresholds(written, {}, path)
    assert read_thresholds(path) == written
    path.write_text(json.dumps({"schema": 1, "thresholds": [{"category": "a"}]}))
    with pytest.raises(StoreError, match="threshold 1: shots is missing"):
        read_thresholds(path)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("image", "NaN", "input should be a finite number, not nan"),
        ("image", "1e999", "input should be a finite number, not inf"),
        ("image", "-Infinity", "input should be a finite number, not -inf"),
        ("image", '"0.5"', "input should be a valid number, not '0.5'"),
        ("image", "[]", r"input should be a valid number, not \[\]"),
        ("image", "true", "input should be a valid number, not true"),
        ("image", "1" + 400 * "0", r"input should be a valid number, not 1000\d+\.\.\."),
        ("pixel", "-5", "input should be greater than or equal to 0, not -5"),
        ("pixel", "70000", "input should be less than 65536, not 70000"),
        ("pixel", "1.5", r"input should be a valid integer, not 1\.5"),
        ("pixel", "[1]", r"input should be a valid integer, not \[1\]"),
        ("pixel", "true", "input should be a valid integer, not true"),
        (
            "source",
            '"weird"',
            "input should be 'training', 'references', 'labels', 'given' or 'none', not 'weird'",
        ),
        ("source", '["none"]', "input should be 'training'.* not .'none'."),
        ("images", '"many"', "input should be a valid integer, not 'many'"),
        ("images", "-1", "input should be greater than or equal to 0, not -1"),
        ("shots", "1.9", r"input should be a valid integer, not 1\.9"),
        ("seed", "null", "input should be a valid integer, not null"),
        ("category", '""', "string should have at least 1 character, not ''"),
        ("remark", "1", "input should be a valid string, not 1"),
    ],
)
def test_values_that_are_refused(tmp_path: Path, name: str, value: str, says: str) -> None:
    path = tmp_path / "thresholds.json"
    sound = asdict(Threshold("a", 1, 0, 0.5, 7, "training", 3, "so"))
    broken = {key: json.dumps(cell) for key, cell in (sound | {"category": "b"}).items()}
    broken[name] = value
    text = ", ".join(f'"{key}": {cell}' for key, cell in broken.items())
    path.write_text(f'{{"schema": 1, "thresholds": [{json.dumps(sound)}, {{{text}}}]}}')
    says = rf"thresholds\.json, threshold 2: {name}: {says}: run `fade run --force evaluate`"
    with pytest.raises(StoreError, match=says):
        read_thresholds(path)


def test_a_field_that_there_is_not(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    content = asdict(Threshold("a", 1, 0, 0.5, 7, "training", 3, "so")) | {"kind": 1}
    path.write_text(json.dumps({"schema": 1, "thresholds": [content]}))
    with pytest.raises(StoreError, match="threshold 1: kind is unknown"):
        read_thresholds(path)


@pytest.mark.parametrize(("pixel", "scale"), [(255, None), (65535, 0.5)])
def test_pixels_are_levels_of_the_maps(tmp_path: Path, pixel: int, scale: float | None) -> None:
    sound = Threshold("a", 1, 0, 0.5, pixel, "training", 3, "so", scale=scale, offset=scale)
    write_thresholds([sound], {}, tmp_path / "thresholds.json")
    assert read_thresholds(tmp_path / "thresholds.json") == [sound]
    if scale is None:
        write_thresholds([replace(sound, pixel=256)], {}, tmp_path / "thresholds.json")
        with pytest.raises(StoreError, match=r"threshold 1: pixel is 256, but .* from 0 to 255"):
            read_thresholds(tmp_path / "thresholds.json")


@pytest.mark.parametrize(
    ("thresholds", "says"),
    [
        ("0.5", "holds no thresholds"),
        ("null", "holds no thresholds"),
        ("[[]]", "holds no thresholds"),
        ('["0.5"]', "holds no thresholds"),
        ("[{}]", "threshold 1: category is missing"),
        ("[%, %]", "threshold 2: there is one of a at 1 shot, seed 0 already"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, thresholds: str, says: str) -> None:
    path = tmp_path / "thresholds.json"
    sound = json.dumps(asdict(Threshold("a", 1, 0, 0.5, 7, "training", 3, "so")))
    path.write_text(f'{{"schema": 1, "thresholds": {thresholds.replace("%", sound)}}}')
    with pytest.raises(StoreError, match=says):
        read_thresholds(path)


# which images


def train(hashes: str) -> pd.DataFrame:
    return pd.DataFrame(
        {"category": "a", "path": [f"{i}.png" for i in range(len(hashes))], "hash": list(hashes)}
    )


def calibration(images: pd.DataFrame, seeds: list[int], limit: int) -> list[str]:
    return select_calibration(images.assign(split="train"), ["a"], seeds, limit)["hash"].tolist()


def test_images_that_seeds_take_last_and_equal_ones_once() -> None:
    images = train("abcdefgh")
    for seed in (0, 1):
        order = [images["hash"][n] for n in reference_order(8, seed)]
        assert calibration(images, [seed], 3) == sorted(order[-3:])
    both = set(calibration(images, [0, 1], 2))
    firsts = {images["hash"][n] for seed in (0, 1) for n in reference_order(8, seed)[:3]}
    assert not both & firsts
    assert calibration(images, [0, 1], 50) == list("abcdefgh")
    assert calibration(train("abab"), [0], 50) == ["a", "b"]
    assert calibration(images, [0], 0) == []
    assert select_calibration(images.assign(split="test"), ["a", "b"], [0], 5).empty


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.sets(st.sampled_from("abcdef")))
@settings(max_examples=30, deadline=None)
def test_no_image_is_held_against_itself(candidates: list[str], references: set[str]) -> None:
    found = trial_images(candidates, references)
    others = [key for key in candidates if key not in references]
    assert found.held_out == (bool(candidates) and not others and len(references) > 1)
    assert list(found.keys) == (candidates if found.held_out else others)
    if found.held_out:
        assert found.keys
        assert set(found.keys) <= references
        assert len(references) > 1
    else:
        assert not set(found.keys) & references


@pytest.mark.parametrize("images", [0, 5])
def test_why_a_category_has_no_normal_images(images: int) -> None:
    """One has none, one its only reference, one an image beside it."""
    calibration = pd.DataFrame(
        {
            "category": ["one", "two", "two"],
            "path": ["a.png", "b.png", "c.png"],
            "hash": ["a", "b", "c"],
        }
    )
    selection = pd.DataFrame(
        {"category": ["none", "one", "two"], "seed": 0, "rank": 0, "hash": ["x", "a", "b"]}
    )
    params = parse_params(vision_params(vision__shots=[1], threshold__images=images))
    parts = calibration_parts(None, calibration, selection, ["none", "one", "two"], params)
    why = "threshold.images is 0" if not images else "there are no training images to calibrate on"
    only = "the bank uses the only image that there is to calibrate on: add training images"
    assert [part.images["hash"].tolist() for part in parts] == [[], [], ["c"]]
    assert [part.reason for part in parts[:2]] == [why, only]
    remarks = [found.remark for found in normal_thresholds(None, parts[:2], params, {})]
    assert remarks == [f"no decision: {why}", f"no decision: {only}"]


@pytest.mark.parametrize("source", ["labels", "normal"])
def test_a_given_threshold_is_that_of_its_category_in_each_trial(source: str) -> None:
    params = parse_params(vision_params(threshold__source=source, threshold__overrides={"b": 0.25}))
    if source == "labels":
        rows = [
            {"category": name, "shots": 1, "seed": 0, "is_anomaly": bad, "score": 0.5 + bad / 4}
            for name in "ab" for bad in (False, True)
        ]  # fmt: skip
        scores = pd.DataFrame(rows)
        found = label_thresholds(scores, {}, ["a", "b"], params.trials(), {}, {"b": 0.25})
        images = [0.625, 0.25, None, 0.25]
    else:
        none = pd.DataFrame({"category": [], "path": [], "hash": [], "seed": [], "rank": []})
        parts = calibration_parts(None, none, none, ["a", "b"], params)
        found = normal_thresholds(None, parts, params, {})
        images = [None, 0.25, None, 0.25]
    assert [one.category for one in found] == ["a", "b", "a", "b"]
    assert [one.trial for one in found] == [Trial(shots, 0) for shots in (1, 1, 2, 2)]
    assert [one.image for one in found] == images


# runs


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path) -> Params:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        features__store=str(tmp_path_factory.mktemp("thresholds") / "store"),
        evaluate__size=64,
        dataset__limit=2,
        dataset__categories=["weave"],
        threshold__quantile=0.5,
    )


def thresholds(folder: Path) -> dict[tuple[str, str], Threshold]:
    found = read_thresholds(folder / "results" / "thresholds.json")
    return {(threshold.category, threshold.trial.label): threshold for threshold in found}


def test_from_training_images(base: Params, tmp_path: Path) -> None:
    """The threshold is the quantile of what these images score as test images."""
    folder = run_stages(tmp_path / "run", changed(base, threshold__images=3))
    (found,) = thresholds(folder).values()
    chosen = pd.read_parquet(folder / "artefacts" / "calibration.parquet")
    selection = pd.read_parquet(folder / "artefacts" / "selection.parquet")
    assert (found.source, found.images) == ("training", 3)
    # the quantile is 0.5: the second of three, so that one of them is above it
    assert found.set_by in set(chosen["path"])
    assert found.false_alarm_limit == pytest.approx(false_alarm_limit(3, 1))
    assert not set(chosen["hash"]) & set(selection["hash"])
    leaves = {"threshold__images": 3, "threshold__overrides": {"weave": 0.0, "gone": 1}}
    run_stages(folder, changed(base, **leaves), "evaluate")
    (given_one,) = thresholds(folder).values()
    assert (given_one.image, given_one.source, given_one.images) == (0.0, "given", 3)
    assert given_one.remark.endswith("above it 3 of 3 normal images")
    assert given_one.pixel == found.pixel
    images = tmp_path / "images"
    root = Path(base["dataset"]["path"])
    for name in ("train/good", "test/good"):
        (images / "weave" / name).mkdir(parents=True)
    for path in selection["path"]:
        (images / path).write_bytes((root / path).read_bytes())
    for path in chosen["path"]:
        target = images / "weave" / "test" / "good" / Path(path).name
        target.write_bytes((root / path).read_bytes())
    asked = changed(
        base, dataset__path=str(images), dataset__watch=str(images), dataset__limit=None
    )
    tested = run_stages(tmp_path / "tested", asked)
    scores = pd.read_parquet(tested / "results" / "scores.parquet")["score"]
    assert found.image == pytest.approx(sorted(scores)[1], abs=1e-6)
    # without images to calibrate on, there is a line that says so, for any number of references
    sweep = run_stages(tmp_path / "sweep", changed(base, vision__shots=[1, 2]))
    for none in (*thresholds(tested).values(), *thresholds(sweep).values()):
        assert (none.image, none.pixel) == (None, None)
        assert none.remark == "no decision: threshold.images is 0"


def test_references_are_held_out_where_the_bank_uses_all(base: Params, tmp_path: Path) -> None:
    sweep = changed(
        base, vision__shots=[1, 8], threshold__images=50, evaluate__group=r"(good)/00[0-3]"
    )
    found = thresholds(run_stages(tmp_path / "sweep", sweep))
    one, all_of_them = found["weave", "shots1_seed0"], found["weave", "shots8_seed0"]
    assert (one.source, one.images) == ("training", 7)
    assert (all_of_them.source, all_of_them.images) == ("references", 8)
    assert (one.confidence, all_of_them.confidence) == ("95 %", "about 95 %")
    assert all_of_them.parts == 5
    assert all_of_them.false_alarm_limit == pytest.approx(false_alarm_limit(5, 4))
    assert one.image is not None
    assert all_of_them.image is not None
    assert 0 < all_of_them.image < one.image
    assert all_of_them.pixel is not None
    clusters = changed(sweep, vision__index="IVF2,Flat")
    found = thresholds(run_stages(tmp_path / "clusters", clusters))
    assert found["weave", "shots1_seed0"].source == "training"
    assert "vision.index" in found["weave", "shots8_seed0"].remark


def test_held_out_references_score_like_test_images(base: Params, tmp_path: Path) -> None:
    """Each against a bank of the others; equal images are one."""
    root = Path(base["dataset"]["path"]) / "weave" / "train" / "good"

    def run(name: str, train: dict[str, str], test: str, shots: int) -> Path:
        images = tmp_path / name / "images"
        for folder, files in (("train", train), ("test", {"000.png": test})):
            (images / "weave" / folder / "good").mkdir(parents=True)
            for target, source in files.items():
                (images / "weave" / folder / "good" / target).write_bytes(
                    (root / source).read_bytes()
                )
        asked = changed(
            base, dataset__path=str(images), dataset__watch=str(images), vision__shots=[shots],
            threshold={"images": 50, "quantile": 1.0},
        )  # fmt: skip
        return run_stages(tmp_path / name / "run", asked)

    one, other = "003.png", "005.png"
    scores = [
        pd.read_parquet(run(train, {"000.png": train}, test, 1) / "results" / "scores.parquet")
        for train, test in ((one, other), (other, one))
    ]
    expected = max(frame["score"].item() for frame in scores)
    equal = {"000.png": one, "001.png": other, "002.png": one}
    for name, train in (("two", {"000.png": one, "001.png": other}), ("equal", equal)):
        (found,) = thresholds(run(name, train, one, len(train))).values()
        assert (found.source, found.images) == ("references", 2)
        assert found.image == pytest.approx(expected, abs=1e-6)
    single = thresholds(run("single", {"000.png": one}, other, 1))["weave", "shots1_seed0"]
    assert (single.source, single.image) == ("none", None)
    assert "the bank uses the only image" in single.remark


def test_from_labels(base: Params, tmp_path: Path) -> None:
    folder = run_stages(tmp_path / "run", changed(base, threshold__source="labels"))
    (found,) = thresholds(folder).values()
    assert found.source == "labels"
    assert "optimistic" in found.remark
    scores = pd.read_parquet(folder / "results" / "scores.parquet")
    metrics = pd.read_csv(folder / "results" / "metrics.csv")
    above = (scores["score"] > found.image).to_numpy()
    best = metrics.loc[metrics["category"] == "weave", "full_image_f1_max"].item()
    labels = scores["is_anomaly"].to_numpy()
    assert f1(above, labels) == pytest.approx(best)
    assert (found.set_by, found.false_alarm_limit) == (None, None)
    (decided,) = read_json(folder / "results" / "evaluation.json")["decisions"]
    assert decided == {
        "category": "weave", "shots": found.shots, "seed": found.seed,
        "good": int((~labels).sum()), "false_alarms": int((above & ~labels).sum()),
        "anomalous": int(labels.sum()), "missed": int((~above & labels).sum()),
    }  # fmt: skip


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They lack who set a threshold and what it keeps."""
    old = {
        "category": "nut", "shots": 1, "seed": 0, "image": 0.5, "pixel": 9, "source": "training",
        "images": 3, "remark": "old",
    }  # fmt: skip
    write_json({"thresholds": [old]}, tmp_path / "thresholds.json")
    (found,) = read_thresholds(tmp_path / "thresholds.json")
    assert (found.set_by, found.false_alarm_limit, found.warning) == (None, None, "")
    for name, value in (("set_by", 3), ("false_alarm_limit", 1.5), ("warning", None)):
        write_json({"thresholds": [{**old, name: value}]}, tmp_path / "thresholds.json")
        with pytest.raises(StoreError, match=f"{name}: input should be .*, not "):
            read_thresholds(tmp_path / "thresholds.json")


@pytest.mark.parametrize("mode", ["language", "vision"])
def test_one_side_alone(base: Params, tmp_path: Path, mode: str) -> None:
    asked = changed(
        base, fusion__classification_mode=mode, fusion__segmentation_mode="none",
        threshold__images=2,
    )  # fmt: skip
    (found,) = thresholds(run_stages(tmp_path / "run", asked)).values()
    assert found.images == 2
    assert found.image is not None
    assert found.pixel is None


def test_no_test_images(base: Params, tmp_path: Path) -> None:
    import shutil

    images = tmp_path / "images"
    shutil.copytree(Path(base["dataset"]["path"]) / "weave" / "train", images / "weave" / "train")
    asked = changed(
        base, dataset__path=str(images), dataset__watch=str(images), threshold__images=2
    )
    (found,) = thresholds(run_stages(tmp_path / "run", asked)).values()
    assert (found.source, found.images) == ("training", 2)
