"""The report page: everything inline in one HTML file, the same bytes for the same inputs."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fade.errors import StoreError
from fade.metrics import METRICS, PixelHistogram
from fade.types import Trial
from pipeline.evaluation.thresholds import Threshold
from pipeline.report.gallery import (
    Gallery,
    Item,
    Mask,
    Pixels,
    colours,
    data_uri,
    draw_tiles,
    select_gallery,
)
from pipeline.report.plots import (
    MEAN,
    UNDEFINED,
    Plot,
    mean_over_categories,
    pixel_plots,
    score_plots,
)

if TYPE_CHECKING:
    import pandas as pd

Reasons = Mapping[tuple[str, int, int, str], str]

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
_SOURCES = {
    "training": "training images",
    "references": "references, each left out once",
    "labels": "test labels",
    "none": UNDEFINED,
}
_HEADLINE = (
    ("image AUROC", "full_image_auroc"),
    ("pixel AUROC", "full_pixel_auroc"),
    ("AU-PRO", "full_pixel_au_pro"),
)
OPEN_SECTIONS = 6
"""Up to so many categories are shown open; of more, each opens when it is asked for."""
LISTED = 1000
"""So many left-out images are listed; their number is always told."""
_KINDS: tuple[tuple[str, str, str], ...] = (
    ("misses", "Worst misses", "anomalous images with the lowest scores"),
    ("alarms", "False alarms", "good images with the highest scores"),
    ("hits", "Best hits", "anomalous images with the highest scores"),
    ("unranked", "Images", "without image scores there is no ranking: the first ones"),
)


@dataclass(frozen=True)
class ReportInput:
    """All that the report shows.

    Attributes:
        title: heading of the page.
        parameters: the run's parameters, nested as in ``params.yaml``.
        provenance: what the results come from, by name, e.g. versions and fingerprints.
        warnings: what a reader must know before believing a number, one sentence each.
        metrics: ``category`` (with rows ``mean``), ``shots``, ``seed`` and the eight metrics as
            fractions, NaN where undefined. Empty where there are no test images.
        summary: ``category``, ``shots``, ``<metric>_mean`` and ``<metric>_std`` over seeds.
        scores: a row per test image, shots and seed, columns as in ``scores.parquet``.
        reasons: why a metric is undefined, by category, shots, seed and metric.
        load_map: of a trial's label and the row within that trial's scores, the fused map: uint8
            (H, W), or None where there are no maps.
        load_image: of a row's ``path``, the image: uint8 RGB (h, w, 3).
        load_mask: of a row's ``path``, the mask: bool (h, w), or None where there is none.
        thresholds: of categories and trials, what makes an image or a pixel anomalous.
        pixels: of categories and trials, the histograms of their pixels.
        pro_limit: false positive rate up to which AUPRO integrates.
        skipped: of each image that was left out, why; each reason names its image.
        gallery_size: images of each kind per category.

    A loader may raise :class:`~fade.errors.FadeError`; its message then stands in for the
    picture.
    """

    title: str
    parameters: Mapping[str, Any]
    provenance: Mapping[str, str]
    warnings: Sequence[str]
    metrics: pd.DataFrame
    summary: pd.DataFrame
    scores: pd.DataFrame
    load_map: Callable[[str, int], Pixels | None]
    load_image: Callable[[str], Pixels]
    load_mask: Callable[[str], Mask | None]
    reasons: Reasons = field(default_factory=dict)
    thresholds: Sequence[Threshold] = ()
    pixels: Mapping[tuple[str, Trial], PixelHistogram] = field(default_factory=dict)
    pro_limit: float = 0.3
    skipped: Sequence[str] = ()
    gallery_size: int = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table as text; ``value`` sorts, empty where undefined; ``note`` explains."""

    text: str
    spread: str = ""
    value: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table of metrics."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The metrics of all categories at one number of shots."""

    shots: int
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    mean: Row


