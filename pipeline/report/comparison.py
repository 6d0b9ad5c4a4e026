"""Two runs side by side: the metrics of one summary against those of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from fade.errors import DataError
from pipeline.report.paper_table import DEFAULT_METRICS, check_metrics, escape_markdown
from pipeline.report.plots import LABELS, MEAN, UNDEFINED

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Difference:
    """One metric of a category at so many shots in two runs, as shares of 1.

    Attributes:
        a, b: means over seeds; None where a run has none.
    """

    metric: str
    category: str
    shots: int
    a: float | None
    b: float | None

    @property
    def change(self) -> float | None:
        """``b`` less ``a``."""
        return None if self.a is None or self.b is None else self.b - self.a


def compare(
    a: pd.DataFrame, b: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS
) -> list[Difference]:
    """Differences by metric, category and shots, the means over categories last.

    Rows that only one of the runs has are kept.

    Args:
        a, b: rows of summary.csv.
        metrics: names, in the order of the result.

    Raises:
        ParameterError: a metric is unknown.
        StoreError: a summary lacks a column.
        DataError: neither run has any row.
    """
    check_metrics(a, metrics)
    check_metrics(b, metrics)
    if a.empty and b.empty:
        raise DataError("neither run has metrics: there is nothing to compare")
    found = []
    for metric in metrics:
        left, right = _means(a, metric), _means(b, metric)
        places = list(dict.fromkeys([*left, *right]))
        categories = list(dict.fromkeys(category for category, _ in places))
        # stable, so that categories keep their order
        places.sort(key=lambda place: (place[0] == MEAN, categories.index(place[0]), place[1]))
        found += [Difference(metric, *place, left.get(place), right.get(place)) for place in places]
    return found


def _means(summary: pd.DataFrame, metric: str) -> dict[tuple[str, int], float | None]:
    rows = zip(summary["category"], summary["shots"], summary[f"{metric}_mean"], strict=True)
    return {
        (str(category), int(shots)): float(value) if isfinite(value) else None
        for category, shots, value in rows
    }


def comparison_markdown(differences: Sequence[Difference], a: str, b: str) -> str:
    """A Markdown table a metric, in percent; ``a`` and ``b`` name the runs."""
    parts = []
    for metric in dict.fromkeys(difference.metric for difference in differences):
        lines = [
            f"{LABELS[metric]} (%).",
            "",
            f"| category | shots | {escape_markdown(a)} | {escape_markdown(b)} | difference |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        lines += [
            f"| {escape_markdown(row.category)} | {row.shots} | {_text(row.a)} | {_text(row.b)} "
            f"| {_text(row.change, '+.1f')} |"
            for row in differences
            if row.metric == metric
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def comparison_json(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """The differences as JSON-like records; what is undefined is None."""
    return [{**asdict(row), "difference": row.change} for row in differences]


def _text(share: float | None, form: str = ".1f") -> str:
    return UNDEFINED if share is None else format(100 * share, form)
