"""The files of the further metrics: by defect kind, by image, and by bootstrap replicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fade.further_metrics import IMAGE_AP, further_image_metrics
from fade.metrics import image_metrics
from fade.rates import IMAGE_RATES, image_rates
from fade.replicates import image_rate_replicates
from fade.types import CategoryTrial, Trial
from pipeline.artefacts.catalogue import DEFECTS, PIMO, REPLICATES
from pipeline.artefacts.csv_text import marked
from pipeline.artefacts.tables import GROUP_ROWS, table_writer, write_csv
from pipeline.config.schema import Params
from pipeline.evaluation.further import Further
from pipeline.evaluation.groups import drawn_names
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
    further: Mapping[CategoryTrial, Further],
    thresholds: Sequence[Threshold],
    params: Params,
) -> pd.DataFrame:
    """The rows of defects.csv: by trial, category and defect kind, in the manifest's order.

    Arguments as for :func:`write_further`.
    """
    import pandas as pd

    names = [name for name in metric_names(params) if name not in LEFT_OUT]
    declared = {(found.category, found.trial): found.image for found in thresholds}
    labels = tests["is_anomaly"].to_numpy(object)
    good, bad = labels == False, labels == True  # noqa: E712 (None is neither)
    # as numbers: a million names would be a million strings
    of_category, categories = pd.factorize(tests["category"])
    of_kind, kinds = pd.factorize(tests["defect"], use_na_sentinel=False)
    found_at: dict[tuple[int, int], list[int]] = {}
    for i in np.flatnonzero(bad).tolist():
        found_at.setdefault((of_category[i], of_kind[i]), []).append(i)
    positions = {
        (str(categories[category]), str(kinds[kind])): np.array(rows)
        for (category, kind), rows in found_at.items()
    }
    good_of = {
        str(categories[category]): np.flatnonzero(good & (of_category == category))
        for category, _ in found_at
    }
    rows: list[dict[str, Any]] = []
    for number, trial in enumerate(trials):
        for (category, kind), anomalous in positions.items():
            images = np.concatenate([good_of[category], anomalous])
            is_anomaly = np.arange(len(images)) >= len(good_of[category])
            found = further.get((category, trial))
            values = found.kinds.get(kind, {}) if found else {}
            rows.append(
                {
                    "category": category, "defect": marked(kind),
                    "shots": trial.shots, "seed": trial.seed, "images": len(anomalous),
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


def write_pimo(further: Mapping[CategoryTrial, Further], path: Path) -> None:
    """Write aupimo.parquet: AUPIMO of each anomalous image, by category and trial."""
    columns = {
        **dict.fromkeys(("path", "category", "defect"), "string"), "shots": "int64", "seed": "int64",
        **dict.fromkeys(("aupimo", "low", "high"), "double"),
    }  # fmt: skip
    with table_writer(path, columns) as write:
        for (category, trial), found in further.items():
            if found.pimo is None:
                continue
            for start in range(0, len(found.pimo), GROUP_ROWS):
                part = found.pimo.iloc[start : start + GROUP_ROWS]
                same = {"category": category, "shots": trial.shots, "seed": trial.seed}
                write(
                    {str(name): part[name].tolist() for name in part}
                    | {name: [value] * len(part) for name, value in same.items()}
                )


def write_replicates(
    tests: pd.DataFrame,
    scores: NDArray[np.float64],
    trials: Sequence[Trial],
    further: Mapping[CategoryTrial, Further],
    thresholds: Sequence[Threshold],
    params: Params,
    path: Path,
) -> None:
    """Write replicates.parquet: by trial, category and replicate; empty without ``evaluate.intervals``.

    Metrics of images that scores alone tell are left out: they are drawn when they are asked for.

    Arguments as for :func:`write_further`.
    """
    wanted = params.evaluate.intervals
    names = [name for name in metric_names(params) if "_pixel_" in name or name in IMAGE_RATES]
    keys = dict.fromkeys(("shots", "seed", "replicate"), "int64")
    kinds = {"category": "string", **keys, **dict.fromkeys(names, "double")}
    declared = {(found.category, found.trial): found.image for found in thresholds}
    known = tests["is_anomaly"].notna().to_numpy()
    rows_of = tests.reset_index(drop=True).groupby("category", sort=False).indices
    labels = tests["is_anomaly"].eq(True).to_numpy(bool)
    with table_writer(path, kinds) as write:
        for number, trial in enumerate(trials if wanted else ()):
            for category, positions in rows_of.items():
                rows = np.asarray(positions)
                at = rows[known[rows]]
                place = str(category), trial
                columns = dict(further[place].replicates) if place in further else {}
                threshold = declared.get(place)
                if threshold is not None and len(at) and np.isfinite(scores[number, at]).all():
                    columns |= image_rate_replicates(
                        drawn_names(tests["path"].iloc[at], params.evaluate.group),
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


def write_further(
    tests: pd.DataFrame,
    scores: NDArray[np.float64],
    trials: Sequence[Trial],
    further: Mapping[CategoryTrial, Further],
    thresholds: Sequence[Threshold],
    params: Params,
) -> None:
    """Write defects.csv, aupimo.parquet and replicates.parquet.

    Args:
        tests: the test images with ``category``, ``path``, ``defect`` and ``is_anomaly``, None without a
            label.
        scores: (trials, images), NaN where there are none.
        trials: in the order of the rows.
        further: metrics of categories and trials.
        thresholds: at which rates are measured.
    """
    write_csv(kinds_table(tests, scores, trials, further, thresholds, params), DEFECTS.path)
    write_pimo(further, PIMO.path)
    write_replicates(tests, scores, trials, further, thresholds, params, REPLICATES.path)
