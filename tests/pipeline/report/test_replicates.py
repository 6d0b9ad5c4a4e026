"""Intervals of pixel metrics from a run's replicates, and of differences between two runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fade.errors import StoreError
from fade.replicates import mean_replicates
from pipeline.artefacts.catalogue import REPLICATES
from pipeline.artefacts.tables import write_table
from pipeline.report.plots import MEAN
from pipeline.report.replicates import (
    read_samples,
    sample_differences,
    sample_intervals,
    samples,
)

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


def test_a_metric_that_one_seed_lacks_has_no_part_in_the_mean() -> None:
    rise = np.arange(R) / R
    nothing = np.full(R, np.nan)
    of = {("a", 0): rise, ("a", 1): rise, ("b", 0): rise, ("b", 1): nothing}
    found = samples(table(of), {1: ["a", "b"], 4: ["a"]})
    assert set(found) == {(METRIC, "a", 1), (METRIC, MEAN, 1)}
    np.testing.assert_array_equal(found[METRIC, MEAN, 1], rise)
    assert not samples(table({("b", 0): nothing}), {1: ["b"]})


def test_samples_of_a_run_with_and_without_a_file_of_them(tmp_path: Path) -> None:
    rise = np.arange(R) / R
    assert read_samples(tmp_path / "summary.csv", {1: ["a"]}) == {}
    rows = table({("a", 0): rise, ("a", 1): rise + 1}).sample(frac=1, random_state=0)
    write_table(rows, tmp_path / REPLICATES.path.name)
    found = read_samples(tmp_path / "summary.csv", {1: ["a"]})
    np.testing.assert_allclose(found[METRIC, "a", 1], rise + 0.5)


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


def test_differences_are_over_the_samples_that_both_runs_drew() -> None:
    rng = np.random.default_rng(0)
    first = samples(table({("a", 0): rng.random(R)}), {1: ["a"]})
    short = {place: values[: R // 2] + 0.25 for place, values in first.items()}
    for a, b, sign in ((first, short, 1), (short, first, -1)):
        found = sample_differences(a, b, [("a", 1)])
        assert {len(drawn) for drawn in found.values()} == {R // 2}
        np.testing.assert_allclose(found[METRIC, "a", 1], sign * 0.25)


def test_the_mean_of_many_categories_with_few_images_keeps_its_samples() -> None:
    """Of 10 categories with one defect image each, one sample in 99 has a value of all."""
    columns = {
        (f"c{number}", 0): mean_replicates([f"c{number}/0.png"], [number / 10], R)
        for number in range(10)
    }
    found = samples(table(columns), {1: [name for name, _ in columns]})
    fewest = min(np.isfinite(column).sum() for column in columns.values())
    assert 100 < fewest == len(found[METRIC, MEAN, 1])
    np.testing.assert_allclose(found[METRIC, MEAN, 1], 0.45)
    higher = samples(
        table({place: column + 0.1 for place, column in columns.items()}),
        {1: [name for name, _ in columns]},
    )
    differences = sample_differences(found, higher, [(MEAN, 1)])
    np.testing.assert_allclose(differences[METRIC, MEAN, 1], 0.1)


def test_differences_need_samples_in_which_both_are_defined() -> None:
    first = samples(table({("a", 0): np.arange(R) / R}), {1: ["a"]})
    some, none = (
        {place: np.where(np.arange(R) < defined, values, np.nan) for place, values in first.items()}
        for defined in (40, 39)
    )
    places = [("a", 1), (MEAN, 1)]
    assert set(sample_differences(first, some, places)) == set(first)
    assert not sample_differences(first, none, places)
    assert not sample_intervals(none)
    other = {("another_metric", "a", 1): first[METRIC, "a", 1]}
    assert not sample_differences(first, other, places)


def test_a_mean_is_compared_where_it_is_of_the_same_categories_at_those_shots() -> None:
    """Whatever the categories are at other shots, and of other metrics."""
    values = np.arange(R) / R
    first = {(METRIC, name, shots): values for name in ("a", MEAN) for shots in (1, 4)}
    more = {(METRIC, "b", 4): values, ("another_metric", "b", 1): values}
    found = sample_differences(first, first | more, [("a", 1), (MEAN, 1), (MEAN, 4)])
    assert set(found) == {(METRIC, "a", 1), (METRIC, MEAN, 1)}


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop(columns="replicate"),
        lambda table: table.assign(full_pixel_ap="x"),
        lambda table: pd.concat([table, table.assign(seed=1).head(1)]),
    ],
)
def test_another_table_holds_no_replicates(
    change: Callable[[pd.DataFrame], pd.DataFrame], tmp_path: Path
) -> None:
    table = pd.DataFrame(
        {"category": "a", "shots": 1, "seed": 0, "replicate": [0, 1], "full_pixel_ap": 0.5}
    )
    write_table(change(table), tmp_path / REPLICATES.path.name)
    with pytest.raises(
        StoreError, match=r"replicates\.parquet holds no replicates of metrics: run"
    ):
        read_samples(tmp_path / "summary.csv", {1: ["a"]})
