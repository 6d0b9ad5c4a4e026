"""The committed results, a section for each class of machine: what a stage took before on such a one."""

from __future__ import annotations

import re
from collections.abc import Mapping

WORSE = 1.25
"""A row that takes so many times as much as before is a regression; less is noise of shared machines."""
HEAD = "# Results"
_WORSE = {"s": "slower", "MB": "larger", "MiB": "larger"}
_UNITS = {"ms": 1e-3}
_MACHINE = re.compile(r"^- Machine: (.+?, \d+ cores, torch on \d+ threads, \w+)", re.MULTILINE)
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


def machine_class(described: str) -> str:
    """Processor, cores, threads and system in the lines about a machine.

    Raises:
        ValueError: they name none.
    """
    if not (found := _MACHINE.search(described)):
        raise ValueError(f"no machine is named in: {described}")
    return found[1]


def sections(text: str) -> dict[str, str]:
    """The results in a file, by class of machine.

    Examples:
        >>> sections("# Results\\n\\n## A, 2 cores\\n\\nfast\\n\\n## B, 4 cores\\n\\nslow\\n")
        {'A, 2 cores': 'fast', 'B, 4 cores': 'slow'}
    """
    parts = _SECTION.split(text)[1:]
    return {name: part.strip() for name, part in zip(parts[::2], parts[1::2], strict=True)}


def with_section(text: str, name: str, section: str) -> str:
    """A file of results in which a class of machine has other ones; those of other classes stay."""
    found = sections(text) | {name: section.strip()}
    return "\n\n".join([HEAD, *(f"## {of}\n\n{found[of]}" for of in sorted(found))]) + "\n"


def measured_before(section: str) -> Mapping[str, tuple[float, str]]:
    """The value and unit of each row of results, by stage."""
    found: dict[str, tuple[float, str]] = {}
    for line in section.splitlines():
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
