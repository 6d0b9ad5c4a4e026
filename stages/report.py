"""Stage report: the HTML report, paper-style tables, and the plots for ``dvc plots``."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.layout import Space
from cache.place import open_path
from fade.datasets.read import dataset_root
from fade.encoder import SEEDED
from fade.errors import StoreError, summarise
from fade.files import write_whole
from fade.metrics import METRICS as METRIC_NAMES
from fade.metrics import Curve, pro_curve, recall_curve, roc_curve
from fade.preprocess import decode_rgb
from fade.types import Trial
from pipeline.artefacts.catalogue import (
    EVALUATION,
    MANIFEST,
    METRICS,
    PIXELS,
    PLOTS,
    REPORT,
    RUN,
    SCORES,
    SKIPPED,
    SUMMARY,
    TABLES,
    TEST,
    THRESHOLDS,
)
from pipeline.artefacts.maps import map_loader
from pipeline.artefacts.pixel_histograms import PixelHistograms, read_pixels
from pipeline.artefacts.provenance import data_fingerprint, flattened
from pipeline.artefacts.tables import (
    read_csv,
    read_json,
    read_remarks,
    read_table,
    table_parts,
    write_json,
)
from pipeline.config.schema import Params
from pipeline.dataset.accounting import unused_lines
from pipeline.dataset.loader import read_unchanged
from pipeline.dataset.masks import read_unchanged_mask
from pipeline.evaluation.thresholds import read_thresholds
from pipeline.evaluation.trials import choose_trial
from pipeline.features.models import DEMO_MODEL
from pipeline.process.memory import give_back
from pipeline.report.html import render
from pipeline.report.input import ReportInput
from pipeline.report.paper_table import latex_table, markdown_table
from pipeline.report.plots import CURVES, write_plots
from pipeline.stage import run_stage

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")


def _warnings(params: Params, evaluation: dict[str, Any], data: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know."""
    found = []
    if params.vision.encoder is not None:
        pass  # the CLIP of model has no part
    elif params.model.pretrained == SEEDED:
        found.append("The weights are seeded, not trained: the numbers mean nothing.")
    elif params.model.pretrained == DEMO_MODEL:
        found.append(
            "The model is the demo's, trained on drawn pictures alone: on other images its numbers "
            "say nothing about what a real CLIP would do."
        )
    limit = params.dataset.limit
    if limit is not None:
        found.append(
            f"Only the first {limit} test images of each defect and of good were scored "
            "(dataset.limit)."
        )
    skipped = [item["reason"] for item in data["skipped"]]
    if skipped:
        found.append(
            f"{len(skipped)} images could not be used and are left out: {summarise(skipped)}."
        )
    found += data["warnings"]
    for category, count in evaluation["without_mask"].items():
        found.append(
            f"{category}: {count} defect images have no mask and are left out of pixel metrics."
        )
    found += evaluation["warnings"]
    total = evaluation["categories"]
    for metric in METRIC_NAMES:
        known = evaluation["mean_over"][metric]
        if 0 < known < total:
            found.append(f"The mean of {metric} runs over {known} of {total} categories.")
    return found


def _run(params: Params, evaluation: dict[str, Any]) -> dict[str, Any]:
    """What the results come from: data, features, parameters, and what computed them."""
    images = (
        (path, key)
        for part in table_parts(MANIFEST.path, ("path", "hash"))
        for path, key in zip(part["path"].to_pylist(), part["hash"].to_pylist(), strict=True)
    )
    spaces = [Space.from_json(content) for content in read_remarks(TEST.path)["spaces"]]
    return {
        "made_with": evaluation["made_with"],
        "manifest": data_fingerprint(images),
        "features": {
            space.label: {"fingerprint": space.fingerprint, "description": space.description}
            for space in spaces
        },
        "parameters": params.model_dump(mode="json", exclude={"runtime", "cluster"}),
    }