@dataclass(frozen=True, slots=True)
class Run:
    """The metrics of one category in one trial."""

    category: str
    shots: int
    seed: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """The thresholds of one category, what they rest on, and how they divide its test images.

    ``alarms`` and ``missed`` are empty where there is no threshold, no score or no such image.
    """

    category: str
    score: str
    level: str
    source: str
    images: int
    remark: str
    optimistic: bool
    alarms: str
    missed: str


@dataclass(frozen=True, slots=True)
class Section:
    """What the page shows of one category.

    Attributes:
        anchor: of its links.
        name: the category.
        good, anomalous: how many test images of each kind there are.
        scored: whether they have image scores.
        figures: its main metrics in the trial that is shown, name and value.
        plots: title and ``data:`` address of each.
        decisions: how many images the threshold puts on the wrong side, empty without one.
        groups: heading, explanation and items of each gallery.
    """

    anchor: str
    name: str
    good: int
    anomalous: int
    scored: bool
    figures: tuple[tuple[str, str], ...]
    plots: tuple[tuple[str, str], ...]
    decisions: str
    groups: tuple[tuple[str, str, tuple[Item, ...]], ...]


def render(report: ReportInput) -> str:
    """Return the whole page as HTML, without a time or anything else that changes from run to run.

    Tables show every number of shots. Plots and galleries show one trial: the largest number of
    shots with the smallest seed. All text is escaped; the page loads nothing and forbids
    the browser to.

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
    trial = shown_trial(report.scores)
    page = environment.from_string(source).render(
        title=report.title,
        facts=[
            (label, flat[key]) for label, key in _FACTS if flat.get(key, UNDEFINED) != UNDEFINED
        ],
        parameters=list(flat.items()),
        provenance=list(report.provenance.items()),
        warnings=list(report.warnings),
        groups=_GROUPS,
        headings=[_HEADINGS[name] for name in METRICS],
        tables=tables(report),
        runs=runs(report),
        trial=trial,
        decisions=_decisions(report, trial),
        sections=[] if trial is None else _sections(report, trial),
        open_sections=OPEN_SECTIONS,
        skipped=list(report.skipped[:LISTED]),
        more_skipped=max(0, len(report.skipped) - LISTED),
        scale=data_uri(colours()[None].repeat(12, axis=0)),
    )
    # names that are no valid Unicode (odd file systems) must not keep the page from being saved
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def shown_trial(table: pd.DataFrame) -> Trial | None:
    """Return the trial to show of a table by shots and seed: largest shots, smallest seed."""
    if table.empty:
        return None
    shots = table["shots"].max()
    return Trial(int(shots), int(table.loc[table["shots"] == shots, "seed"].min()))


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


def tables(report: ReportInput) -> tuple[Table, ...]:
    """Return the tables of metrics by ascending shots; none without metrics."""
    if report.metrics.empty or report.summary.empty:
        return ()
    means = mean_over_categories(report.summary, report.metrics)
    return tuple(
        _table(report, int(shots), means.loc[means["shots"] == shots])
        for shots in sorted(report.summary["shots"].unique())
    )


def _table(report: ReportInput, shots: int, means: pd.DataFrame) -> Table:
    at_shots = report.metrics["shots"] == shots
    seeds = tuple(sorted(int(seed) for seed in report.metrics.loc[at_shots, "seed"].unique()))
    summary = report.summary[report.summary["shots"] == shots]
    summary = summary[summary["category"].astype(str) != MEAN]

    def note(category: str, metric: str) -> str:
        found = {s: report.reasons.get((category, shots, s, metric), "") for s in seeds}
        texts = set(found.values()) - {""}
        if len(texts) == 1 and all(found.values()):
            return texts.pop()
        return "; ".join(f"seed {s}: {text}" for s, text in found.items() if text)

    def row(category: str, values: Mapping[Any, Any], notes: list[str]) -> Row:
        cells = [
            cell(values[f"{name}_mean"], values[f"{name}_std"], len(seeds), text)
            for name, text in zip(METRICS, notes, strict=True)
        ]
        return Row(category, tuple(cells))

    rows = []
    for values in summary.to_dict("records"):
        category = str(values["category"])
        rows.append(row(category, values, [note(category, name) for name in METRICS]))
    defined = [sum(r.cells[i].value != "" for r in rows) for i in range(len(METRICS))]
    notes = [
        f"mean over {n} of {len(rows)} categories" if 0 < n < len(rows) else note(MEAN, name)
        for n, name in zip(defined, METRICS, strict=True)
    ]
    blank = {f"{name}_{kind}": math.nan for name in METRICS for kind in ("mean", "std")}
    return Table(
        shots, seeds, tuple(rows), row(MEAN, next(iter(means.to_dict("records")), blank), notes)
    )


def runs(report: ReportInput) -> tuple[Run, ...]:
    """Return every category's metrics in every trial, means included, by trial."""
    found = []
    for row in () if report.metrics.empty else report.metrics.to_dict("records"):
        category, shots, seed = str(row["category"]), int(row["shots"]), int(row["seed"])
        cells = tuple(
            cell(row[name], math.nan, 1, report.reasons.get((category, shots, seed, name), ""))
            for name in METRICS
        )
        found.append(Run(category, shots, seed, cells))
    return tuple(found)


