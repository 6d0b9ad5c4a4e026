"""The summary of a finished run, read with care: whoever asks may name any file."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from fade.errors import ParameterError, StoreError
from fade.metrics import METRIC_NAMES
from pipeline.artefacts.catalogue import SUMMARY
from pipeline.artefacts.tables import read_csv

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_METRICS = ("full_image_auroc", "full_pixel_auroc", "full_pixel_au_pro")


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

    metrics = [f"{metric}_{part}" for metric in known_metrics(summary) for part in ("mean", "std")]
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
                "and run `fade run`"
            )


def known_metrics(summary: pd.DataFrame) -> list[str]:
    """Names of metrics: the eight, and what else a summary has."""
    columns = [str(name) for name in summary.columns]
    own = [name.removesuffix("_mean") for name in columns if name.endswith("_mean")]
    return list(dict.fromkeys([*METRIC_NAMES, *own]))


def check_metrics(summary: pd.DataFrame, metrics: Sequence[str]) -> None:
    """Refuse unknown metrics (ParameterError) and a summary without their columns (StoreError)."""
    known = known_metrics(summary)
    for metric in metrics:
        if metric not in known:
            close = get_close_matches(metric, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise ParameterError(f"there is no metric {metric!r} ({hint})")
        for column in ("category", "shots", f"{metric}_mean", f"{metric}_std"):
            if column not in summary:
                raise StoreError(
                    f"the summary has no column {column}: run `fade run` to make it anew"
                )
