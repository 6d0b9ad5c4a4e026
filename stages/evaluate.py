"""Stage evaluate: fused maps, image scores, metrics and thresholds from the score components."""

from __future__ import annotations

import logging
from dataclasses import asdict

from cache.location import open_path
from cache.store import Store
from fade.datasets.read import dataset_root
from fade.errors import counted
from pipeline.artefacts.catalogue import (
    CALIBRATION,
    CATEGORIES,
    EVALUATION,
    MANIFEST,
    MAPS,
    METRICS,
    METRICS_JSON,
    PIXELS,
    SELECTION,
    SUMMARY,
    THRESHOLDS,
    store_root,
)
from pipeline.artefacts.maps import create_maps
from pipeline.artefacts.pixel_histograms import write_pixels
from pipeline.artefacts.provenance import made_with
from pipeline.artefacts.tables import (
    manifest_aspect,
    read_json,
    read_table,
    write_csv,
    write_json,
)
from pipeline.config.schema import Params
from pipeline.evaluation.corrections import corrected_tests, correction_warnings, leaves_out
from pipeline.evaluation.decisions import all_decisions, decision_warnings
from pipeline.evaluation.foreground import foreground_warnings
from pipeline.evaluation.further import best_level_of, declared_levels
from pipeline.evaluation.further_files import write_further
from pipeline.evaluation.groups import counted_noun, group_warnings, grouped_tests
from pipeline.evaluation.planner import BLOCK_IMAGES, Planner, evaluate_tests
from pipeline.evaluation.results import (
    evaluation_remarks,
    later_columns,
    log_means,
    mean_metrics,
    metrics_table,
    scores_table,
    summary_table,
    write_scores,
)
from pipeline.evaluation.scales import map_scales
from pipeline.evaluation.similar import smoothed_scores
from pipeline.evaluation.thresholds import write_thresholds
from pipeline.evaluation.trial_thresholds import (
    calibration_parts,
    fusion_settings,
    label_thresholds,
    normal_thresholds,
    unknown_overrides,
)
from pipeline.evaluation.trials import choose_trial, trial_words
from pipeline.stage import run_stage

log = logging.getLogger("fade")


def run(params: Params) -> None:
    """Write maps, scores, metrics, their summary, remarks on them, and thresholds."""
    columns = ("path", "category", "defect", "is_anomaly", "mask", "mask_hash", "width", "height")
    tests, remarks = read_table(MANIFEST.path, columns, split="test")
    tests, corrections = corrected_tests(
        tests, params.evaluate.labels, part=leaves_out(params.dataset)
    )
    calibration, _ = read_table(CALIBRATION.path)
    selection, _ = read_table(SELECTION.path)
    categories = read_json(CATEGORIES.path)["categories"]
    trials = params.trials()
    store = Store(store_root(params.features.store))
    root = dataset_root(params.dataset.format, open_path(params.dataset.path))
    aspect = manifest_aspect(remarks)
    planner = Planner.open(params, store, root, aspect) if len(tests) + len(calibration) else None
    parts = calibration_parts(planner, calibration, selection, categories, params)
    scales = map_scales(planner, tests, parts, trials, params)
    with_maps = trials if params.fusion.segmentation_mode != "none" else []
    grid = planner.grid() if planner else (1, 1)
    create_maps(MAPS.path, with_maps, len(tests), grid, BLOCK_IMAGES, scales)
    from_labels = params.threshold.source == "labels"
    thresholds = [] if from_labels else normal_thresholds(planner, parts, params, scales)
    level = best_level_of if from_labels else declared_levels(thresholds)
    measured = evaluate_tests(planner, tests, trials, params, level, scales)
    histograms = measured.histograms
    image_scores = smoothed_scores(measured.scores, tests, params, store)
    write_scores(tests, image_scores, trials, params.evaluate.group)
    judged, part_scores = grouped_tests(tests, image_scores, params.evaluate.group)
    write_pixels(histograms, PIXELS.path)
    scores = scores_table(judged, part_scores, trials)
    if from_labels:
        thresholds = label_thresholds(
            scores, histograms, categories, trials, scales, params.threshold.overrides
        )
    metrics, reasons = metrics_table(
        scores, histograms, categories if len(tests) else [], trials, params, measured.vanished,
        thresholds, measured.further,
    )  # fmt: skip
    if not len(tests):
        metrics = metrics.iloc[:0]
    summary = summary_table(metrics)
    write_csv(metrics, METRICS.path, later_columns(metrics))
    write_csv(summary, SUMMARY.path, later_columns(summary))
    write_further(judged, part_scores, trials, measured.further, thresholds, params)
    means = mean_metrics(summary)
    write_json(means, METRICS_JSON.path)
    evaluation = evaluation_remarks(tests, metrics, reasons, categories, measured.vanished, params)
    evaluation["warnings"] += foreground_warnings(
        measured.without_foreground, tests["category"], params.evaluate
    )
    evaluation["warnings"] += unknown_overrides(params, categories)
    if params.evaluate.group is not None:
        evaluation["warnings"] += group_warnings(tests, judged)
    evaluation["warnings"] += correction_warnings(corrections)
    against = planner.against() if planner else {}
    write_thresholds(thresholds, fusion_settings(params), THRESHOLDS.path, against)
    trial, decisions = choose_trial(trials), all_decisions(thresholds, scores)
    noun = counted_noun(params.evaluate.group)
    evaluation["warnings"] += decision_warnings(thresholds, decisions, trial, noun)
    evaluation["decisions"] = [asdict(found) for found in decisions]
    write_json({**evaluation, **corrections, "made_with": made_with()}, EVALUATION.path)
    if unlabelled := sum(evaluation["without_label"].values()):
        log.info(
            "no label, and no part in metrics: %d of %s",
            unlabelled,
            counted(len(tests), "test image"),
        )
    log_means(means)
    for found in decisions:
        said = found.sentence(noun)
        if found.trial == trial and not any(said in text for text in evaluation["warnings"]):
            log.info("%s, %s: %s", found.category, trial_words(trial), said)
    for warning in evaluation["warnings"]:
        log.warning("%s", warning)


if __name__ == "__main__":
    run_stage("stages.evaluate")
