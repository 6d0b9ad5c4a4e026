"""Summaries of runs for tests, in the pipeline's own format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from fade.metrics import METRIC_NAMES
from pipeline.artefacts.catalogue import SUMMARY
from pipeline.artefacts.tables import write_csv

Values = Mapping[tuple[str, int], tuple[float, float]]


def summary(values: Values) -> pd.DataFrame:
    """Rows by category and shots, every metric with the same mean and deviation."""
    rows = [
        {
            "category": category, "shots": shots,
            **{f"{m}_{part}": value for m in METRIC_NAMES for part, value in zip(
                ("mean", "std"), both, strict=True)},
        }
        for (category, shots), both in values.items()
    ]  # fmt: skip
    columns = [
        "category",
        "shots",
        *(f"{m}_{part}" for m in METRIC_NAMES for part in ("mean", "std")),
    ]
    return pd.DataFrame(rows, columns=columns)


def write_project(folder: Path, values: Values) -> Path:
    """A project folder with nothing but a summary."""
    write_csv(summary(values), folder / SUMMARY.path)
    return folder
