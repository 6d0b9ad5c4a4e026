"""The page that sets methods side by side: a table, and the report of each in a tab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import quote

from pipeline.report.labels import metric_label
from pipeline.report.paper_table import MetricTable, PaperCell
from pipeline.report.plots import UNDEFINED


@dataclass(frozen=True, slots=True)
class MethodCost:
    """What a method took.

    Attributes:
        name: of the method, and of its project's folder beside the page.
        seconds: of its run, with what the store had.
        size: bytes of the features that it reads.
    """

    name: str
    seconds: float
    size: int


def methods_page(title: str, tables: Sequence[MetricTable], costs: Sequence[MethodCost]) -> str:
    """The whole page as HTML; all text is escaped, and there is no script.

    Args:
        tables: method by shots, one a metric.
        costs: of the methods, in the order of their tabs.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files(__package__).joinpath("methods.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=title,
        tables=[_table(table) for table in tables],
        methods=[
            {
                "name": one.name,
                "anchor": f"method-{number}",
                "report": quote(f"{one.name}/results/report/index.html"),
                "seconds": f"{one.seconds:.0f}",
                "size": f"{one.size:,}",
            }
            for number, one in enumerate(costs)
        ],
    )


def _table(table: MetricTable) -> dict[str, object]:
    best = table.best()
    return {
        "heading": f"{metric_label(table.metric)}, by shots",
        "shots": table.shots,
        "rows": [
            {
                "name": name,
                "cells": [_cell(cell, (row, column) in best) for column, cell in enumerate(cells)],
            }
            for row, (name, cells) in enumerate(table.rows)
        ],
    }


def _cell(cell: PaperCell, best: bool) -> dict[str, object]:
    return {
        "mean": UNDEFINED if cell.mean is None else f"{cell.mean:.1f}",
        "deviation": "" if cell.deviation is None else f"{cell.deviation:.1f}",
        "best": best,
    }
