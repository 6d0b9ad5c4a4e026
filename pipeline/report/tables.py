"""The report's tables of metrics: numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fade.metrics import METRIC_NAMES
from pipeline.report.input import ReportInput
from pipeline.report.plots import MEAN, UNDEFINED, mean_over_categories

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class ReportCell:
    """One number of a table as text; ``value`` sorts, empty where undefined; ``note`` explains."""

    text: str
    spread: str = ""
    value: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table of metrics."""

    label: str
    cells: tuple[ReportCell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The metrics of all categories at one number of shots."""

    shots: int
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    mean: Row


@dataclass(frozen=True, slots=True)
class Run:
    """The metrics of one category in one trial."""

    category: str
    shots: int
    seed: int
    cells: tuple[ReportCell, ...]


def tables(report: ReportInput) -> tuple[Table, ...]:
    """Return the tables of metrics by ascending shots; none without metrics."""
    if report.metrics.empty or report.summary.empty:
        return ()
    means = mean_over_categories(report.summary)
    return tuple(
        _table(report, int(shots), means.loc[means["shots"] == shots])
        for shots in sorted(report.summary["shots"].unique())
    )


def _table(report: ReportInput, shots: int, means: pd.DataFrame) -> Table:
    at_shots = report.metrics["shots"] == shots
    seeds = tuple(sorted(int(seed) for seed in report.metrics.loc[at_shots, "seed"].unique()))
    summary = report.summary[report.summary["shots"] == shots]
    summary = summary[summary["category"].astype(str) != MEAN]

    def note(category: str, metric: str) -> str:
        found = {s: report.reasons.get((category, shots, s, metric), "") for s in seeds}
        texts = set(found.values()) - {""}
        if len(texts) == 1 and all(found.values()):
            return texts.pop()
        return "; ".join(f"seed {s}: {text}" for s, text in found.items() if text)

    def row(category: str, values: Mapping[Any, Any], notes: list[str]) -> Row:
        cells = [
            cell(values[f"{name}_mean"], values[f"{name}_std"], len(seeds), text)
            for name, text in zip(METRIC_NAMES, notes, strict=True)
        ]
        return Row(category, tuple(cells))

    rows = []
    for values in summary.to_dict("records"):
        category = str(values["category"])
        rows.append(row(category, values, [note(category, name) for name in METRIC_NAMES]))
    defined = [sum(r.cells[i].value != "" for r in rows) for i in range(len(METRIC_NAMES))]
    notes = [
        f"mean over {n} of {len(rows)} categories" if 0 < n < len(rows) else note(MEAN, name)
        for n, name in zip(defined, METRIC_NAMES, strict=True)
    ]
    blank = {f"{name}_{kind}": math.nan for name in METRIC_NAMES for kind in ("mean", "std")}
    return Table(
        shots, seeds, tuple(rows), row(MEAN, next(iter(means.to_dict("records")), blank), notes)
    )


def runs(report: ReportInput) -> tuple[Run, ...]:
    """Return every category's metrics in every trial, means included, by trial."""
    found = []
    for row in () if report.metrics.empty else report.metrics.to_dict("records"):
        category, shots, seed = str(row["category"]), int(row["shots"]), int(row["seed"])
        cells = tuple(
            cell(row[name], math.nan, 1, report.reasons.get((category, shots, seed, name), ""))
            for name in METRIC_NAMES
        )
        found.append(Run(category, shots, seed, cells))
    return tuple(found)


def cell(mean: float, std: float, seeds: int, note: str = "") -> ReportCell:
    """Return a fraction as a percentage with one decimal, with its spread if there are more seeds.

    >>> cell(0.8765, 0.012, 3)
    ReportCell(text='87.6', spread='1.2', value='0.8765', note='')
    >>> cell(float("nan"), float("nan"), 3, "no good images")
    ReportCell(text='–', spread='', value='', note='no good images')
    """
    if not math.isfinite(mean):
        return ReportCell(UNDEFINED, note=note or "undefined")
    spread = f"{100 * std:.1f}" if seeds > 1 and math.isfinite(std) else ""
    return ReportCell(f"{100 * mean:.1f}", spread, repr(float(mean)), note)
