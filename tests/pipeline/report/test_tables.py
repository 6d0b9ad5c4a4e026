"""The report's tables of metrics: which rows, seeds and notes they have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from fade.metrics import METRIC_NAMES
from pipeline.report.input import ReportInput
from pipeline.report.plots import UNDEFINED
from pipeline.report.tables import ReportCell, runs, tables
from tests.pipeline.report.test_report import make_report, make_summary

AUROC = METRIC_NAMES[0]
REASON = "no good image"
VALUES = {
    ("nut", 4, 3): 0.9, ("bolt", 4, 3): 0.7, ("mean", 4, 3): 0.8,
    ("nut", 1, 1): 0.6, ("bolt", 1, 1): np.nan, ("mean", 1, 1): 0.6,
    ("nut", 1, 0): 0.4, ("bolt", 1, 0): np.nan, ("mean", 1, 0): 0.4,
}  # fmt: skip


def report_of(values: dict[tuple[str, int, int], float]) -> ReportInput:
    metrics = pd.DataFrame(
        [
            {"category": category, "shots": shots, "seed": seed}
            | dict.fromkeys(METRIC_NAMES, value)
            for (category, shots, seed), value in values.items()
        ]
    )
    reasons = {(*place, AUROC): REASON for place, value in values.items() if np.isnan(value)}
    return make_report(metrics=metrics, summary=make_summary(metrics), reasons=reasons)


def test_each_number_of_shots_has_its_seeds_and_a_mean_over_what_is_defined() -> None:
    one, four = tables(report_of(VALUES))
    assert (one.shots, one.seeds, four.shots, four.seeds) == (1, (0, 1), 4, (3,))
    assert [row.label for row in one.rows] == [row.label for row in four.rows] == ["nut", "bolt"]
    spread = f"{100 * np.sqrt(2) * 0.1:.1f}"  # as the tests' summary has it
    assert [row.cells[0] for row in (*one.rows, one.mean)] == [
        ReportCell("50.0", spread, "0.5"),
        ReportCell(UNDEFINED, note=REASON),
        ReportCell("50.0", spread, "0.5", "mean over 1 of 2 categories"),
    ]
    # one seed has no deviation, and of all categories nothing is said
    assert [row.cells[0] for row in (*four.rows, four.mean)] == [
        ReportCell("90.0", "", "0.9"), ReportCell("70.0", "", "0.7"), ReportCell("80.0", "", "0.8"),
    ]  # fmt: skip
    assert {cell.note for cell in one.rows[1].cells[1:]} == {"undefined"}


def test_a_metric_that_one_seed_lacks_says_which() -> None:
    (found,) = tables(report_of({("nut", 2, 0): 0.5, ("nut", 2, 1): np.nan, ("mean", 2, 0): 0.5}))
    nut = found.rows[0].cells[0]
    assert (nut.text, nut.spread, nut.note) == ("50.0", "", f"seed 1: {REASON}")
    both = report_of({("nut", 2, seed): np.nan for seed in (0, 1)})
    (found,) = tables(replace(both, reasons={**both.reasons, ("nut", 2, 0, AUROC): "other"}))
    assert found.rows[0].cells[0].note == f"seed 0: other; seed 1: {REASON}"


def test_a_mean_of_no_category_is_undefined_for_its_own_reason() -> None:
    nothing = {(name, 2, 0): np.nan for name in ("nut", "bolt", "mean")}
    (found,) = tables(report_of(nothing))
    assert found.mean.cells[0] == ReportCell(UNDEFINED, note=REASON)


def test_runs_have_the_numbers_of_one_seed_each() -> None:
    found = {(run.category, run.shots, run.seed): run.cells[0] for run in runs(report_of(VALUES))}
    assert list(found) == list(VALUES)
    assert found["nut", 1, 1] == ReportCell("60.0", "", "0.6")
    assert found["bolt", 1, 0] == ReportCell(UNDEFINED, note=REASON)


def test_without_metrics_there_is_no_table() -> None:
    report, nothing = report_of(VALUES), pd.DataFrame()
    assert (
        tables(replace(report, metrics=nothing)) == tables(replace(report, summary=nothing)) == ()
    )
    assert runs(replace(report, metrics=nothing)) == ()
