"""The pixel histograms of an evaluation as a table: what the pixel metrics and curves come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from fade.errors import DataError, StoreError
from fade.metrics import LEVELS, PixelHistogram
from fade.types import Trial
from pipeline.artefacts.tables import read_table

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
                "level": np.arange(LEVELS),
                **{name: getattr(histogram, name) for name in COUNTS},
                "regions": histogram.regions,
            }
        )
        for (category, trial), histogram in histograms.items()
    ]
    columns = ["category", "shots", "seed", "level", *COUNTS, "regions"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def read_pixels(path: Path) -> dict[tuple[str, Trial], PixelHistogram]:
    """The histograms of a file that holds :func:`pixel_table`.

    Raises:
        StoreError: missing, damaged or of another schema version.
    """
    frame, _ = read_table(path)
    found = {}
    try:
        for key, rows in frame.groupby(["category", "shots", "seed"], sort=False):
            category, shots, seed = cast(tuple[str, int, int], key)
            rising = rows.sort_values("level")
            counts = {name: rising[name].to_numpy() for name in COUNTS}
            found[category, Trial(int(shots), int(seed))] = PixelHistogram(
                **counts, regions=int(rising["regions"].iloc[0])
            )
    except (KeyError, ValueError, DataError) as error:
        raise StoreError(
            f"{path} holds no pixel histograms ({error}): run `dvc repro --force evaluate`"
        ) from None
    return found
