"""Stage report: the HTML report, paper-style tables, and the plots for ``dvc plots``."""

from __future__ import annotations

import logging
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np

from cache.location import open_path
from fade.datasets.read import dataset_root
from fade.files import write_file
from fade.preprocess import decode_rgb
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
    THRESHOLDS,
)
from pipeline.artefacts.pixel_histograms import read_pixels
from pipeline.artefacts.tables import (
    manifest_aspect,
    read_csv,
    read_json,
    read_table,
    table_columns,
    write_json,
)
from pipeline.config.schema import Params
from pipeline.dataset.accounting import unused_lines
from pipeline.dataset.listed import ListedImages
from pipeline.dataset.loader import read_unchanged
from pipeline.dataset.masks import read_unchanged_mask
from pipeline.evaluation.thresholds import read_thresholds
from pipeline.evaluation.trials import choose_trial
from pipeline.process.memory import trim_heap
from pipeline.report.about import data_notice, provenance_lines, reader_warnings, run_facts
from pipeline.report.curves import category_curves
from pipeline.report.gallery import AT_ONCE
from pipeline.report.html import render
from pipeline.report.input import ReportInput
from pipeline.report.nearest import nearest_finder
from pipeline.report.originals import originals_address
from pipeline.report.paper_table import metric_tables
from pipeline.report.plots import write_plots
from pipeline.report.pull import pull_finder
from pipeline.report.rendering import latex, markdown
from pipeline.report.review import trials_to_switch
from pipeline.report.shades import mask_loader, shade_loader
from pipeline.report.summary import DEFAULT_METRICS
from pipeline.stage import run_stage

log = logging.getLogger("fade")


def run(params: Params) -> None:
    """Write the report, the tables and the plots."""
    metrics, summary, evaluation = (
        read_csv(METRICS.path), read_csv(SUMMARY.path), read_json(EVALUATION.path),
    )  # fmt: skip
    trial = choose_trial(params.trials())
    # of many trials one is shown; the page can switch to others as far as their scores are few
    scores, _ = read_table(SCORES.path, shots=trial.shots, seed=trial.seed)
    others = trials_to_switch(params.trials(), trial, len(scores))[1:]
    every = [scores, *(read_table(SCORES.path, shots=t.shots, seed=t.seed)[0] for t in others)]
    pixels, data = read_pixels(PIXELS.path, trial), read_json(SKIPPED.path)
    dataset, aspect = params.dataset, manifest_aspect(table_columns(MANIFEST.path)[1])
    root = dataset_root(dataset.format, open_path(dataset.path))
    listed = ListedImages()

    @lru_cache(maxsize=AT_ONCE)  # of an image and of its worst patch
    def load_image(path: str) -> np.ndarray:
        content = read_unchanged(root, path, listed(path)["hash"])
        return np.asarray(decode_rgb(content, path, exif_rotation=dataset.exif_rotation))

    def load_mask(path: str) -> np.ndarray | None:
        row = listed(path)
        if row["mask"] is None:
            return None
        return read_unchanged_mask(
            root, row["mask"], row["mask_hash"], exif_rotation=dataset.exif_rotation
        )

    import pandas as pd  # here: a machine without it gets a line, not a traceback

    thresholds, run_of = read_thresholds(THRESHOLDS.path), run_facts(params, evaluation)
    trim_heap()
    report = ReportInput(
        title=Path(dataset.path).name,
        metrics=metrics,
        summary=summary,
        scores=pd.concat(every, ignore_index=True) if others else scores,
        load_map=shade_loader(params, scores, listed, aspect, thresholds),
        load_above=mask_loader(params, scores, listed, aspect, thresholds),
        load_nearest=nearest_finder(params, trial, scores, listed),
        load_pull=pull_finder(params, trial, scores, listed),
        originals=originals_address(root, REPORT.path),
        load_image=load_image,
        load_mask=load_mask,
        reasons={
            (item["category"], item["shots"], item["seed"], item["metric"]): item["reason"]
            for item in evaluation["undefined"]
        },
        parameters=params.model_dump(exclude={"runtime", "cluster"}),
        provenance=provenance_lines(run_of),
        warnings=[*reader_warnings(params, evaluation, data), *data_notice(root)],
        trial=trial,
        thresholds=thresholds,
        pixels=pixels,
        pro_limit=params.evaluate.pro_limits[0],
        skipped=[item["reason"] for item in data["skipped"]],
        unused=unused_lines(data.get("unused", ())),
    )
    for folder in (REPORT.path, TABLES.path, PLOTS.path):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    write_json(run_of, RUN.path)
    page = REPORT.path / "index.html"
    write_file(page, render(report))
    tables = metric_tables(summary, DEFAULT_METRICS)
    write_file(TABLES.path / "metrics.md", markdown(tables))
    write_file(TABLES.path / "metrics.tex", latex(tables))
    curves = category_curves(scores, pixels, trial)
    trim_heap()
    write_plots(summary, metrics, PLOTS.path, curves, params.evaluate.pro_limits[0])
    log.info("open %s in a browser", page)


if __name__ == "__main__":
    run_stage("stages.report")
