"""Whether two runs measured the same: test images and masks of equal content, at one size."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.artefacts.catalogue import RUN
from pipeline.artefacts.tables import read_json


def read_run(summary: Path) -> dict[str, Any]:
    """What the run that a summary is of says of itself; empty where the summary lies alone.

    Raises:
        StoreError: ``run.json`` is damaged or of another schema version.
    """
    path = summary.parent / RUN.path.name
    return read_json(path) if path.is_file() else {}


def unlike(
    a: dict[str, Any], b: dict[str, Any], categories: Collection[str], *, pixels: bool
) -> list[str]:
    """What two runs do not have in common, so that their metrics cannot be paired.

    Args:
        a, b: see :func:`read_run`; what one of them does not say is not compared.
        categories: that both have, with test images of the same names.
        pixels: whether pixel metrics are compared, too.

    Examples:
        >>> unlike({"test_data": {"nut": "1"}}, {"test_data": {"nut": "2"}}, ["nut"], pixels=False)
        ['nut: test images or masks of the same names have other content']
    """
    data = [one.get("test_data", {}) for one in (a, b)]
    found = [
        f"{name}: test images or masks of the same names have other content"
        for name in categories
        if all(name in of for of in data) and data[0][name] != data[1][name]
    ]
    measures = [one.get("parameters", {}).get("evaluate", {}) for one in (a, b)]
    if pixels and all(measures):
        for name in ("size", "pro_limit"):
            values = [_first(of[name]) for of in measures]
            if values[0] != values[1]:
                found.append(f"evaluate.{name} is {values[0]} and {values[1]}")
    return found


def _first(value: Any) -> Any:
    # further limits of AUPRO have metrics of their own names
    return value[0] if isinstance(value, list) else value
