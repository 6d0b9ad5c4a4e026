"""Stage evaluate: fused maps, image scores and metrics from the score components."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.layout import Location
from cache.store import Store
from fade.datasets import dataset_root
from fade.types import Trial
from pipeline.cluster import map_tasks
from pipeline.components import component_key
from pipeline.evaluation import (
    Block,
    Component,
    Fusion,
    Outcome,
    TestImage,
    create_maps,
    evaluate_block,
    merge_histograms,
)
from pipeline.params import Params
from pipeline.paths import (
    CATEGORIES,
    EVALUATION,
    LANGUAGE,
    MANIFEST,
    MAPS,
    METRICS,
    METRICS_JSON,
    SCORES,
    SUMMARY,
    VISION,
    store_root,
)
from pipeline.receipts import Receipt, read_receipt
from pipeline.results import mean_counts, mean_metrics, metrics_table, summary_table
from pipeline.runner import run_stage
from pipeline.tables import SCHEMA, read_json, read_table, write_csv, write_json, write_table

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")

BLOCK_IMAGES = 64


class _Components:
    """Finds the components of test images in the store."""

    def __init__(self, receipt: Receipt, label: str, store: Store) -> None:
        self.space = receipt.space(label)
        self.against = receipt.against[label]
        self._places: dict[str, Location] = receipt.locate(store, label, receipt.rows[label])

    def of(self, images: pd.DataFrame, trial: Trial | None = None) -> Component:
        """The component's rows for some images; of one trial where it differs between trials."""
        places = []
        for category, key in zip(images["category"], images["hash"], strict=True):
            against = self.against[category]
            places.append(
                self._places[component_key(key, against[trial.label] if trial else against)]
            )
        return Component(self.space, tuple(places))


def plan_blocks(tests: pd.DataFrame, params: Params, store: Store, root: Path) -> list[Block]:
    """Cut the test images, in the manifest's order, into blocks with all that a task needs."""
    language = read_receipt(LANGUAGE)
    vision = read_receipt(VISION)
    fusions = tuple(
        Fusion(trial, params.vision_weight(trial), params.vision_multiplier(trial))
        for trial in params.trials()
    )
    with language.void_if_damaged():
        scores = (
            _Components(language, "language-score", store) if params.needs_language_score else None
        )
        maps = _Components(language, "language-map", store) if params.needs_language_map else None
    with vision.void_if_damaged():
        visions = _Components(vision, "vision-map", store) if params.needs_vision else None
    blocks = []
    for first in range(0, len(tests), BLOCK_IMAGES):
        part = tests.iloc[first : first + BLOCK_IMAGES]
        columns = (part[name] for name in ("category", "path", "is_anomaly", "mask"))
        images = tuple(TestImage(*values) for values in zip(*columns, strict=True))
        blocks.append(
            Block(
                store.root,
                root,
                MAPS.path,
                first,
                images,
                fusions,
                params.fusion.classification_mode,
                params.fusion.segmentation_mode,
                params.fusion.normalize,
                params.evaluate.size,
                scores.of(part) if scores else None,
                maps.of(part) if maps else None,
                tuple(visions.of(part, fusion.trial) for fusion in fusions) if visions else (),
            )
        )
    return blocks


def _evaluate(blocks: list[Block], params: Params) -> list[Outcome]:
    language, vision = read_receipt(LANGUAGE), read_receipt(VISION)
    # a damaged row may be of either: both are cheap to make again
    with language.void_if_damaged(), vision.void_if_damaged():
        return map_tasks(
            evaluate_block,
            blocks,
            params.cluster,
            "evaluate",
            weight=lambda block: len(block.images),
        )


def scores_table(tests: pd.DataFrame, outcomes: list[Outcome], trials: list[Trial]) -> pd.DataFrame:
    """The rows of scores.parquet: trial by trial, images in the manifest's order."""
    import pandas as pd

    scores = (
        np.concatenate([outcome.scores for outcome in outcomes], axis=1)
        if outcomes
        else np.zeros((len(trials), 0))
    )
    parts = [
        pd.DataFrame(
            {
                "image": tests["name"].to_numpy(),
                "path": tests["path"].to_numpy(),
                "category": tests["category"].to_numpy(),
                "defect": tests["defect"].to_numpy(),
                "is_anomaly": tests["is_anomaly"].to_numpy(dtype=bool),
                "shots": trial.shots,
                "seed": trial.seed,
                "score": scores[number],
            }
        )
        for number, trial in enumerate(trials)
    ]
    return pd.concat(parts, ignore_index=True)


def run(params: Params) -> None:
    """Write maps, scores, metrics, their summary, and remarks on them."""
    manifest, _ = read_table(MANIFEST.path)
    categories = read_json(CATEGORIES.path)["categories"]
    # pandas reads a missing mask as NaN
    manifest["mask"] = manifest["mask"].astype(object).where(manifest["mask"].notna(), None)
    tests = manifest[manifest["split"] == "test"].reset_index(drop=True)
    trials = params.trials()
    store = Store(store_root(params.features.store))
    root = dataset_root(params.dataset.format, Path(params.dataset.path))
    blocks = plan_blocks(tests, params, store, root) if len(tests) else []
    shutil.rmtree(MAPS.path, ignore_errors=True)
    MAPS.path.parent.mkdir(parents=True, exist_ok=True)
    component = blocks and (blocks[0].language_map or (blocks[0].vision_maps or (None,))[0])
    grid = component.space.shape[0] if component else 1
    with_maps = trials if params.fusion.segmentation_mode != "none" else []
    create_maps(MAPS.path, with_maps, len(tests), grid, BLOCK_IMAGES, SCHEMA)
    outcomes = _evaluate(blocks, params) if blocks else []
    scores = scores_table(tests, outcomes, trials)
    write_table(scores, SCORES.path)
    metrics, reasons = metrics_table(
        scores, merge_histograms(outcomes), categories if len(tests) else [], trials, params
    )
    if not len(tests):
        metrics = metrics.iloc[:0]
    summary = summary_table(metrics)
    write_csv(metrics, METRICS.path)
    write_csv(summary, SUMMARY.path)
    write_json(mean_metrics(summary), METRICS_JSON.path)
    unmasked = tests[tests["is_anomaly"] & tests["mask"].isna()]
    write_json(
        {
            "undefined": reasons,
            "mean_over": mean_counts(metrics),
            "categories": len(categories),
            "without_mask": unmasked.groupby("category", sort=False).size().to_dict(),
        },
        EVALUATION.path,
    )
    _log_means(metrics)


def _log_means(metrics: pd.DataFrame) -> None:
    if metrics.empty:
        log.info("no test images, so no metrics")
        return
    means = (
        metrics[metrics["category"] == "mean"].groupby("shots", sort=False).mean(numeric_only=True)
    )
    for shots, row in means.iterrows():
        log.info(
            "%s shots: image AUROC %.1f, pixel AUROC %.1f, AUPRO %.1f",
            shots,
            100 * row["full_image_auroc"],
            100 * row["full_pixel_auroc"],
            100 * row["full_pixel_au_pro"],
        )


if __name__ == "__main__":
    run_stage("stages.evaluate")
