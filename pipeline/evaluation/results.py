"""The result tables: metrics by category and trial, their means, and deviations over seeds."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fade.errors import counted
from fade.further_metrics import (
    IMAGE_AP,
    further_image_metrics,
    further_names,
    further_pixel_metrics,
)
from fade.metrics import METRIC_NAMES, Evaluation, PixelHistogram, image_metrics, pixel_metrics
from fade.rates import IMAGE_RATES, PIXEL_RATES, image_rates, pixel_rates
from fade.types import CategoryTrial, Trial
from pipeline.artefacts.catalogue import SCORES
from pipeline.artefacts.tables import GROUP_ROWS, table_writer
from pipeline.config.schema import Params
from pipeline.evaluation.further import NO_MASK, Further, spro_limits
from pipeline.evaluation.groups import group_names, grouped_scores
from pipeline.evaluation.thresholds import Threshold
from pipeline.evaluation.vanished import Vanished, vanished_counts, vanished_remarks

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")

MEAN = "mean"
"""Category of the rows that hold means over categories."""
KEYS = ("category", "shots", "seed")
"""Columns that say whose metrics a row holds."""

_NO_THRESHOLD = "no threshold"

UndefinedMetric = dict[str, Any]
"""Category, shots, seed and name of a metric that is undefined, and the reason."""


def metric_names(params: Params) -> tuple[str, ...]:
    """Names of the metrics of a run, in the order of their columns: the eight, then the further ones."""
    limits = params.evaluate.pro_limits
    return (*METRIC_NAMES, *further_names(limits, spro_limits(params)))


def names_in(table: pd.DataFrame) -> list[str]:
    """Names of the metrics that a table with rows of metrics.csv has."""
    return [str(name) for name in table.columns if name not in KEYS]


def later_columns(table: pd.DataFrame) -> list[str]:
    """The columns of a table of metrics or of their summary that are not of the eight."""
    first = {name + end for name in METRIC_NAMES for end in ("", "_mean", "_std")}
    return [name for name in names_in(table) if name not in first]


def metrics_table(
    scores: pd.DataFrame,
    histograms: Mapping[tuple[str, Trial], PixelHistogram],
    categories: Sequence[str],
    trials: Sequence[Trial],
    params: Params,
    vanished: Mapping[str, Vanished] = MappingProxyType({}),
    thresholds: Sequence[Threshold] = (),
    further: Mapping[CategoryTrial, Further] = MappingProxyType({}),
) -> tuple[pd.DataFrame, list[UndefinedMetric]]:
    """The rows of metrics.csv, and why the undefined ones among them are empty.

    The mean of a metric runs over the categories that have it.

    Args:
        scores: of the test images, see :func:`scores_table`.
        categories: in the order of the rows.
        trials: in the order of the rows.
        vanished: the defects that the size of the evaluation leaves nothing of.
        thresholds: at which rates are measured.
        further: metrics that need more than histograms.
    """
    import pandas as pd

    declared = {(found.category, found.trial): found for found in thresholds}
    names = metric_names(params)
    rows: list[dict[str, Any]] = []
    reasons: list[UndefinedMetric] = []
    rows_of = score_rows(scores)
    for trial in trials:
        of_trial: list[dict[str, Any]] = []
        for category in categories:
            part = scores.iloc[rows_of.get((category, trial), [])]
            threshold = declared.get((category, trial))
            values, undefined = _image_values(part, params, threshold)
            histogram = histograms.get((category, trial)) or PixelHistogram.empty()
            more = further.get((category, trial)) or Further.without_masks(params)
            pixel_values, pixel_undefined = _pixel_values(histogram, params, threshold, more)
            if category in vanished and not histogram.regions:
                left = f"no defect pixel is left at evaluate.size {params.evaluate.size}"
                pixel_undefined = {
                    name: reason if reason.startswith(_NO_THRESHOLD) else left
                    for name, reason in pixel_undefined.items()
                }
            values |= pixel_values
            undefined |= pixel_undefined
            of_trial.append(
                {"category": category, "shots": trial.shots, "seed": trial.seed, **values}
            )
            reasons += [
                {
                    "category": category, "shots": trial.shots, "seed": trial.seed,
                    "metric": metric, "reason": undefined[metric],
                }
                for metric in names if metric in undefined
            ]  # fmt: skip
        mean: dict[str, Any] = {"category": MEAN, "shots": trial.shots, "seed": trial.seed}
        for metric in names:
            known = [row[metric] for row in of_trial if np.isfinite(row[metric])]
            mean[metric] = float(np.mean(known)) if known else float("nan")
        rows += [*of_trial, mean]
    return pd.DataFrame(rows, columns=[*KEYS, *names]), reasons


def score_rows(scores: pd.DataFrame) -> dict[tuple[str, Trial], NDArray[np.intp]]:
    """The rows of each category and trial in a table of scores."""
    groups = scores.groupby(["category", "shots", "seed"], sort=False, observed=True)
    found: dict[Any, Any] = dict(groups.indices)
    return {
        (str(category), Trial(int(shots), int(seed))): rows
        for (category, shots, seed), rows in found.items()
    }


def _image_values(part: pd.DataFrame, params: Params, threshold: Threshold | None) -> Evaluation:
    names = (*METRIC_NAMES[:3], IMAGE_AP, *IMAGE_RATES)
    if params.fusion.classification_mode == "none":
        return _undefined(names, "fusion.classification_mode is none")
    if part.empty:
        return _undefined(names, "no test image with a label")
    scores, is_anomaly = part["score"].to_numpy(), part["is_anomaly"].to_numpy()
    if threshold is None or threshold.image is None:
        rates = _undefined(IMAGE_RATES, _no_threshold(threshold))
    else:
        rates = image_rates(scores, is_anomaly, threshold.image)
    return _joined(
        image_metrics(scores, is_anomaly), further_image_metrics(scores, is_anomaly), rates
    )


def _pixel_values(
    histogram: PixelHistogram, params: Params, threshold: Threshold | None, more: Further
) -> Evaluation:
    limits = params.evaluate.pro_limits
    if params.fusion.segmentation_mode == "none":
        of_images = {*METRIC_NAMES[:3], IMAGE_AP, *IMAGE_RATES}
        names = [name for name in metric_names(params) if name not in of_images]
        return _undefined(names, "fusion.segmentation_mode is none")
    if not histogram.normal.any() and not histogram.anomalous.any():
        rates = _undefined(PIXEL_RATES, NO_MASK)
    elif threshold is None or threshold.pixel is None:
        rates = _undefined(PIXEL_RATES, _no_threshold(threshold))
    else:
        rates = pixel_rates(histogram, threshold.pixel)
    return _joined(
        pixel_metrics(histogram, limits[0]),
        further_pixel_metrics(histogram, limits),
        rates,
        (more.values, more.reasons),
    )


def _no_threshold(threshold: Threshold | None) -> str:
    return f"{_NO_THRESHOLD}: {threshold.remark}" if threshold else _NO_THRESHOLD


def _joined(*parts: Evaluation) -> Evaluation:
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for more_values, more_reasons in parts:
        values |= more_values
        reasons |= more_reasons
    return values, reasons


def _undefined(metrics: Sequence[str], reason: str) -> Evaluation:
    return dict.fromkeys(metrics, float("nan")), dict.fromkeys(metrics, reason)


def summary_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean and (population) standard deviation over seeds, by category and shots."""
    names = names_in(metrics)
    groups = metrics.groupby(["category", "shots"], sort=False)[names]
    mean, std = groups.mean(), groups.std(ddof=0)
    columns = {}
    for metric in names:
        columns[f"{metric}_mean"] = mean[metric]
        columns[f"{metric}_std"] = std[metric]
    import pandas as pd

    return pd.DataFrame(columns).reset_index()


