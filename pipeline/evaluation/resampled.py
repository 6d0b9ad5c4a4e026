"""The table of bootstrap replicates, from which intervals of a run's metrics come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fade.rates import IMAGE_RATES
from fade.replicates import image_rate_replicates
from fade.types import Trial
from pipeline.artefacts.tables import table_writer
from pipeline.config.schema import Params
from pipeline.evaluation.further import Further, Place
from pipeline.evaluation.groups import drawn_names
from pipeline.evaluation.results import metric_names
from pipeline.evaluation.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd


def write_replicates(
    tests: pd.DataFrame,
    scores: NDArray[np.float64],
    trials: Sequence[Trial],
    further: Mapping[Place, Further],
    thresholds: Sequence[Threshold],
    params: Params,
    path: Path,
) -> None:
    """Write replicates.parquet: by trial, category and replicate; empty without ``evaluate.intervals``.

    Metrics of images that scores alone tell are left out: they are drawn when they are asked for.

    Args:
        tests: the test images with ``category``, ``path`` and ``is_anomaly``, None without a label.
        scores: (trials, images), NaN where there are none.
        trials: in the order of the rows.
        further: with replicates of pixel metrics.
        thresholds: at which rates are measured.
        params: of the run.
        path: of the file.
    """
    import pyarrow as pa

    wanted = params.evaluate.intervals
    names = [name for name in metric_names(params) if "_pixel_" in name or name in IMAGE_RATES]
    numbers = ("shots", "seed", "replicate")
    schema = pa.schema(
        [
            ("category", pa.string()),
            *((name, pa.int64()) for name in numbers),
            *((name, pa.float64()) for name in names),
        ]
    )
    declared = {(found.category, found.trial): found.image for found in thresholds}
    known = tests["is_anomaly"].notna().to_numpy()
    rows_of = tests.reset_index(drop=True).groupby("category", sort=False).indices
    labels = tests["is_anomaly"].eq(True).to_numpy(bool)
    drawn = drawn_names(tests["path"], params.evaluate.group)
    with table_writer(path, schema) as write:
        for number, trial in enumerate(trials if wanted else ()):
            for category, positions in rows_of.items():
                rows = np.asarray(positions)
                at = rows[known[rows]]
                place = str(category), trial
                columns = dict(further[place].replicates) if place in further else {}
                threshold = declared.get(place)
                if threshold is not None and len(at) and np.isfinite(scores[number, at]).all():
                    columns |= image_rate_replicates(
                        [drawn[i] for i in at],
                        scores[number, at] > threshold,
                        labels[at],
                        wanted,
                    )
                nothing = np.full(wanted, np.nan)
                content: dict[str, Any] = {
                    "category": [str(category)] * wanted,
                    "shots": np.full(wanted, trial.shots),
                    "seed": np.full(wanted, trial.seed),
                    "replicate": np.arange(wanted),
                    **{name: columns.get(name, nothing) for name in names},
                }
                write(content)
