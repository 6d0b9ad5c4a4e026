"""The pixel histograms of an evaluation as a table: what the pixel metrics and curves come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fade.errors import DataError, StoreError
from fade.metrics import LEVELS, PixelHistogram
from fade.types import Trial
from pipeline.artefacts.tables import GROUP_ROWS, read_table, table_writer, write_table

if TYPE_CHECKING:
    import pandas as pd

PixelHistograms = Mapping[tuple[str, Trial], PixelHistogram]

COUNTS = ("normal", "normal_beside_defects", "anomalous", "pro")


def pixel_table(histograms: PixelHistograms) -> pd.DataFrame:
    """A row for each category, trial and level: :class:`~fade.metrics.PixelHistogram` laid out.

    ``regions``, how many there are, is the same in all rows of a category and trial.
    """
    import pandas as pd

    parts = [
        pd.DataFrame(
            {
                "category": category,
                "shots": trial.shots,
                "seed": trial.seed,
                "level": np.arange(len(histogram.normal)),
                **{name: getattr(histogram, name) for name in COUNTS},
                "regions": histogram.regions,
            }
        )
        for (category, trial), histogram in histograms.items()
    ]
    columns = ["category", "shots", "seed", "level", *COUNTS, "regions"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def write_pixels(histograms: PixelHistograms, path: Path) -> None:
    """Write :func:`pixel_table`; of histograms of 65,536 levels only those that occur, part by part."""
    levels = max((len(histogram.normal) for histogram in histograms.values()), default=LEVELS)
    if levels == LEVELS:
        write_table(pixel_table(histograms), path)
        return
    numbers = dict.fromkeys(("shots", "seed", "level", *COUNTS[:3]), "int64")
    columns = {"category": "string", **numbers, "pro": "double", "regions": "int64"}
    # trials differ where zero shots have another rule
    other = {
        trial.label: len(histogram.normal)
        for (_, trial), histogram in histograms.items()
        if len(histogram.normal) != levels
    }
    remarks = {"levels": levels, **({"levels_of": other} if other else {})}
    with table_writer(path, columns, **remarks) as write:
        for place, histogram in histograms.items():
            rows = pixel_table({place: histogram})
            rows = rows[(rows["normal"] > 0) | (rows["anomalous"] > 0)]
            for start in range(0, len(rows), GROUP_ROWS):
                part = rows.iloc[start : start + GROUP_ROWS]
                write({name: part[name].to_numpy() for name in columns})


def read_pixels(path: Path, trial: Trial | None = None) -> dict[tuple[str, Trial], PixelHistogram]:
    """The histograms of a file that :func:`write_pixels` wrote, of one trial or of all.

    Raises:
        StoreError: missing, damaged or of another schema version.
    """
    equal: dict[str, Any] = {} if trial is None else {"shots": trial.shots, "seed": trial.seed}
    frame, remarks = read_table(path, **equal)
    levels, of_trial = remarks.get("levels", LEVELS), remarks.get("levels_of", {})
    found = {}
    try:
        for key, rows in frame.groupby(["category", "shots", "seed"], sort=False):
            category, shots, seed = cast(tuple[str, int, int], key)
            place = category, Trial(int(shots), int(seed))
            rising = rows.sort_values("level")
            counts = {name: rising[name].to_numpy() for name in COUNTS}
            if levels != LEVELS:
                own = of_trial.get(place[1].label, levels)
                counts = {
                    name: np.bincount(rising["level"], values, own).astype(values.dtype)
                    for name, values in counts.items()
                }
            found[place] = PixelHistogram(**counts, regions=int(rising["regions"].iloc[0]))
    except (KeyError, ValueError, DataError) as error:
        raise StoreError(
            f"{path} holds no pixel histograms ({error}): run `fade run --force evaluate`"
        ) from None
    return found