def _provenance(run: dict[str, Any]) -> dict[str, str]:
    """The same in lines, without the parameters, which the page lists by themselves."""
    return {
        **flattened(run["made_with"]),
        "manifest": run["manifest"],
        **{label: feature["fingerprint"] for label, feature in run["features"].items()},
    }


def _curves(
    scores: pd.DataFrame, pixels: PixelHistograms, trial: Trial
) -> dict[str, dict[str, Curve]]:
    """By category, the curves of one trial that its images define."""
    found: dict[str, dict[str, Curve]] = {}
    chosen = scores[(scores["shots"] == trial.shots) & (scores["seed"] == trial.seed)]
    for name, own in chosen.groupby("category", sort=False):
        values, labels = own["score"].to_numpy(), own["is_anomaly"].to_numpy(dtype=bool)
        scored = np.isfinite(values).all()
        histogram = pixels.get((str(name), trial))
        curves = (
            roc_curve(values, labels) if scored else None,
            recall_curve(values, labels) if scored else None,
            pro_curve(histogram) if histogram else None,
        )
        found[str(name)] = {
            title: curve
            for (title, _, _), curve in zip(CURVES, curves, strict=True)
            if curve is not None
        }
    return found


def _listed(path: str) -> dict[str, Any]:
    """What the manifest says of an image; few are shown, so that it is not held."""
    for part in table_parts(MANIFEST.path, ("hash", "mask", "mask_hash"), path=path):
        if len(part["hash"]):
            return {name: column[0].as_py() for name, column in part.items()}
    raise StoreError(f"{MANIFEST.path} does not list {path}: run `dvc repro`")


def run(params: Params) -> None:
    """Write the report, the tables and the plots."""
    metrics, summary, evaluation = (
        read_csv(METRICS.path), read_csv(SUMMARY.path), read_json(EVALUATION.path),
    )  # fmt: skip
    trial = choose_trial(params.trials())
    # of many trials one is shown: the others stay where they are
    scores, _ = read_table(SCORES.path, shots=trial.shots, seed=trial.seed)
    pixels, data = read_pixels(PIXELS.path), read_json(SKIPPED.path)
    dataset = params.dataset
    root = dataset_root(dataset.format, open_path(dataset.path))

    def load_image(path: str) -> np.ndarray:
        data = read_unchanged(root, path, _listed(path)["hash"])
        return np.asarray(decode_rgb(data, path, exif_rotation=dataset.exif_rotation))

    def load_mask(path: str) -> np.ndarray | None:
        listed = _listed(path)
        if listed["mask"] is None:
            return None
        return read_unchanged_mask(
            root, listed["mask"], listed["mask_hash"], exif_rotation=dataset.exif_rotation
        )

    run_of = _run(params, evaluation)
    give_back()
    report = ReportInput(
        title=Path(dataset.path).name,
        metrics=metrics,
        summary=summary,
        scores=scores,
        load_map=map_loader(),
        load_image=load_image,
        load_mask=load_mask,
        reasons={
            (item["category"], item["shots"], item["seed"], item["metric"]): item["reason"]
            for item in evaluation["undefined"]
        },
        parameters=params.model_dump(exclude={"runtime", "cluster"}),
        provenance=_provenance(run_of),
        warnings=_warnings(params, evaluation, data),
        trial=trial,
        thresholds=read_thresholds(THRESHOLDS.path),
        pixels=pixels,
        pro_limit=params.evaluate.pro_limit,
        skipped=[item["reason"] for item in data["skipped"]],
        unused=unused_lines(data.get("unused", ())),
    )
    for folder in (REPORT.path, TABLES.path, PLOTS.path):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    write_json(run_of, RUN.path)
    page = REPORT.path / "index.html"
    write_whole(page, render(report))
    write_whole(TABLES.path / "metrics.md", markdown_table(summary))
    write_whole(TABLES.path / "metrics.tex", latex_table(summary))
    curves = _curves(scores, pixels, trial)
    give_back()
    write_plots(summary, metrics, PLOTS.path, curves, params.evaluate.pro_limit)
    log.info("open %s in a browser", page)


if __name__ == "__main__":
    run_stage("stages.report")
