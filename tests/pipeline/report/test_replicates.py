"""Intervals of pixel metrics from a run's replicates, and of differences between two runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.report.plots import MEAN
from pipeline.report.replicates import sample_differences, sample_intervals, samples

R = 200
METRIC = "full_pixel_ap"


def table(values: dict[tuple[str, int], np.ndarray]) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "category": category,
                "shots": 1,
                "seed": seed,
                "replicate": np.arange(R),
                METRIC: column,
            }
        )
        for (category, seed), column in values.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_sample_is_the_mean_over_seeds_and_the_mean_over_categories() -> None:
    rise = np.arange(R) / R
    found = samples(
        table({("a", 0): rise, ("b", 0): 1 - rise, ("a", 1): rise + 0.5, ("b", 1): 1 - rise}),
        {1: ["a", "b"]},
    )
    np.testing.assert_allclose(found[METRIC, "a", 1], rise + 0.25)
    np.testing.assert_allclose(found[METRIC, MEAN, 1], 0.625)
    low, high = sample_intervals(found)[METRIC, "a", 1]
    assert (low, high) == pytest.approx(np.quantile(rise + 0.25, [0.025, 0.975]))


def test_an_undefined_metric_is_left_out_and_an_undefined_sample_does_not_count() -> None:
    rise = np.arange(R) / R
    rise[0] = np.nan
    nothing = np.full(R, np.nan)
    found = samples(table({("a", 0): rise, ("b", 0): nothing}), {1: ["a", "b"]})
    assert set(found) == {(METRIC, "a", 1), (METRIC, MEAN, 1)}
    assert sample_intervals(found)[METRIC, MEAN, 1] == sample_intervals(found)[METRIC, "a", 1]


def test_differences_are_paired_sample_by_sample() -> None:
    rng = np.random.default_rng(0)
    a = {("a", 0): rng.random(R), ("b", 0): rng.random(R)}
    b = {place: values + 0.01 for place, values in a.items()}
    first, second = (samples(table(values), {1: ["a", "b"]}) for values in (a, b))
    places = [("a", 1), (MEAN, 1)]
    found = sample_differences(first, second, places)
    assert set(found) == {(METRIC, "a", 1), (METRIC, MEAN, 1)}  # b is of other images
    for drawn in found.values():
        np.testing.assert_allclose(drawn, 0.01)
    less = samples(table({("a", 0): b["a", 0]}), {1: ["a", "b"]})
    assert set(sample_differences(first, less, places)) == {(METRIC, "a", 1)}  # another mean
