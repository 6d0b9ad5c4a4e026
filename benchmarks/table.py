"""Measurements side by side: alternating runs, their medians, and the table of results."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Generic, TypeVar

from benchmarks.before import beside_before
from benchmarks.process import process
from benchmarks.rounds import ENOUGH, rounds

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        stage: what was measured.
        ours, plain: seconds (or another unit that ``unit`` names); plain None where there is none.
        target: in words.
        met: whether it was.
        limit: share of the machine's limit, and which limit it is.
        unit: of ours and plain.
    """

    stage: str
    ours: float
    plain: float | None
    target: str
    met: bool
    limit: tuple[float, str] | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        return self.plain / self.ours if self.plain is not None and self.ours else None


@dataclass(frozen=True)
class Pair(Generic[A, B]):
    """Medians of both sides, and what they returned last."""

    ours: float
    plain: float
    our_output: A
    plain_output: B

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.plain / self.ours


def alternate(
    ours: Callable[[], A], plain: Callable[[], B], repeats: int, enough: float = ENOUGH
) -> Pair[A, B]:
    """Run both sides in turn, as :func:`in_turn`."""
    found = in_turn({"plain": plain, "ours": ours}, repeats, enough)
    (our_time, our_output), (plain_time, plain_output) = found["ours"], found["plain"]
    return Pair(our_time, plain_time, our_output, plain_output)


def in_turn(
    sides: Mapping[str, Callable[[], Any]], repeats: int, enough: float = ENOUGH
) -> dict[str, tuple[float, Any]]:
    """Run all sides in turn, equally often: median time and last output by name.

    Args:
        repeats: at most.
        enough: seconds after which no further round is begun.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    outputs: dict[str, Any] = {}
    for _ in rounds(repeats, enough):
        for name, run in sides.items():
            gc.collect()
            start = time.perf_counter()
            outputs[name] = run()
            times[name].append(time.perf_counter() - start)
    return {name: (median(taken), outputs[name]) for name, taken in times.items()}


def peak_megabytes(code: str) -> float:
    """Largest resident memory of a fresh interpreter that runs the code (Linux)."""
    return process(Path(), code)[1].peak / (1 << 20)


def markdown(rows: Sequence[Row], before: Mapping[str, tuple[float, str]] | None = None) -> str:
    """The table of results.

    Args:
        rows: of the table.
        before: values and units of committed results by stage, for a column beside them; None: no column.
    """
    added = [" of the committed |", "---|"] if before is not None else ["", ""]
    lines = [
        f"| stage | ours | plain version | ratio | of the machine's limit | target | met |{added[0]}",
        f"|---|---|---|---|---|---|---|{added[1]}",
    ]
    for row in rows:
        plain = _number(row.plain, row.unit) if row.plain is not None else "-"
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
        limit = f"{100 * row.limit[0]:.0f} % of {row.limit[1]}" if row.limit else "-"
        lines.append(
            f"| {row.stage} | {_number(row.ours, row.unit)} | {plain} | {ratio} | {limit} "
            f"| {row.target} | {'yes' if row.met else 'no'} |"
            + ("" if before is None else f" {_of_committed(row, before)} |")
        )
    return "\n".join(lines)


def _of_committed(row: Row, before: Mapping[str, tuple[float, str]]) -> str:
    return beside_before(row.ours, row.unit, before.get(row.stage))


def _number(value: float, unit: str) -> str:
    if unit == "s" and value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"
