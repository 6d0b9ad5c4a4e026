"""Two runs over the same images: intervals and p-values of differences, or a refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fade.errors import DataError, StoreError
from fade.metrics import image_metrics
from fade.uncertainty import swapped_differences
from pipeline.artefacts.catalogue import REPLICATES, RUN, SCORES, SUMMARY
from pipeline.artefacts.tables import write_csv, write_json, write_table
from pipeline.process import progress
from pipeline.report import pairing
from pipeline.report.comparison import compare_runs, comparison_markdown
from pipeline.report.intervals import (
    ImageScores,
    Place,
    draw_seed,
    image_scores,
    metric_intervals,
    run_intervals,
)
from pipeline.report.pairing import Paired, paired_tests
from tests.pipeline.summaries import summary, write_project

AUROC = "full_image_auroc"


def scores(
    quality: float,
    categories: tuple[str, ...] = ("plate", "weave"),
    seeds: tuple[int, ...] = (0, 1),
) -> pd.DataFrame:
    """Scores of 20 good and 20 anomalous images a category, the latter higher by ``quality``."""
    parts = []
    for number, category in enumerate(categories):
        for seed in seeds:
            noise = np.random.default_rng([number, seed]).normal(size=40)
            labels = np.arange(40) >= 20
            parts.append(
                pd.DataFrame(
                    {
                        "image": [f"{category}/test/{n:02d}" for n in range(40)],
                        "category": category, "is_anomaly": labels, "shots": 1, "seed": seed,
                        "score": noise + quality * labels,
                    }
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def pair_scores(a: pd.DataFrame, b: pd.DataFrame) -> dict[Place, tuple[ImageScores, ImageScores]]:
    return pairing.pair_scores(*(image_scores(table, Path("scores.parquet")) for table in (a, b)))


def test_scores_without_a_limit_and_a_line_on_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks alone count, so distances of any size give what scores of 0 to 1 do."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    a, b = scores(1, ("weave",)), scores(2, ("weave",))
    lines: list[str] = []
    found = paired_tests(pair_scores(a, b), {}, 50, lines.append)
    assert len(lines) == 3
    assert lines[-1].startswith("comparing: 150 of 150 draws, ")
    a["score"], b["score"] = a["score"] * 1e7 - 3e8, b["score"] * 1e-7 + 5
    assert paired_tests(pair_scores(a, b), {}, 50) == found


def test_differences_that_are_sure_and_those_that_are_not() -> None:
    good, other = scores(3), scores(3)
    other["score"] = np.random.default_rng(9).normal(size=len(other))
    pairs = pair_scores(other, good)
    found = paired_tests(pairs, {1: ["plate", "weave"]})
    for category in ("plate", "weave", "mean"):
        sure = found[AUROC, category, 1]
        assert 0.2 < sure.low < sure.high < 0.8
        assert sure.p_value == pytest.approx(1 / 1001)
    # the mean is of more images, so it is surer than each category
    widths = {name: found[AUROC, name, 1].high - found[AUROC, name, 1].low for name in
              ("plate", "weave", "mean")}  # fmt: skip
    assert widths["mean"] < min(widths["plate"], widths["weave"])
    same = paired_tests(pair_scores(good, good), {1: ["plate", "weave"]})
    assert set(same.values()) == {Paired(0, 0, 1)}
    # a category more in one run: its means are of other categories
    assert (AUROC, "mean", 1) not in paired_tests(pairs, {})


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Of all pairs of an anomalous and a good image, the share in which the former scores higher."""
    pairs = [(x > y) + (x == y) / 2 for x in scores[labels] for y in scores[~labels]]
    return sum(pairs) / len(pairs)


def test_p_values_are_of_the_mean_over_seeds_and_of_the_mean_over_categories() -> None:
    """Each number of shots by itself, with the categories that it has."""
    table = pd.concat([scores(1), scores(1.5, ("nut",)).assign(shots=4)], ignore_index=True)
    noise = np.random.default_rng(5).normal(size=(2, len(table)))
    pairs = pair_scores(*(table.assign(score=table["score"] + one) for one in noise))
    found = paired_tests(pairs, {1: ["plate", "weave"], 4: ["nut"]}, 99)
    drawn: dict[str, tuple[float, np.ndarray]] = {}
    for (category, shots), (a, b) in pairs.items():
        each = [
            auroc(right, b.is_anomaly) - auroc(left, a.is_anomaly)
            for left, right in zip(a.scores, b.scores, strict=True)
        ]
        seed = draw_seed(category)
        drawn[category] = (
            sum(each) / len(each),
            swapped_differences(a.scores, b.scores, a.is_anomaly, 99, seed)[AUROC],
        )
        p_value = (1 + sum(np.abs(drawn[category][1]) >= abs(drawn[category][0]) - 1e-9)) / 100
        assert 0.02 < p_value < 0.9  # twice the difference would have another
        assert found[AUROC, category, shots].p_value == pytest.approx(p_value)
    value = (drawn["plate"][0] + drawn["weave"][0]) / 2
    of_both = (drawn["plate"][1] + drawn["weave"][1]) / 2
    p_value = (1 + sum(np.abs(of_both) >= abs(value) - 1e-9)) / 100
    assert found[AUROC, "mean", 1].p_value == pytest.approx(p_value)
    assert found[AUROC, "mean", 4] == found[AUROC, "nut", 4]
    assert {place[1:] for place in found} == {
        ("plate", 1), ("weave", 1), ("mean", 1), ("nut", 4), ("mean", 4)
    }  # fmt: skip


