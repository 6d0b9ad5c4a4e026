"""The report's tables of the further metrics: what a summary has beside the eight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fade.metrics import METRIC_NAMES
from pipeline.report.input import ReportInput
from pipeline.report.labels import metric_label
from pipeline.report.summary import known_metrics
from pipeline.report.tables import MEAN, Row, cell

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class FurtherTable:
    """The further metrics at one number of shots, the mean over categories last."""

    shots: int
    seeds: int
    headings: tuple[str, ...]
    rows: tuple[Row, ...]


def further_tables(report: ReportInput) -> tuple[FurtherTable, ...]:
    """Return the tables by falling shots; none of a run without further metrics."""
    names = [name for name in known_metrics(report.summary) if name not in METRIC_NAMES]
    if not names or report.summary.empty or report.metrics.empty:
        return ()
    shots = sorted({int(count) for count in report.summary["shots"]}, reverse=True)
    return tuple(_table(report, count, names) for count in shots)


def _table(report: ReportInput, shots: int, names: list[str]) -> FurtherTable:
    of_shots: pd.DataFrame = report.metrics[report.metrics["shots"] == shots]
    seeds = sorted({int(seed) for seed in of_shots["seed"]})
    rows = []
    for values in report.summary[report.summary["shots"] == shots].to_dict("records"):
        category = str(values["category"])
        cells = []
        for name in names:
            reasons = (report.reasons.get((category, shots, seed, name)) for seed in seeds)
            note = next((reason for reason in reasons if reason), "")
            cells.append(cell(values[f"{name}_mean"], values[f"{name}_std"], len(seeds), note))
        rows.append(Row("Mean" if category == MEAN else category, tuple(cells)))
    return FurtherTable(shots, len(seeds), tuple(metric_label(name) for name in names), tuple(rows))
