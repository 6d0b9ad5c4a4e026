"""The report page: everything inline in one HTML file, the same bytes for the same inputs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fade.errors import StoreError
from fade.metrics import METRIC_NAMES
from fade.types import UNLABELLED
from pipeline.report.gallery import (
    colours,
    data_uri,
)
from pipeline.report.input import ReportInput
from pipeline.report.plots import (
    UNDEFINED,
)
from pipeline.report.sections import decisions, sections, setters
from pipeline.report.tables import runs, tables

if TYPE_CHECKING:
    pass


_SCORE_COLUMNS = (
    "image", "path", "category", "defect", "is_anomaly", "shots", "seed", "score",
)  # fmt: skip
_FACTS: tuple[tuple[str, str], ...] = (
    ("Data set", "dataset.path"),
    ("Format", "dataset.format"),
    ("Categories", "dataset.categories"),
    ("Model", "model.name"),
    ("Weights", "model.pretrained"),
    ("Image scores from", "fusion.classification_mode"),
    ("Maps from", "fusion.segmentation_mode"),
    ("Shots", "vision.shots"),
    ("Seeds", "vision.seeds"),
    ("Segmentation sizes", "features.segmentation_sizes"),
    ("Evaluation size", "evaluate.size"),
)
_GROUPS = (("Image", 3), ("Pixel, all images", 3), ("Pixel, defect images", 2))
_HEADINGS: dict[str, tuple[str, str]] = {
    "full_image_auroc": (
        "AUROC",
        "Chance that an anomalous image scores above a good one (area under the ROC curve)",
    ),
    "full_image_aupr": ("AUPR", "Area under precision over recall, of images"),
    "full_image_f1_max": ("F1-max", "Best F1 over all thresholds on the image score"),
    "full_pixel_auroc": ("AUROC", "Area under the ROC curve over the pixels of all images"),
    "full_pixel_f1_max": ("F1-max", "Best F1 over all thresholds on the map, all images"),
    "full_pixel_au_pro": (
        "AU-PRO",
        "Mean overlap of defect regions up to a limit on the false positive rate; each region "
        "weighs the same",
    ),
    "anomaly_pixel_auroc": ("AUROC", "Area under the ROC curve over the pixels of defect images"),
    "anomaly_pixel_f1_max": ("F1-max", "Best F1 over all thresholds, images with defects only"),
}
OPEN_SECTIONS = 6
"""Largest number of categories that are shown open; of more, each opens when it is asked for."""
LISTED = 1000
"""Largest number of left-out images that are listed; their number is always told."""


def render(report: ReportInput) -> str:
    """Return the whole page as HTML, without a time or anything else that changes from run to run.

    Tables show every number of shots. Plots, galleries and decisions show one trial. All text is
    escaped; the page loads nothing and forbids the browser to.

    Raises:
        StoreError: a table lacks a column or a label, or some scores of a category are no finite
            numbers and others are.
    """
    from jinja2 import Environment, StrictUndefined

    _check_tables(report)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["digest"] = _digest
    source = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    flat = flatten(report.parameters)
    trial = report.shown_trial()
    page = environment.from_string(source).render(
        title=report.title,
        facts=[
            (label, flat[key]) for label, key in _FACTS if flat.get(key, UNDEFINED) != UNDEFINED
        ],
        parameters=list(flat.items()),
        provenance=list(report.provenance.items()),
        warnings=list(report.warnings),
        groups=_GROUPS,
        headings=[_HEADINGS[name] for name in METRIC_NAMES],
        tables=tables(report),
        runs=runs(report),
        trial=trial,
        decisions=decisions(report, trial),
        setters=setters(report, trial),
        sections=[] if trial is None or report.scores.empty else sections(report, trial),
        open_sections=OPEN_SECTIONS,
        skipped=list(report.skipped[:LISTED]),
        more_skipped=max(0, len(report.skipped) - LISTED),
        unused=list(report.unused[:LISTED]),
        more_unused=max(0, len(report.unused) - LISTED),
        scale=data_uri(colours()[None].repeat(12, axis=0)),
    )
    # names that are no valid Unicode (odd file systems) must not keep the page from being saved
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def flatten(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested parameters as dotted names and readable values.

    >>> flatten({"vision": {"shots": [1, 2], "index": None, "query_in_bank": True}})
    {'vision.shots': '1, 2', 'vision.index': '–', 'vision.query_in_bank': 'true'}
    """
    flat: dict[str, str] = {}
    for key, value in parameters.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _readable(value)
    return flat


def _readable(value: Any) -> str:
    if value is None or value in ([], (), {}):
        return UNDEFINED
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(_readable(entry) for entry in value)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _check_tables(report: ReportInput) -> None:
    both = [f"{name}_{kind}" for name in METRIC_NAMES for kind in ("mean", "std")]
    for name, frame, columns in (
        ("metrics", report.metrics, ["category", "shots", "seed", *METRIC_NAMES]),
        ("summary", report.summary, ["category", "shots", *both]),
        ("scores", report.scores, list(_SCORE_COLUMNS)),
    ):
        missing = [column for column in columns if column not in frame]
        if missing and not frame.empty:
            raise StoreError(
                f"the table of {name} lacks {', '.join(missing)}: run `dvc repro` to make it again"
            )
    scores = report.scores
    gaps = [name for name in _SCORE_COLUMNS if name in scores and scores[name].isna().any()]
    if "is_anomaly" in gaps and (scores["defect"][scores["is_anomaly"].isna()] == UNLABELLED).all():
        gaps.remove("is_anomaly")  # nobody knows it, and so no defect is named either
    if gaps := [name for name in gaps if name != "score"]:
        raise StoreError(
            f"the table of scores has empty fields in {', '.join(gaps)}: run `dvc repro` to make "
            "it again"
        )


def _digest(script: str) -> str:
    """Return what a content security policy calls an inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