def test_there_is_no_mean_over_categories_that_are_not_all_paired() -> None:
    pairs = pair_scores(scores(1), scores(2))
    for names in (["plate"], ["plate", "weave", "nut"]):
        found = paired_tests(pairs, {1: names}, 9)
        assert {category for _, category, _ in found} == {"plate", "weave"}


def test_what_is_undefined_is_not_tested() -> None:
    good = scores(1, ("plate",)).query("not is_anomaly")
    pairs = pair_scores(good, good.assign(score=-good["score"]))
    assert not paired_tests(pairs, {1: ["plate"]}, 9)
    one = scores(1)
    assert not pair_scores(one.assign(score=np.nan), one)


def test_rows_may_come_in_any_order() -> None:
    one, other = scores(1), scores(2)
    wanted = paired_tests(pair_scores(one, other), {}, replicates=20)
    shuffled = other.sample(frac=1, random_state=0)
    assert paired_tests(pair_scores(one, shuffled), {}, replicates=20) == wanted


def test_intervals_hold_what_is_measured_and_shrink_with_more_images() -> None:
    table = image_scores(scores(1), Path("s"))
    found = metric_intervals(table, {1: ["plate", "weave"]})
    values = [
        np.mean([image_metrics(one, of.is_anomaly)[0][AUROC] for one in of.scores])
        for of in table.values()
    ]
    for name, value in (("plate", values[0]), ("weave", values[1]), ("mean", np.mean(values))):
        low, high = found[AUROC, name, 1]
        assert low < value < high
    widths = {name: np.ptp(found[AUROC, name, 1]) for name in ("plate", "weave", "mean")}
    assert widths["mean"] < min(widths["plate"], widths["weave"])
    assert metric_intervals(table, {1: ["plate", "weave"]}) == found
    # good images alone: AUROC is undefined, and so is its interval
    good = scores(1).query("not is_anomaly")
    assert not metric_intervals(image_scores(good, Path("s")), {1: ["plate", "weave"]})


def test_other_data_is_refused() -> None:
    one = scores(1)
    with pytest.raises(DataError, match=r"plate at 1 shot: seeds \[0, 1\] and \[0\]"):
        pair_scores(one, scores(1, seeds=(0,)))
    fewer = one[one["image"] != "weave/test/07"]
    with pytest.raises(DataError, match="1 image is in the first run alone, such as weave/test/07"):
        pair_scores(one, fewer)
    with pytest.raises(DataError, match="in the second run alone"):
        pair_scores(fewer, one)
    relabelled = one.assign(is_anomaly=one["is_anomaly"] | (one["image"] == "plate/test/03"))
    with pytest.raises(DataError, match="1 image has another label, such as plate/test/03"):
        pair_scores(one, relabelled)
    with pytest.raises(
        DataError, match="lack the score of a seed, or have it twice, in plate at 1"
    ):
        pair_scores(one, one.iloc[1:])
    with pytest.raises(DataError, match="have it twice, in plate at 1 shot; weave at 1 shot"):
        pair_scores(pd.concat([one, one]), one)
    assert set(pair_scores(one, scores(1, ("plate",)))) == {("plate", 1)}
    assert not pair_scores(one, one.assign(score=np.nan))


def test_compare_runs(tmp_path: Path) -> None:
    values = {("plate", 1): (0.5, 0.0), ("weave", 1): (0.5, 0.0), ("mean", 1): (0.5, 0.0)}
    a, b = (write_project(tmp_path / name, values) for name in ("a", "b"))
    write_table(scores(1), a / SCORES.path)
    assert all(row.paired is None for row in compare_runs(a, b))  # one has no scores
    write_table(scores(2), b / SCORES.path)
    found = compare_runs(a, b)
    assert [row.paired is not None for row in found] == [True] * 3 + [False] * 6
    text = comparison_markdown(found, "a", "b")
    assert text.count("| 95 % interval | p |") == 1
    assert "by permutation, over the same images." in text
    evaluate = {"size": 256, "pro_limit": [0.3, 0.05]}
    facts = {"test_data": {"plate": "1", "weave": "2"}, "parameters": {"evaluate": evaluate}}
    write_json(facts, a / RUN.path)
    for changes, words in (
        (
            {"test_data": {"plate": "1", "weave": "3"}},
            "weave: test images or masks of the same names",
        ),
        (
            {"parameters": {"evaluate": evaluate | {"size": "image"}}},
            r"size is 256 and image \(--unp",
        ),
        ({"parameters": {"evaluate": evaluate | {"pro_limit": 0.05}}}, "pro_limit is 0.3 and 0.05"),
    ):
        write_json(facts | changes, b / RUN.path)
        with pytest.raises(DataError, match=f"did not measure the same: .*{words}"):
            compare_runs(a, b)
    write_json(facts | {"parameters": {"evaluate": evaluate | {"size": 9}}}, b / RUN.path)
    assert compare_runs(a, b, [AUROC])[0].paired  # of images
    # one category alone: its rows are compared, and the mean, which is of another set, is not
    fewer = {place: value for place, value in values.items() if place[0] != "weave"}
    part = write_project(tmp_path / "part", fewer)
    write_table(scores(2, ("plate",)), part / SCORES.path)
    sets = {row.category: row.change for row in compare_runs(a, part, [AUROC])}
    assert sets == {"plate": 0, "weave": None, "mean": None}
    assert [row.change for row in compare_runs(a, part, [AUROC], paired=False)][-1] == 0
    other = write_project(tmp_path / "other", {("nut", 1): (0.5, 0.0), ("mean", 1): (0.5, 0.0)})
    with pytest.raises(DataError, match="no category at as many shots in common"):
        compare_runs(a, other)
    write_table(scores(2).query("image != 'plate/test/00'"), b / SCORES.path)
    with pytest.raises(DataError, match="--unpaired"):
        compare_runs(a, b)
    assert all(row.paired is None for row in compare_runs(a, b, paired=False))
    assert (AUROC, "mean", 1) in run_intervals(a)
    (a / SCORES.path).unlink()
    with pytest.raises(StoreError, match=r"has no scores\.parquet"):
        run_intervals(a)