def mean_metrics(summary: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The means over categories and seeds by shots, for ``dvc metrics``; undefined ones left out."""
    means: dict[str, dict[str, float]] = {}
    for row in summary[summary["category"] == MEAN].to_dict("records"):
        values = {
            str(name).removesuffix("_mean"): float(value)
            for name, value in row.items()
            if str(name).endswith("_mean")
        }
        means[f"shots{row['shots']}"] = {m: v for m, v in values.items() if np.isfinite(v)}
    return means


def mean_counts(metrics: pd.DataFrame) -> dict[str, int]:
    """Over how many categories the mean of each metric runs, in the trial where they are fewest."""
    rows = metrics[metrics["category"] != MEAN]
    names = names_in(metrics)
    if rows.empty:
        return dict.fromkeys(names, 0)
    counts = rows.groupby(["shots", "seed"])[names].count().min()
    return {metric: int(counts[metric]) for metric in names}


def evaluation_remarks(
    tests: pd.DataFrame,
    metrics: pd.DataFrame,
    reasons: Sequence[UndefinedMetric],
    categories: Sequence[str],
    vanished: Mapping[str, Vanished],
    params: Params,
) -> dict[str, Any]:
    """What ``evaluation.json`` says of the metrics beside what made them.

    Args:
        tests: the test images with ``category``, ``is_anomaly`` and ``mask``.
        metrics: see :func:`metrics_table`.
        reasons: why some of them are undefined.
        vanished: the defects that the size of the evaluation leaves nothing of.
    """
    size = params.evaluate.size
    is_defect, has_mask = tests["is_anomaly"].eq(True), tests["mask"].notna()
    masked, unmasked, unlabelled = (
        {str(name): int(n) for name, n in names.groupby(names, sort=False).size().items()}
        for names in (
            tests["category"][is_defect & has_mask],
            tests["category"][is_defect & ~has_mask],
            tests["category"][tests["is_anomaly"].isna()],
        )
    )
    return {
        "undefined": list(reasons),
        "mean_over": mean_counts(metrics),
        "categories": len(categories),
        "without_mask": unmasked,
        "without_label": unlabelled,
        "without_pixel_at_size": vanished_counts(vanished, size),
        "warnings": vanished_remarks(vanished, masked, size),
    }


def labelled_images(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table whose image has a label; of all of them ``is_anomaly`` is then a bool.

    Whatever counts good and anomalous images starts here: an image without a label is neither, and
    images of one part are one (:func:`grouped_scores`).

    Examples:
        >>> import pandas as pd
        >>> columns = {"category": ["nut", "nut"], "score": [0.1, 0.9], "is_anomaly": [None, True]}
        >>> labelled_images(pd.DataFrame(columns))["score"].tolist()
        [0.9]
    """
    table = grouped_scores(table)
    known = table["is_anomaly"].notna()
    found = table if known.all() else table[known]
    return found.astype({"is_anomaly": bool})


def scores_table(
    tests: pd.DataFrame, scores: NDArray[np.float64], trials: list[Trial]
) -> pd.DataFrame:
    """What metrics need of the scores (trials, images): trial by trial, in the images' order.

    Images without a label have no part in metrics, and are left out.
    """
    import pandas as pd

    scores = scores[:, tests["is_anomaly"].notna().to_numpy()]
    tests = labelled_images(tests)
    categories = tests["category"].astype("category")
    parts = [
        pd.DataFrame(
            {
                "category": categories,
                "is_anomaly": tests["is_anomaly"].to_numpy(dtype=bool),
                "shots": np.full(len(tests), trial.shots, np.int32),
                "seed": np.full(len(tests), trial.seed),
                "score": scores[number],
            }
        )
        for number, trial in enumerate(trials)
    ]
    return pd.concat(parts, ignore_index=True)


def write_scores(
    tests: pd.DataFrame,
    scores: NDArray[np.float64],
    trials: list[Trial],
    group: str | None = None,
) -> None:
    """Write scores.parquet: trial by trial, images in the manifest's order.

    Args:
        scores: (trials, images).
        trials: in the order of the scores.
        group: ``evaluate.group``, which adds a column ``group``.
    """
    groups = None if group is None else group_names(tests["path"], group)

    columns = {
        **dict.fromkeys(("image", "path", "category", "defect"), "string"),
        "is_anomaly": "bool", "shots": "int64", "seed": "int64", "score": "double",
        **({} if groups is None else {"group": "string"}),
    }  # fmt: skip
    labels = tests["is_anomaly"].astype(object).where(tests["is_anomaly"].notna(), None).tolist()
    with table_writer(SCORES.path, columns) as write:
        for number, trial in enumerate(trials):
            for start in range(0, len(tests), GROUP_ROWS):
                part = tests.iloc[start : start + GROUP_ROWS]
                write(
                    {
                        "image": [os.path.splitext(path)[0] for path in part["path"]],
                        **{name: part[name].tolist() for name in ("path", "category", "defect")},
                        "is_anomaly": labels[start : start + GROUP_ROWS],
                        "shots": np.full(len(part), trial.shots),
                        "seed": np.full(len(part), trial.seed),
                        "score": scores[number, start : start + GROUP_ROWS],
                        **({} if groups is None else {"group": groups[start : start + GROUP_ROWS]}),
                    }
                )


def log_means(means: Mapping[str, Mapping[str, float]]) -> None:
    """Tell the log of the means over categories, see :func:`mean_metrics`."""
    names = {
        "image AUROC": "full_image_auroc",
        "pixel AUROC": "full_pixel_auroc",
        "AUPRO": "full_pixel_au_pro",
    }
    if not means:
        log.info("no test images, so no metrics")
    elif not any(name in values for values in means.values() for name in names.values()):
        log.info("no metric is defined; evaluation.json says why")
    else:
        for shots, values in means.items():
            said = [
                f"{words} {100 * values[name]:.1f}" if name in values else f"{words} undefined"
                for words, name in names.items()
            ]
            number = int(shots.removeprefix("shots"))
            log.info("%s: %s", counted(number, "shot"), ", ".join(said))
