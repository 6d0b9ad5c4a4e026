"""The report page: everything inline in one HTML file, the same bytes for the same inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from fade.errors import StoreError, counted
from fade.metrics import METRIC_NAMES
from fade.types import UNLABELLED, Trial
from pipeline.evaluation.score_text import score_text
from pipeline.evaluation.trials import trial_words
from pipeline.report.further import further_tables
from pipeline.report.gallery import colours, data_uri
from pipeline.report.input import ReportInput
from pipeline.report.labels import metric_label
from pipeline.report.plots import UNDEFINED
from pipeline.report.policy import content_policy, page_part
from pipeline.report.review import as_json, review
from pipeline.report.sections import PICTURED, ReportSection, decisions, sections, setters
from pipeline.report.tables import runs, tables

if TYPE_CHECKING:
    from jinja2 import Template


_SCORE_COLUMNS = (
    "image", "path", "category", "defect", "is_anomaly", "shots", "seed", "score",
)  # fmt: skip
_FACTS: tuple[tuple[str, str], ...] = (
    ("Data set", "dataset.path"),
    ("Format", "dataset.format"),
    ("Categories", "dataset.categories"),
    ("Model", "model.name"),
    ("Weights", "model.pretrained"),
    ("Vision network", "vision.encoder"),
    ("Rule", "vision.rule"),
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
        "AUPRO",
        "Mean overlap of defect regions up to a limit on the false positive rate; each region "
        "weighs the same",
    ),
    "anomaly_pixel_auroc": ("AUROC", "Area under the ROC curve over the pixels of defect images"),
    "anomaly_pixel_f1_max": ("F1-max", "Best F1 over all thresholds, images with defects only"),
}
OPEN_SECTIONS = 1
"""Largest number of categories that are shown open; of more, each opens when it is asked for."""
SHOWN_WARNINGS = 2
"""Largest number of warnings that stand above the results; the others open."""
LISTED = 1000
"""Largest number of left-out images that are listed; their number is always told."""


def render(report: ReportInput) -> str:
    """Return the whole page as HTML, without a time or anything else that changes from run to run.

    Tables show every number of shots. Plots, galleries and decisions show one trial. All text is
    escaped; the page may load images of the data set alone, and does so where one is opened.

    Raises:
        StoreError: a table lacks a column or a label, or some scores of a category are no finite
            numbers and others are.
    """
    _check_tables(report)
    flat = flatten(report.parameters)
    trial = report.shown_trial()
    shown = [] if trial is None or report.scores.empty else sections(report, trial)
    held = _review(report, trial, shown)
    script = page_part("page/page.js")
    page = page_template().render(
        script=script,
        policy=content_policy(script),
        style=page_part("page/page.css"),
        data=as_json(held) if held else "",
        switch=held.get("trials", ()),
        left_out=held.get("left_out", 0),
        decided=any(one.threshold is not None for one in shown),
        trial_words="" if trial is None else trial_words(trial),
        undefined=_undefined(report),
        title=report.title,
        facts=_facts(flat),
        parameters=list(flat.items()),
        provenance=list(report.provenance.items()),
        warnings=list(report.warnings),
        shown_warnings=SHOWN_WARNINGS,
        groups=_GROUPS,
        headings=_headings(),
        tables=tables(report),
        runs=runs(report),
        further=further_tables(report),
        trial=trial,
        decisions=decisions(report, trial),
        setters=setters(report, trial),
        sections=shown,
        open_sections=OPEN_SECTIONS,
        pictured=PICTURED,
        skipped=list(report.skipped[:LISTED]),
        more_skipped=max(0, len(report.skipped) - LISTED),
        unused=list(report.unused[:LISTED]),
        more_unused=max(0, len(report.unused) - LISTED),
        scale=data_uri(colours()[None].repeat(12, axis=0)),
    )
    # names that are no valid Unicode (odd file systems) must not keep the page from being saved
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def _headings() -> list[tuple[str, str, str]]:
    """Of each metric: the group of its column, its heading and what it means."""
    groups = [group for group, columns in _GROUPS for _ in range(columns)]
    return [(group, *_HEADINGS[name]) for group, name in zip(groups, METRIC_NAMES, strict=True)]


@cache
def page_template() -> Template:
    """The page's template, compiled once a process."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(page_part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = score_text
    return environment.get_template("report.html.j2")


def _review(
    report: ReportInput, trial: Trial | None, shown: Sequence[ReportSection]
) -> dict[str, Any]:
    """What the script knows of the images; empty where there are none."""
    if trial is None or not shown:
        return {}
    cards = {item.position for one in shown for _, _, items in one.groups for item in items}
    return review(report, trial, cards)


def _undefined(report: ReportInput) -> list[str]:
    """Why metrics are undefined, or means of fewer categories, a line each; equal reasons together."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for (category, shots, seed, metric), reason in report.reasons.items():
        if reason:
            found.setdefault((category, metric_label(metric), reason), []).append(
                trial_words(Trial(shots, seed))
            )
    lines = [
        f"{category}, {name}: {reason} ({'; '.join(trials)})"
        for (category, name, reason), trials in found.items()
    ]
    lines += [
        f"Mean at {counted(table.shots, 'shot')}, {metric_label(name)}: {cell.note}"
        for table in tables(report)
        for name, cell in zip(METRIC_NAMES, table.mean.cells, strict=True)
        if cell.value and cell.note
    ]
    return lines[:LISTED]


def _facts(flat: Mapping[str, str]) -> list[tuple[str, str]]:
    """The parameters at the head of the page; not those of a CLIP that has no part in the run."""
    modes = {flat.get("fusion.classification_mode"), flat.get("fusion.segmentation_mode")}
    network = flat.get("vision.encoder", UNDEFINED) != UNDEFINED
    unused = (
        {"model.name", "model.pretrained"} if network and modes <= {"vision", "none"} else set()
    )
    if not network and flat.get("vision.rule") == "nearest":
        unused.add("vision.rule")
    return [
        (label, flat[key])
        for label, key in _FACTS
        if key not in unused and flat.get(key, UNDEFINED) != UNDEFINED
    ]


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
                f"the table of {name} lacks {', '.join(missing)}: run `fade run` to make it again"
            )
    scores = report.scores
    gaps = [name for name in _SCORE_COLUMNS if name in scores and scores[name].isna().any()]
    if "is_anomaly" in gaps and (scores["defect"][scores["is_anomaly"].isna()] == UNLABELLED).all():
        gaps.remove("is_anomaly")  # nobody knows it, and so no defect is named either
    if gaps := [name for name in gaps if name != "score"]:
        raise StoreError(
            f"the table of scores has empty fields in {', '.join(gaps)}: run `fade run` to make "
            "it again"
        )
