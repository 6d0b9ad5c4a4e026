"""Tables as papers print them: categories by shots, in percent, mean and deviation over seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import ParameterError, StoreError, plain
from fade.metrics import METRIC_NAMES
from pipeline.artefacts.catalogue import SUMMARY
from pipeline.artefacts.tables import read_csv
from pipeline.report.plots import LABELS, MEAN, UNDEFINED

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_METRICS = ("full_image_auroc", "full_pixel_auroc", "full_pixel_au_pro")
NOTHING = "No test images, so no metrics."

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{special: f"\\{special}" for special in "&%$#_{}"},
}  # fmt: skip
# an underscore between letters or digits, and & that begins no entity, are plain text in Markdown
_MARKDOWN = re.compile(r"[\\`*|<~\[]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")


@dataclass(frozen=True)
class PaperCell:
    """A metric's mean over seeds and its deviation, in percent; None where undefined or one seed."""

    mean: float | None
    deviation: float | None = None


@dataclass(frozen=True)
class MetricTable:
    """One metric: a row a category, a column for each number of shots.

    Attributes:
        metric: its name.
        shots: ascending.
        rows: categories in the summary's order, their mean last.
    """

    metric: str
    shots: tuple[int, ...]
    rows: tuple[tuple[str, tuple[PaperCell, ...]], ...]


def read_summary(place: Path) -> pd.DataFrame:
    """The summary of a run, found by its results folder, its project folder or its file.

    Raises:
        StoreError: there is none, or it is damaged, of another schema version, or a cell holds
            something else than its column.
    """
    found = find_summary(place)
    summary = read_csv(found)
    _check_cells(summary, found)
    return summary


def find_summary(place: Path) -> Path:
    """The file of a run's summary; ``place`` is that file, or a results or project folder.

    Raises:
        StoreError: there is none.
    """
    places = (place, place / SUMMARY.path.name, place / SUMMARY.path)
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise StoreError(
            f"no {SUMMARY.path.name} in {place} or {place / SUMMARY.path.parent}: name a results or "
            "project folder, or make it with `fade run`"
        )
    return found


def _check_cells(summary: pd.DataFrame, path: Path) -> None:
    """Refuse cells that hold something else than their column (StoreError); metrics may be empty."""
    import pandas as pd

    metrics = [f"{metric}_{part}" for metric in METRIC_NAMES for part in ("mean", "std")]
    for name in summary.columns.intersection(["category", "shots", *metrics]):
        column = summary[name]
        # by their texts, as True is no number here
        numbers = pd.to_numeric(column.astype(str), errors="coerce")
        if name == "category":
            bad, needed = column.isna(), "a name"
        elif name == "shots":
            bad, needed = ~((numbers % 1 == 0) & numbers.between(0, 1e9)), "a whole number from 0"
        else:
            # a hair beyond, as means are rounded
            bad = column.notna() & ~numbers.between(-1e-9, 1 + 1e-9)
            needed = "a share from 0 to 1, or empty"
        if bad.any():
            row = int(bad.to_numpy().argmax())
            value = "empty" if pd.isna(column.iloc[row]) else repr(str(column.iloc[row]))
            raise StoreError(
                f"{path}, row {row + 2}: {name} is {value}, but must be {needed}: delete the file "
                "and run `dvc repro`"
            )


def check_metrics(summary: pd.DataFrame, metrics: Sequence[str]) -> None:
    """Refuse unknown metrics (ParameterError) and a summary without their columns (StoreError)."""
    for metric in metrics:
        if metric not in METRIC_NAMES:
            close = get_close_matches(metric, METRIC_NAMES, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(METRIC_NAMES)}"
            raise ParameterError(f"there is no metric {metric!r} ({hint})")
        for column in ("category", "shots", f"{metric}_mean", f"{metric}_std"):
            if column not in summary:
                raise StoreError(
                    f"the summary has no column {column}: run `dvc repro` to make it anew"
                )