def test_a_mean_has_a_difference_where_both_runs_have_it_of_the_same_categories(
    tmp_path: Path,
) -> None:
    """Metric by metric, and at each number of shots by itself."""
    places = [(name, shots) for shots in (1, 4) for name in ("plate", "weave", "mean")]
    first = summary(dict.fromkeys(places, (0.5, 0.0)))
    second = summary({place: (0.75, 0.0) for place in places if place != ("weave", 4)})
    second.loc[second["category"] == "weave", "full_pixel_auroc_mean"] = np.nan
    four = scores(1, ("plate",)).assign(shots=4)
    tables = [pd.concat([scores(1), scores(1).assign(shots=4)]), pd.concat([scores(2), four])]
    a, b = runs = tmp_path / "a", tmp_path / "b"
    for run, means, images in zip(runs, (first, second), tables, strict=True):
        write_csv(means, run / SUMMARY.path)
        write_table(images, run / SCORES.path)
    found = compare_runs(a, b, [AUROC, "full_pixel_auroc"])
    changes = {(row.metric, row.category, row.shots): row.change for row in found}
    for metric, weave in ((AUROC, 0.25), ("full_pixel_auroc", None)):
        assert changes[metric, "plate", 1] == changes[metric, "plate", 4] == 0.25
        assert (changes[metric, "weave", 1], changes[metric, "weave", 4]) == (weave, None)
        assert (changes[metric, "mean", 1], changes[metric, "mean", 4]) == (weave, None)
    for rows in (found, compare_runs(b, a, [AUROC])):
        assert {(row.category, row.shots) for row in rows if row.paired} == {
            ("plate", 1), ("weave", 1), ("mean", 1), ("plate", 4)
        }  # fmt: skip


def test_metrics_of_pixels_are_paired_by_the_replicates_of_both_runs(tmp_path: Path) -> None:
    metric = "full_pixel_auroc"
    drawn = np.random.default_rng(0).normal(0.02, 0.02, size=(2, 199))
    runs = []
    for name, factor in (("a", 0), ("b", 1)):
        run = write_project(
            tmp_path / name, {(name, 1): (0.5, 0.0) for name in ("plate", "weave", "mean")}
        )
        write_table(scores(1), run / SCORES.path)
        rows = [
            pd.DataFrame(
                {
                    "category": category, "shots": 1, "seed": seed, "replicate": np.arange(199),
                    metric: 0.5 + factor * values,
                }
            )
            for seed in (0, 1)
            for category, values in zip(("plate", "weave"), drawn, strict=True)
        ]  # fmt: skip
        write_table(pd.concat(rows), run / REPLICATES.path)
        runs.append(run)
    found = compare_runs(runs[0], runs[1], [metric])
    expected = {"plate": drawn[0], "weave": drawn[1], "mean": drawn.mean(axis=0)}
    for row in found:
        values = expected[row.category]
        below = min(sum(values <= 0), sum(values >= 0))
        assert row.paired is not None
        assert (row.paired.low, row.paired.high) == pytest.approx(
            np.quantile(values, (0.025, 0.975))
        )
        assert row.paired.p_value == pytest.approx(2 * (1 + below) / 200)


def test_images_are_paired_only_where_both_runs_have_their_scores(tmp_path: Path) -> None:
    values = {("plate", 1): (0.5, 0.0), ("mean", 1): (0.5, 0.0)}
    one, other = (write_project(tmp_path / name, values) for name in ("one", "other"))
    write_table(scores(1, ("plate",)), one / SCORES.path)
    for a, b in ((one, other), (other, one)):
        assert [row.paired for row in compare_runs(a, b, [AUROC])] == [None, None]