def cell(mean: float, std: float, seeds: int, note: str = "") -> Cell:
    """Return a fraction as a percentage with one decimal, with its spread if there are more seeds.

    >>> cell(0.8765, 0.012, 3)
    Cell(text='87.6', spread='1.2', value='0.8765', note='')
    >>> cell(float("nan"), float("nan"), 3, "no good images")
    Cell(text='–', spread='', value='', note='no good images')
    """
    if not math.isfinite(mean):
        return Cell(UNDEFINED, note=note or "undefined")
    spread = f"{100 * std:.1f}" if seeds > 1 and math.isfinite(std) else ""
    return Cell(f"{100 * mean:.1f}", spread, repr(float(mean)), note)


def _sections(report: ReportInput, trial: Trial) -> list[Section]:
    chosen = report.scores
    of_trial = (chosen["shots"] == trial.shots) & (chosen["seed"] == trial.seed)
    if not of_trial.all():
        chosen = chosen[of_trial].reset_index(drop=True)
    names = chosen["category"].astype(str)
    return [
        _section(report, trial, chosen, name, f"category-{i}")
        for i, name in enumerate(names.unique(), 1)
    ]


def _section(
    report: ReportInput, trial: Trial, chosen: pd.DataFrame, name: str, anchor: str
) -> Section:
    gallery = select_gallery(chosen, name, report.gallery_size)
    own = chosen[chosen["category"].astype(str) == name]
    values = own["score"].to_numpy(dtype=np.float64)
    is_anomaly = own["is_anomaly"].to_numpy(dtype=bool)
    groups = tuple(
        (heading, text, items)
        for kind, heading, text in _KINDS
        if (items := _items(report, trial, chosen, gallery, kind))
    )
    found = [t for t in report.thresholds if t.category == name and t.trial == trial]
    threshold = found[0] if found else None
    scored = bool(np.isfinite(values).all())
    plots: tuple[Plot, ...] = ()
    if scored:
        plots += score_plots(values, is_anomaly, threshold.image if threshold else None)
    if (name, trial) in report.pixels:
        level = threshold.pixel if threshold else None
        plots += pixel_plots(report.pixels[name, trial], report.pro_limit, level)
    anomalous = int(np.count_nonzero(is_anomaly))
    good = len(own) - anomalous
    decisions = ""
    if threshold is not None and threshold.image is not None and scored:
        alarms, missed = _wrong(values, is_anomaly, threshold.image)
        decisions = (
            f"At the threshold {threshold.image:.3f}: {alarms} of {good} good images are called "
            f"anomalous, and {missed} of {anomalous} anomalous ones are missed."
        )
    return Section(
        anchor, name, good, anomalous, scored, _figures(report, trial, name),
        tuple((plot.title, _svg_uri(plot)) for plot in plots), decisions, groups,
    )  # fmt: skip


def _svg_uri(plot: Plot) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(plot.svg.encode("utf-8")).decode()


