"""The files of the further metrics: by defect kind, by image, and by bootstrap replicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fade.types import Trial
from pipeline.artefacts.catalogue import DEFECTS, PIMO, REPLICATES
from pipeline.artefacts.tables import write_csv
from pipeline.config.schema import Params
from pipeline.evaluation.further import Further, Place
from pipeline.evaluation.kinds import kinds_table, write_pimo
from pipeline.evaluation.resampled import write_replicates
from pipeline.evaluation.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd


def write_further(
    tests: pd.DataFrame,
    scores: NDArray[np.float64],
    trials: Sequence[Trial],
    further: Mapping[Place, Further],
    thresholds: Sequence[Threshold],
    params: Params,
) -> None:
    """Write defects.csv, aupimo.parquet and replicates.parquet.

    Args:
        tests: the test images.
        scores: (trials, images), NaN where there are none.
        trials: in the order of the rows.
        further: metrics of categories and trials.
        thresholds: at which rates are measured.
        params: of the run.
    """
    write_csv(kinds_table(tests, scores, trials, further, thresholds, params), DEFECTS.path)
    write_pimo(further, PIMO.path)
    write_replicates(tests, scores, trials, further, thresholds, params, REPLICATES.path)
