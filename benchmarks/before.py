"""The committed results: what a stage took before, on a machine of the same class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

WORSE = 1.25
"""A row that takes so many times as much as before is a regression; less is noise of shared machines."""
_WORSE = {"s": "slower", "MB": "larger", "MiB": "larger"}
_UNITS = {"ms": 1e-3}
_MACHINE = re.compile(r"^- Machine: (.+?, \d+ cores, torch on \d+ threads, \w+)", re.MULTILINE)


def machine_class(text: str) -> str | None:
    """Processor, cores, threads and system of a file of results; None where it names none."""
    found = _MACHINE.search(text)
    return found[1] if found else None


def committed_machine(path: Path) -> str | None:
    """The class of the machine of a file of results; None where there is no such file."""
    try:
        return machine_class(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def measured_before(path: Path, described: str) -> Mapping[str, tuple[float, str]] | None:
    """The value and unit of each row of a file of results, by stage.

    Args:
        path: of the file.
        described: the lines about the machine at hand.

    Returns:
        None where there is no such file, or it is of a machine of another class.
    """
    found: dict[str, tuple[float, str]] = {}
    of = committed_machine(path)
    if of is None or of != machine_class(described):
        return None
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        number, _, unit = cells[1].partition(" ") if len(cells) > 2 else ("", "", "")
        try:
            value = float(number.replace(",", ""))
        except ValueError:
            continue
        found[cells[0]] = (value * _UNITS.get(unit, 1), "s" if unit in _UNITS else unit)
    return found


def beside_before(value: float, unit: str, before: tuple[float, str] | None) -> str:
    """How a row stands beside its value before, in words: a dash where it was not measured."""
    if before is None or before[1] != unit or not before[0] or not value:
        return "-"
    times = value / before[0]
    return f"{times:.2f}x" + (f", {_WORSE[unit]}" if unit in _WORSE and times > WORSE else "")
