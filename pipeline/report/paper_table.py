"""Tables as papers print them: categories or runs by shots, in percent, with deviations or intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from fade.errors import counted
from pipeline.report.plots import MEAN
from pipeline.report.summary import DEFAULT_METRICS, check_metrics

if TYPE_CHECKING:
    import pandas as pd

Intervals = Mapping[tuple[str, str, int], tuple[float, float]]
"""By metric, category and shots both ends of an interval, as shares of 1."""


@dataclass(frozen=True, slots=True)
class PaperCell:
    """A metric's mean over seeds, in percent; None where undefined.

    Attributes:
        mean: over seeds.
        deviation: over seeds; None of one seed.
        interval: of the mean; None where it is not known or not asked for.
    """

    mean: float | None
    deviation: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class MetricTable:
    """One metric: a row for each category or run, a column for each number of shots.

    Attributes:
        of: what a row stands for.
        shots: ascending.
        rows: categories in the summary's order, their mean last; or runs as they were given.
    """

    metric: str
    of: Literal["category", "run"]
    shots: tuple[int, ...]
    rows: tuple[tuple[str, tuple[PaperCell, ...]], ...]

    def best(self) -> set[tuple[int, int]]:
        """Rows and columns of the largest mean of each column, to the digit that is printed."""
        found = set()
        for column in range(len(self.shots)):
            means = [cells[column].mean for _, cells in self.rows]
            printed = [None if mean is None else round(mean, 1) for mean in means]
            largest = max((mean for mean in printed if mean is not None), default=None)
            found |= {
                (row, column)
                for row, mean in enumerate(printed)
                if mean is not None and mean == largest
            }
        return found


def metric_tables(
    summary: pd.DataFrame, metrics: Sequence[str], intervals: Intervals | None = None
) -> list[MetricTable]:
    """Tables of the categories of a run, one a metric; none where there were no test images.

    A column shows deviations if any category of it has one over 0: a summary does not say how many
    seeds it is of, and zero shots have one.

    Args:
        summary: rows of summary.csv: category, shots, and for each metric mean and deviation.
        metrics: names, in the order of the tables.
        intervals: that cells show, where they are known.

    Raises:
        ParameterError: a metric is unknown.
        StoreError: the summary lacks a column.
    """
    check_metrics(summary, metrics)
    if summary.empty:
        return []
    shots = tuple(sorted({int(count) for count in summary["shots"]}))
    categories = [str(name) for name in dict.fromkeys(summary["category"]) if name != MEAN]
    tables = []
    for metric in metrics:
        cells = _cells(summary, metric, intervals or {})
        rows = tuple(
            (name, tuple(cells.get((name, count), PaperCell(None)) for count in shots))
            for name in (*categories, MEAN)
        )
        tables.append(MetricTable(metric, "category", shots, rows))
    return tables


def run_tables(
    runs: Sequence[tuple[str, pd.DataFrame]],
    metrics: Sequence[str],
    intervals: Sequence[Intervals] = (),
) -> list[MetricTable]:
    """Tables of the means over categories of several runs, one a metric.

    Args:
        runs: name and summary of each, in the order of the rows.
        metrics: names, in the order of the tables.
        intervals: of each run, where they are to be shown.

    Raises:
        ParameterError: a metric is unknown.
        StoreError: a summary lacks a column.
    """
    shots = tuple(sorted({int(count) for _, summary in runs for count in summary["shots"]}))
    tables = []
    for metric in metrics:
        rows = []
        for number, (name, summary) in enumerate(runs):
            check_metrics(summary, metrics)
            cells = _cells(summary, metric, intervals[number] if intervals else {})
            rows.append((name, tuple(cells.get((MEAN, count), PaperCell(None)) for count in shots)))
        tables.append(MetricTable(metric, "run", shots, tuple(rows)))
    return tables if shots else []


def other_means(runs: Sequence[tuple[str, pd.DataFrame]], metrics: Sequence[str]) -> list[str]:
    """A line for each metric whose means are over other categories in one run than in another.

    Args:
        runs: name and summary of each; none lacks a column of the metrics.

    Examples:
        >>> import pandas as pd
        >>> of = lambda names: pd.DataFrame({"category": names, "shots": 1, "f1_mean": 0.5})
        >>> other_means([("before", of(["a", "b"])), ("results", of(["b"]))], ["f1"])
        ['f1: means are not over the same categories: at 1 shot a has no value in results']
    """
    found = []
    for metric in metrics:
        by_shots: dict[int, dict[str, set[str]]] = {}
        for name, summary in runs:
            own = summary[(summary["category"] != MEAN) & summary[f"{metric}_mean"].notna()]
            for category, count in zip(own["category"], own["shots"], strict=True):
                by_shots.setdefault(int(count), {}).setdefault(name, set()).add(str(category))
        for count, by_run in sorted(by_shots.items()):
            every = set().union(*by_run.values())
            lacking = {name: sorted(every - own) for name, own in by_run.items() if every - own}
            if lacking:
                name, categories = next(iter(lacking.items()))
                verb = "has" if len(categories) == 1 else "have"
                shown = f"{', '.join(categories[:5])}{', ...' if len(categories) > 5 else ''}"
                found.append(
                    f"{metric}: means are not over the same categories: at "
                    f"{counted(count, 'shot')} {shown} {verb} no value in {name}"
                )
                break
    return found


def _cells(
    summary: pd.DataFrame, metric: str, intervals: Intervals
) -> dict[tuple[str, int], PaperCell]:
    """Cells by category and shots."""
    deviations = [column for column in summary if str(column).endswith("_std")]
    spread = {
        count: bool((summary.loc[summary["shots"] == count, deviations] > 0).any(axis=None))
        for count in {int(count) for count in summary["shots"]}
    }
    found = {}
    for category, count, mean, deviation in zip(
        summary["category"], summary["shots"],
        summary[f"{metric}_mean"], summary[f"{metric}_std"], strict=True,
    ):  # fmt: skip
        ends = intervals.get((metric, str(category), int(count)))
        found[str(category), int(count)] = PaperCell(
            _percent(mean),
            _percent(deviation) if spread[int(count)] else None,
            None if ends is None else (100 * ends[0], 100 * ends[1]),
        )
    return found


def table_json(
    summary: pd.DataFrame,
    metrics: Sequence[str] = DEFAULT_METRICS,
    intervals: Intervals | None = None,
) -> list[dict[str, Any]]:
    """Means and deviations over seeds as JSON-like records, shares of 1; None where undefined.

    Args:
        summary: rows of summary.csv.
        metrics: names, in the order of the records.
        intervals: adds ``low`` and ``high``, None where they are not known.

    Raises:
        ParameterError: a metric is unknown.
        StoreError: the summary lacks a column.
    """
    check_metrics(summary, metrics)
    records = []
    for metric in metrics:
        for row in summary.to_dict("records"):
            category, shots = str(row["category"]), int(row["shots"])
            record: dict[str, Any] = {
                "metric": metric,
                "category": category,
                "shots": shots,
                "mean": _finite(row[f"{metric}_mean"]),
                "deviation": _finite(row[f"{metric}_std"]),
            }
            if intervals is not None:
                ends = intervals.get((metric, category, shots), (None, None))
                record |= dict(zip(("low", "high"), ends, strict=True))
            records.append(record)
    return records


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _percent(value: float) -> float | None:
    return 100 * float(value) if isfinite(value) else None
