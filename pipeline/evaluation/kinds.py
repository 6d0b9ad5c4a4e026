"""The table of defect kinds: each kind's images against all good ones of its category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fade.further_metrics import IMAGE_AP, further_image_metrics
from fade.metrics import image_metrics
from fade.rates import image_rates
from fade.types import Trial
from pipeline.artefacts.csv_text import marked
from pipeline.artefacts.tables import GROUP_ROWS, table_writer
from pipeline.config.schema import Params
from pipeline.evaluation.further import Further, Place
from pipeline.evaluation.results import metric_names
from pipeline.evaluation.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd

IMAGE_COLUMNS = ("full_image_auroc", IMAGE_AP, "full_image_recall")
LEFT_OUT = frozenset(
    {"full_image_aupr", "full_image_f1_max", "full_image_f1", "full_image_false_alarms"}
)
"""Metrics of images that a table of kinds has not: false alarms are those of the category."""


def kinds_table(
    tests: pd.DataFrame,
    scores: NDArray[np.float64],
    trials: Sequence[Trial],
    further: Mapping[Place, Further],
    thresholds: Sequence[Threshold],
    params: Params,
) -> pd.DataFrame:
    """The rows of defects.csv: by trial, category and defect kind, in the manifest's order.

    Args:
        tests: the test images with ``category``, ``defect`` and ``is_anomaly``, None without a label.
        scores: (trials, images), NaN where there are none.
        trials: in the order of the rows.
        further: pixel metrics of the kinds.
        thresholds: at which recall is measured.
        params: of the run.
    """
    import pandas as pd

    names = [name for name in metric_names(params) if name not in LEFT_OUT]
    declared = {(found.category, found.trial): found.image for found in thresholds}
    labels = tests["is_anomaly"].to_numpy(object)
    good, bad = labels == False, labels == True  # noqa: E712 (None is neither)
    categories = tests["category"].to_numpy(str)
    positions: dict[tuple[str, str], list[int]] = {}
    kinds = tests["defect"].tolist()
    for i in np.flatnonzero(bad).tolist():
        positions.setdefault((str(categories[i]), str(kinds[i])), []).append(i)
    good_of = {
        category: np.flatnonzero(good & (categories == category))
        for category in dict.fromkeys(category for category, _ in positions)
    }
    rows: list[dict[str, Any]] = []
    for number, trial in enumerate(trials):
        for (category, kind), of_kind in positions.items():
            images = np.concatenate([good_of[category], of_kind]).astype(int)
            is_anomaly = np.arange(len(images)) >= len(good_of[category])
            found = further.get((category, trial))
            values = found.kinds.get(kind, {}) if found else {}
            rows.append(
                {
                    "category": category, "defect": marked(kind),
                    "shots": trial.shots, "seed": trial.seed, "images": len(of_kind),
                    **values,
                    **_image_values(
                        scores[number, images], is_anomaly, declared.get((category, trial))
                    ),
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=["category", "defect", "shots", "seed", "images", *names])


def _image_values(
    scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_], threshold: float | None
) -> dict[str, float]:
    if np.isnan(scores).any():
        return {}
    values = image_metrics(scores, is_anomaly)[0] | further_image_metrics(scores, is_anomaly)[0]
    if threshold is not None:
        values |= image_rates(scores, is_anomaly, threshold)[0]
    return {name: values[name] for name in IMAGE_COLUMNS if name in values}


def write_pimo(further: Mapping[Place, Further], path: Path) -> None:
    """Write aupimo.parquet: AUPIMO of each anomalous image, by category and trial."""
    import pyarrow as pa

    texts, numbers = ("path", "category", "defect"), ("aupimo", "low", "high")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in texts),
            *((name, pa.int64()) for name in ("shots", "seed")),
            *((name, pa.float64()) for name in numbers),
        ]
    )
    with table_writer(path, schema) as write:
        for (category, trial), found in further.items():
            for start in range(0, len(found.pimo), GROUP_ROWS):
                part = found.pimo[start : start + GROUP_ROWS]
                write(
                    {
                        "path": [image for image, _, _ in part],
                        "category": [category] * len(part),
                        "defect": [kind for _, kind, _ in part],
                        "shots": [trial.shots] * len(part),
                        "seed": [trial.seed] * len(part),
                        "aupimo": [one.value for _, _, one in part],
                        "low": [one.low for _, _, one in part],
                        "high": [one.high for _, _, one in part],
                    }
                )
