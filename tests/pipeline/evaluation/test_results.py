"""Result tables: means over categories and seeds, and what is undefined in them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fade.metrics import METRIC_NAMES, PixelHistogram
from fade.rates import RATES
from fade.regions import label_regions
from fade.types import Trial
from pipeline.config.load import parse_params
from pipeline.config.schema import Params
from pipeline.evaluation.results import (
    MEAN,
    evaluation_remarks,
    later_columns,
    log_means,
    mean_counts,
    mean_metrics,
    metric_names,
    metrics_table,
    summary_table,
)
from pipeline.evaluation.thresholds import Threshold
from pipeline.evaluation.vanished import Vanished
from tests.projects import changed, golden_params

TRIALS = [Trial(1, 0), Trial(1, 1)]


def params(**leaves: object) -> Params:
    return parse_params(changed(golden_params("fewshot1_both_seed0", Path("w.pt")), **leaves))


def scores(values: dict[tuple[str, int], list[tuple[float, bool]]]) -> pd.DataFrame:
    rows = [
        (category, 1, seed, score, bad)
        for (category, seed), images in values.items()
        for score, bad in images
    ]
    return pd.DataFrame(rows, columns=["category", "shots", "seed", "score", "is_anomaly"])


PERFECT, WRONG = [(0.1, False), (0.9, True)], [(0.9, False), (0.1, True)]
GOOD_ONLY = [(0.1, False), (0.3, False)]


@pytest.fixture(scope="module")
def table() -> tuple[pd.DataFrame, list[dict[str, object]]]:
    found = scores(
        {
            ("a", 0): PERFECT, ("b", 0): WRONG, ("c", 0): GOOD_ONLY,
            ("a", 1): PERFECT, ("b", 1): PERFECT, ("c", 1): GOOD_ONLY,
        }
    )  # fmt: skip
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = True
    histogram = PixelHistogram.of_image((mask * 200).astype(np.uint8), label_regions(mask))
    histograms = {("a", trial): histogram for trial in TRIALS}
    return metrics_table(found, histograms, ["a", "b", "c", "d"], TRIALS, params())


def test_rows_and_order(table: tuple[pd.DataFrame, list[dict[str, object]]]) -> None:
    metrics, _ = table
    assert metrics.columns.tolist() == ["category", "shots", "seed", *metric_names(params())]
    assert metrics["category"].tolist() == ["a", "b", "c", "d", MEAN] * 2
    assert metrics["seed"].tolist() == [0] * 5 + [1] * 5


def test_mean_is_over_the_categories_that_have_a_value(
    table: tuple[pd.DataFrame, list[dict[str, object]]],
) -> None:
    metrics, _ = table
    of = metrics.set_index(["category", "seed"])["full_image_auroc"]
    assert of["a", 0] == 1
    assert of["b", 0] == 0
    assert math.isnan(of["c", 0])
    assert math.isnan(of["d", 0])
    assert of[MEAN, 0] == 0.5
    assert of[MEAN, 1] == 1
    assert metrics.set_index(["category", "seed"])["full_pixel_auroc"][MEAN, 0] == 1
    counts = mean_counts(metrics)
    assert counts["full_image_auroc"] == 2
    assert counts["full_pixel_auroc"] == 1


def test_every_undefined_value_has_its_reason(
    table: tuple[pd.DataFrame, list[dict[str, object]]],
) -> None:
    metrics, reasons = table
    told = {(r["category"], r["seed"], r["metric"]) for r in reasons}
    empty = {
        (row["category"], row["seed"], metric)
        for row in metrics.to_dict("records")
        for metric in metric_names(params())
        if row["category"] != MEAN and math.isnan(row[metric])
    }
    assert told == empty
    assert len(reasons) == len(told)
    assert all(r["reason"] for r in reasons)
    assert json.loads(json.dumps(reasons, allow_nan=False)) == reasons


def test_summary_is_over_seeds_of_the_population(
    table: tuple[pd.DataFrame, list[dict[str, object]]],
) -> None:
    summary = summary_table(table[0])
    assert summary["category"].tolist() == ["a", "b", "c", "d", MEAN]
    rows = summary.set_index("category")
    assert rows.loc["b", "full_image_auroc_mean"] == 0.5
    assert rows.loc["b", "full_image_auroc_std"] == 0.5  # of the population, not 0.707
    assert rows.loc[MEAN, "full_image_auroc_mean"] == 0.75
    assert rows["full_image_auroc_mean"].isna()["c"]


def test_json_has_no_nan(table: tuple[pd.DataFrame, list[dict[str, object]]]) -> None:
    means = mean_metrics(summary_table(table[0]))
    assert list(means) == ["shots1"]
    assert means["shots1"]["full_image_auroc"] == 0.75
    json.dumps(means, allow_nan=False)
    nothing = scores({("c", 0): GOOD_ONLY})
    metrics, _ = metrics_table(nothing, {}, ["c"], TRIALS[:1], params())
    assert mean_metrics(summary_table(metrics)) == {"shots1": {}}
    assert set(mean_counts(metrics).values()) == {0}


def test_mode_none_is_a_reason() -> None:
    found = scores({("a", 0): PERFECT})
    for leaf, chosen in (
        ("classification_mode", METRIC_NAMES[:3]),
        ("segmentation_mode", METRIC_NAMES[3:]),
    ):
        metrics, reasons = metrics_table(
            found, {}, ["a"], TRIALS[:1], params(**{f"fusion__{leaf}": "none"})
        )
        assert metrics[list(chosen)].isna().all(axis=None)
        assert {r["reason"] for r in reasons if r["metric"] in chosen} == {f"fusion.{leaf} is none"}


def test_nothing_at_all() -> None:
    metrics, reasons = metrics_table(scores({}), {}, [], TRIALS, params())
    empty = metrics.iloc[:0]
    assert not reasons
    assert metrics[list(METRIC_NAMES)].isna().all(axis=None)
    assert summary_table(empty).empty
    assert mean_metrics(summary_table(empty)) == {}
    assert mean_counts(empty) == dict.fromkeys(metric_names(params()), 0)


def test_remarks_count_images_without_mask_or_label() -> None:
    tests = pd.DataFrame(
        {
            "category": list("aaaabb"), "is_anomaly": [True, True, False, None, True, False],
            "mask": ["m.png", None, None, None, "n.png", None],
        }
    )  # fmt: skip
    metrics = pd.DataFrame(columns=["category", "shots", "seed", "full_image_auroc"])
    lost = {"a": Vanished(images=1, factor=2)}
    found = evaluation_remarks(tests, metrics, [], ["a", "b"], lost, params())
    assert found["without_mask"] == {"a": 1}
    assert found["without_label"] == {"a": 1}
    assert found["categories"] == 2
    (warning,) = found["warnings"]
    assert "in 1 of 1 defect image with a mask" in warning


def test_rates_are_those_of_the_threshold_of_each_category_and_trial() -> None:
    images = [(0.1, False), (0.5, False), (0.6, False), (0.5, True), (0.9, True)]
    found = scores({(category, seed): images for seed in (0, 1) for category in "ab"})
    mask = np.eye(4, dtype=bool)[:1]
    histogram = PixelHistogram.of_image((mask * 200).astype(np.uint8), label_regions(mask))
    declared = [
        Threshold("a", 1, 0, 0.5, 200, "training", 9, "of 9"),
        Threshold("a", 1, 1, 0.05, 199, "training", 9, "of 9"),
        Threshold("b", 1, 0, None, None, "none", 0, "of none"),
    ]
    metrics, reasons = metrics_table(
        found, dict.fromkeys([(c, t) for c in "ab" for t in TRIALS], histogram), ["a", "b"], TRIALS,
        params(), thresholds=declared,
    )  # fmt: skip
    names = [f"full_{of}_{rate}" for of in ("image", "pixel") for rate in RATES]
    rows = {
        (str(category), seed): values
        for category, seed, *values in metrics[["category", "seed", *names]].to_numpy().tolist()
    }
    # of the images above 0.5 one is anomalous and one good; of the pixels none is above 200
    assert rows["a", 0] == [2 / (2 + 2), 1 / 2, 1 / 3, 0, 0, 0]
    assert rows["a", 1] == [2 * 2 / (5 + 2), 1, 1, 1, 1, 0]
    assert all(math.isnan(value) for seed in (0, 1) for value in rows["b", seed])
    why = {(one["seed"], one["reason"]) for one in reasons if one["metric"] in names}
    assert why == {(0, "no threshold: of none"), (1, "no threshold")}


def test_columns_that_came_later_are_those_beyond_the_eight() -> None:
    names = ["category", "shots", *METRIC_NAMES, "full_image_auroc_std", "full_image_ap"]
    assert later_columns(pd.DataFrame(columns=names)) == ["full_image_ap"]


def test_the_log_says_what_is_undefined(caplog: pytest.LogCaptureFixture) -> None:
    row = {"category": "mean", "shots": 4, "seed": 0, "full_image_auroc": np.nan}
    metrics = pd.DataFrame([row | {"full_pixel_auroc": 0.75, "full_pixel_au_pro": 0.5}])
    with caplog.at_level("INFO", logger="fade"):
        log_means(mean_metrics(summary_table(metrics)))
        log_means({})
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "4 shots: image AUROC undefined, pixel AUROC 75.0, AUPRO 50.0"
    assert said[1] == "no test images, so no metrics"