def _figures(report: ReportInput, trial: Trial, name: str) -> tuple[tuple[str, str], ...]:
    """The main metrics of a category in one trial, those that are defined."""
    if report.metrics.empty:
        return ()
    metrics = report.metrics
    own = metrics[
        (metrics["category"].astype(str) == name)
        & (metrics["shots"] == trial.shots)
        & (metrics["seed"] == trial.seed)
    ]
    values = next(iter(own.to_dict("records")), {})
    return tuple(
        (label, f"{100 * values[metric]:.1f}")
        for label, metric in _HEADLINE
        if math.isfinite(values.get(metric, math.nan))
    )


def _wrong(
    values: NDArray[np.float64], is_anomaly: NDArray[np.bool_], threshold: float
) -> tuple[int, int]:
    """How many good images are above a threshold, and how many anomalous ones are not."""
    above = values > threshold
    return int(np.count_nonzero(above & ~is_anomaly)), int(np.count_nonzero(~above & is_anomaly))


def _decisions(report: ReportInput, trial: Trial | None) -> list[Decision]:
    """The lines of the table of thresholds; of a run without test images those of its first trial."""
    if not report.thresholds:
        return []
    shown = trial or report.thresholds[0].trial
    return [_decision(report, item) for item in report.thresholds if item.trial == shown]


def _decision(report: ReportInput, threshold: Threshold) -> Decision:
    alarms = missed = ""
    if threshold.image is not None and not report.scores.empty:
        scores = report.scores
        own = scores[
            (scores["category"].astype(str) == threshold.category)
            & (scores["shots"] == threshold.shots)
            & (scores["seed"] == threshold.seed)
        ]
        is_anomaly = own["is_anomaly"].to_numpy(dtype=bool)
        wrong = _wrong(own["score"].to_numpy(dtype=np.float64), is_anomaly, threshold.image)
        total = int(np.count_nonzero(~is_anomaly)), int(np.count_nonzero(is_anomaly))
        alarms, missed = (
            f"{part} of {whole}" if whole else "" for part, whole in zip(wrong, total, strict=True)
        )
    return Decision(
        category=threshold.category,
        score=UNDEFINED if threshold.image is None else f"{threshold.image:.3f}",
        level=UNDEFINED if threshold.pixel is None else str(threshold.pixel),
        source=_SOURCES[threshold.source],
        images=threshold.images,
        remark=threshold.remark,
        optimistic=threshold.source == "labels",
        alarms=alarms,
        missed=missed,
    )


def _items(
    report: ReportInput, trial: Trial, chosen: pd.DataFrame, gallery: Gallery, kind: str
) -> tuple[Item, ...]:
    items = []
    for position in getattr(gallery, kind):
        row = chosen.iloc[position]
        path, is_anomaly = str(row["path"]), bool(row["is_anomaly"])
        tiles = draw_tiles(
            partial(report.load_image, path),
            partial(report.load_mask, path),
            partial(report.load_map, trial.label, position),
            is_anomaly,
        )
        name, defect = str(row["image"]), str(row["defect"])
        items.append(Item(name, defect, is_anomaly, float(row["score"]), tiles))
    return tuple(items)


def _check_tables(report: ReportInput) -> None:
    both = [f"{name}_{kind}" for name in METRICS for kind in ("mean", "std")]
    for name, frame, columns in (
        ("metrics", report.metrics, ["category", "shots", "seed", *METRICS]),
        ("summary", report.summary, ["category", "shots", *both]),
        ("scores", report.scores, list(_SCORE_COLUMNS)),
    ):
        missing = [column for column in columns if column not in frame]
        if missing and not frame.empty:
            raise StoreError(
                f"the table of {name} lacks {', '.join(missing)}: run `dvc repro` to make it again"
            )
    # a missing label would silently count as anomalous
    keys = [column for column in _SCORE_COLUMNS if column in report.scores and column != "score"]
    if gaps := [column for column in keys if report.scores[column].isna().any()]:
        raise StoreError(
            f"the table of scores has empty fields in {', '.join(gaps)}: run `dvc repro` to make "
            "it again"
        )


def _digest(script: str) -> str:
    """Return what a content security policy calls an inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
