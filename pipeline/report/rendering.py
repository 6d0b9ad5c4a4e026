"""Metric tables as text: Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

from fade.errors import plain
from pipeline.artefacts.csv_text import Rows, marked
from pipeline.report.labels import metric_label
from pipeline.report.paper_table import MetricTable, PaperCell
from pipeline.report.plots import UNDEFINED

NOTHING = "No test images, so no metrics."

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{special: f"\\{special}" for special in "&%$#_{}"},
}  # fmt: skip
# an underscore between letters or digits, and & that begins no entity, are plain text in Markdown
_MARKDOWN = re.compile(r"[\\`*|<~\[]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")


def markdown(tables: Sequence[MetricTable], *, bold: bool = False) -> str:
    """Tables as Markdown, one after the other; the best of each column bold, if wanted."""
    if not tables:
        return NOTHING + "\n"
    parts = []
    for table in tables:
        best = table.best() if bold else set()
        lines = [
            _title(table, "%", "±") + ".",
            "",
            markdown_line([table.of, *_headings(table)]),
            "| --- |" + " ---: |" * len(table.shots),
        ]
        for row, (name, cells) in enumerate(table.rows):
            texts = _texts(cells, "±", " to ")
            shown = [f"**{t}**" if (row, n) in best else t for n, t in enumerate(texts)]
            lines.append(markdown_line([escape_markdown(name), *shown]))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex(tables: Sequence[MetricTable], *, bold: bool = False) -> str:
    """Tables for LaTeX with the package booktabs, each with a label; the best bold, if wanted."""
    if not tables:
        return f"% {NOTHING}\n"
    parts = ["% \\usepackage{booktabs}\n"]
    for table in tables:
        best = table.best() if bold else set()
        rows = []
        for row, (name, cells) in enumerate(table.rows):
            texts = _texts(cells, r"$\pm$", "--", undefined="--")
            shown = [rf"\textbf{{{t}}}" if (row, n) in best else t for n, t in enumerate(texts)]
            rows.append(_latex_line([escape_latex(name), *shown]))
        if table.of == "category":
            rows.insert(-1, r"\midrule")
        title = _title(table, r"\%", r"$\pm$")
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{title}.}}",
            rf"\label{{tab:{table.metric.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.shots)}}}",
            r"\toprule",
            _latex_line([table.of, *_headings(table)]),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def csv_text(tables: Sequence[MetricTable], *, bold: bool = False) -> str:
    """Tables as one CSV: a row for each cell, in percent with all digits; empty where undefined."""
    text = io.StringIO()
    writer = csv.writer(Rows(text))
    of = tables[0].of if tables else "category"
    writer.writerow(["metric", of, "shots", "mean", "deviation", "low", "high"])
    for table in tables:
        for name, cells in table.rows:
            for shots, cell in zip(table.shots, cells, strict=True):
                ends = cell.interval or (None, None)
                # a spreadsheet would compute a name that begins with =
                writer.writerow(
                    [table.metric, marked(name), shots, cell.mean, cell.deviation, *ends]
                )
    return text.getvalue()


def markdown_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _title(table: MetricTable, percent: str, plus_minus: str) -> str:
    title = f"{metric_label(table.metric)} ({percent})"
    cells = [cell for _, of_row in table.rows for cell in of_row]
    if any(cell.deviation is not None for cell in cells):
        title += f", mean {plus_minus} standard deviation over seeds"
    if any(cell.interval is not None for cell in cells):
        title += f", approximate 95 {percent} interval over images in brackets"
    return title


def _headings(table: MetricTable) -> list[str]:
    return [f"{count}-shot" for count in table.shots]


def _texts(
    cells: Sequence[PaperCell], plus_minus: str, to: str, undefined: str = UNDEFINED
) -> list[str]:
    return [undefined if cell.mean is None else _text(cell, plus_minus, to) for cell in cells]


def _text(cell: PaperCell, plus_minus: str, to: str) -> str:
    text = f"{cell.mean:.1f}"
    if cell.deviation is not None:
        text += f" {plus_minus} {cell.deviation:.1f}"
    if cell.interval is not None:
        text += f" ({cell.interval[0]:.1f}{to}{cell.interval[1]:.1f})"
    return text


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


RENDERERS: dict[str, Callable[..., str]] = {
    "markdown": markdown, "latex": latex, "csv": csv_text,
}  # fmt: skip