def metric_tables(summary: pd.DataFrame, metrics: Sequence[str]) -> list[MetricTable]:
    """The tables of some metrics, none where there were no test images.

    A column shows deviations if any category of it has one over 0: a summary does not say how many
    seeds it is of, and zero shots have one.

    Args:
        summary: rows of summary.csv: category, shots, and for each metric mean and deviation.
        metrics: names, in the order of the tables.

    Raises:
        ParameterError: a metric is unknown.
        StoreError: the summary lacks a column.
    """
    check_metrics(summary, metrics)
    if summary.empty:
        return []
    shots = tuple(sorted({int(count) for count in summary["shots"]}))
    categories = [str(name) for name in dict.fromkeys(summary["category"]) if name != MEAN]
    deviations = [column for column in summary if str(column).endswith("_std")]
    spread = {
        count: bool((summary.loc[summary["shots"] == count, deviations] > 0).any(axis=None))
        for count in shots
    }
    tables = []
    for metric in metrics:
        cells = {
            (str(category), int(count)): PaperCell(
                _percent(mean), _percent(deviation) if spread[int(count)] else None
            )
            for category, count, mean, deviation in zip(
                summary["category"], summary["shots"],
                summary[f"{metric}_mean"], summary[f"{metric}_std"], strict=True,
            )
        }  # fmt: skip
        rows = tuple(
            (name, tuple(cells.get((name, count), PaperCell(None)) for count in shots))
            for name in (*categories, MEAN)
        )
        tables.append(MetricTable(metric, shots, rows))
    return tables


def table_json(
    summary: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS
) -> list[dict[str, Any]]:
    """Means and deviations over seeds as JSON-like records, shares of 1; None where undefined.

    Raises:
        ParameterError: a metric is unknown.
        StoreError: the summary lacks a column.
    """
    check_metrics(summary, metrics)
    return [
        {
            "metric": metric,
            "category": str(row["category"]),
            "shots": int(row["shots"]),
            "mean": _finite(row[f"{metric}_mean"]),
            "deviation": _finite(row[f"{metric}_std"]),
        }
        for metric in metrics
        for row in summary.to_dict("records")
    ]


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _percent(value: float) -> float | None:
    return 100 * float(value) if isfinite(value) else None


def markdown_table(summary: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> str:
    """The tables of :func:`metric_tables` as Markdown, one after the other."""
    tables = metric_tables(summary, metrics)
    if not tables:
        return NOTHING + "\n"
    parts = []
    for table in tables:
        lines = [
            _title(table, "%", "±") + ".",
            "",
            _markdown_line(["category", *_headings(table)]),
            "| --- |" + " ---: |" * len(table.shots),
        ]
        lines += [
            _markdown_line([escape_markdown(name), *_texts(cells, "±")])
            for name, cells in table.rows
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex_table(summary: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> str:
    """The tables of :func:`metric_tables` for LaTeX with the package booktabs."""
    tables = metric_tables(summary, metrics)
    if not tables:
        return f"% {NOTHING}\n"
    parts = ["% \\usepackage{booktabs}\n"]
    for table in tables:
        *rows, mean = [
            _latex_line([escape_latex(name), *_texts(cells, r"$\pm$", "--")])
            for name, cells in table.rows
        ]
        title = _title(table, r"\%", r"$\pm$")
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{title}.}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.shots)}}}",
            r"\toprule",
            _latex_line(["category", *_headings(table)]),
            r"\midrule",
            *rows,
            r"\midrule",
            mean,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _title(table: MetricTable, percent: str, plus_minus: str) -> str:
    title = f"{LABELS[table.metric]} ({percent})"
    spread = any(cell.deviation is not None for _, cells in table.rows for cell in cells)
    return title + f", mean {plus_minus} standard deviation over seeds" if spread else title


def _headings(table: MetricTable) -> list[str]:
    return [f"{count}-shot" for count in table.shots]


def _texts(cells: Sequence[PaperCell], plus_minus: str, undefined: str = UNDEFINED) -> list[str]:
    return [_text(cell, plus_minus, undefined) for cell in cells]


def _text(cell: PaperCell, plus_minus: str, undefined: str) -> str:
    if cell.mean is None:
        return undefined
    if cell.deviation is None:
        return f"{cell.mean:.1f}"
    return f"{cell.mean:.1f} {plus_minus} {cell.deviation:.1f}"


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def escape_markdown(text: str) -> str:
    """Text that a Markdown table's cell shows as it is, control characters as escapes."""
    return _MARKDOWN.sub(_backslashed, plain(" ".join(text.split())))


def _backslashed(match: re.Match[str]) -> str:
    return "\\" + match[0]


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is at the start of a row, too, control characters as escapes."""
    line = plain(" ".join(text.split()))
    # behind the \\\\ or \\midrule of the row before, [ and * would be their arguments
    guard = "{}" if line.startswith(("[", "*")) else ""
    return guard + "".join(_LATEX.get(character, character) for character in line)


RENDERERS: dict[str, Callable[[pd.DataFrame, Sequence[str]], str]] = {
    "markdown": markdown_table, "latex": latex_table,
}  # fmt: skip
