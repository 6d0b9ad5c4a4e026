"""Stage evaluate: fused maps, image scores, metrics and thresholds from the score components."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.layout import Location
from cache.place import open_path
from cache.store import Store
from fade.aspect import Aspect, Shape, shape_of
from fade.datasets import dataset_root
from fade.metrics import PixelHistogram
from fade.types import DataPath, Trial
from pipeline.calibration import trial_images
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
    CALIBRATION,
    CATEGORIES,
    EVALUATION,
    LANGUAGE,
    MANIFEST,
    MAPS,
    METRICS,
    METRICS_JSON,
    PIXELS,
    SCORES,
    SELECTION,
    SUMMARY,
    THRESHOLDS,
    VISION,
    store_root,
)
from pipeline.pixels import pixel_table
from pipeline.receipts import Receipt, read_receipt
from pipeline.results import mean_counts, mean_metrics, metrics_table, summary_table
from pipeline.runner import run_stage
from pipeline.tables import (
    SCHEMA,
    manifest_aspect,
    read_json,
    read_table,
    write_csv,
    write_json,
    write_table,
)
from pipeline.thresholds import (
    Threshold,
    from_labels,
    from_normal,
    undecided,
    write_thresholds,
)

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")

BLOCK_IMAGES = 64


class _Components:
    """Finds the components of images in the store."""

    def __init__(self, receipt: Receipt, label: str, store: Store) -> None:
        self.space = receipt.space(label)
        self.against = receipt.against[label]
        self._places: dict[str, Location] = receipt.locate(store, label, receipt.rows[label])

    def of(
        self,
        images: pd.DataFrame,
        trial: Trial | None = None,
        held_out: Mapping[str, str] | None = None,
    ) -> Component:
        """The component's rows for some images; of one trial where it differs between trials.

        Of references that are held out, ``held_out`` tells what each was compared with.
        """
        places = []
        for category, key in zip(images["category"], images["hash"], strict=True):
            against = self.against[category]
            digest = against[trial.label] if trial else against
            places.append(self._places[component_key(key, (held_out or {}).get(key, digest))])
        return Component(self.space, tuple(places))


@dataclass(frozen=True)
class Planner:
    """Cuts images into blocks with all that a task needs; see :meth:`open`."""

    params: Params
    store: Store
    root: DataPath
    aspect: Aspect | None
    language_score: _Components | None
    language_map: _Components | None
    vision: _Components | None
    held_out: Mapping[str, Mapping[str, Mapping[str, str]]]

    @classmethod
    def open(
        cls, params: Params, store: Store, root: DataPath, aspect: Aspect | None = None
    ) -> Planner:
        """Find all components; some receipt speaks of images."""
        language, vision = read_receipt(LANGUAGE), read_receipt(VISION)
        with language.void_if_damaged():
            scores = (
                _Components(language, "language-score", store)
                if params.needs_language_score
                else None
            )
            maps = (
                _Components(language, "language-map", store) if params.needs_language_map else None
            )
        with vision.void_if_damaged():
            visions = _Components(vision, "vision-map", store) if params.needs_vision else None
        held_out = vision.against.get("held-out", {})
        return cls(params, store, root, aspect, scores, maps, visions, held_out)

    def grid(self) -> Shape:
        """(rows, columns) of maps; 1 where there are none."""
        component = self.language_map or self.vision
        rows, columns = component.space.shape if component else (1, 1)
        return rows, columns

    def blocks(
        self,
        images: pd.DataFrame,
        trials: Sequence[Trial],
        *,
        maps: Path | None = None,
        held_out: Mapping[str, str] | None = None,
    ) -> list[Block]:
        """Blocks of some images, in their order.

        Args:
            images: with ``category``, ``path``, ``hash``, ``is_anomaly`` and ``mask``.
            trials: all of them are evaluated in each block.
            maps: where fused maps are kept, if they are.
            held_out: see :class:`_Components`.
        """
        params = self.params
        fusions = tuple(
            Fusion(trial, params.vision_weight(trial), params.vision_multiplier(trial))
            for trial in trials
        )
        found = []
        for first in range(0, len(images), BLOCK_IMAGES):
            part = images.iloc[first : first + BLOCK_IMAGES]
            columns = (part[name] for name in ("category", "path", "is_anomaly", "mask"))
            visions = (
                tuple(self.vision.of(part, fusion.trial, held_out) for fusion in fusions)
                if self.vision
                else ()
            )
            found.append(
                Block(
                    self.store.root,
                    self.root.absolute(),
                    maps and maps.absolute(),
                    first,
                    tuple(TestImage(*values) for values in zip(*columns, strict=True)),
                    fusions,
                    params.fusion.classification_mode,
                    params.fusion.segmentation_mode,
                    params.fusion.normalize,
                    shape_of(params.evaluate.size, self.aspect),
                    self.language_score.of(part) if self.language_score else None,
                    self.language_map.of(part) if self.language_map else None,
                    visions,
                    params.dataset.exif_rotation,
                )
            )
        return found


def _evaluate(blocks: list[Block], params: Params, label: str) -> list[Outcome]:
    language, vision = read_receipt(LANGUAGE), read_receipt(VISION)
    # a damaged row may be of either: both are cheap to make again
    with language.void_if_damaged(), vision.void_if_damaged():
        return map_tasks(
            evaluate_block,
            blocks,
            params.cluster,
            label,
            weight=lambda block: len(block.images),
            name=lambda block: block.images[0].category,
        )


def normal_thresholds(
    planner: Planner | None,
    calibration: pd.DataFrame,
    selection: pd.DataFrame,
    categories: list[str],
    params: Params,
) -> list[Threshold]:
    """The thresholds of all trials from normal images; without any, why there are none."""
    images = calibration.assign(is_anomaly=False, mask=None)
    reason = (
        "threshold.images is 0"
        if not params.threshold.images
        else "there are no training images to calibrate on"
    )
    places: list[tuple[str, Trial, bool]] = []
    reasons: dict[tuple[str, Trial], str] = {}
    blocks: list[Block] = []
    parts: dict[tuple[str, Trial], list[int]] = {}
    for trial in params.trials():
        for category in categories:
            own = images[images["category"] == category]
            rows = selection[selection["category"] == category]
            rows = rows[(rows["seed"] == trial.seed) & (rows["rank"] < trial.shots)]
            chosen = trial_images(own["hash"].tolist(), set(rows["hash"]))
            held_out = None
            part = own[own["hash"].isin(chosen.keys)]
            if len(own) and part.empty:
                reasons[category, trial] = (
                    "the bank uses the only image that there is to calibrate on: add training images"
                )
            if chosen.held_out and params.needs_vision and planner:
                held_out = planner.held_out.get(category, {}).get(trial.label)
                if held_out is None:
                    reasons[category, trial] = (
                        "the bank uses all training images, and none can be left out of it: set "
                        "vision.index to flat and vision.coreset to 1, or add training images"
                    )
                    part = part.iloc[:0]
            places.append((category, trial, chosen.held_out))
            if planner:
                first = len(blocks)
                blocks += planner.blocks(part, [trial], held_out=held_out)
                parts[category, trial] = list(range(first, len(blocks)))
    outcomes = _evaluate(blocks, params, "calibrate") if blocks else []
    thresholds = []
    for category, trial, is_held_out in places:
        mine = [outcomes[number] for number in parts.get((category, trial), [])]
        scores = [outcome.scores[0] for outcome in mine]
        thresholds.append(
            from_normal(
                category,
                trial,
                np.concatenate(scores) if scores else np.zeros(0),
                merge_histograms(mine).get((category, trial)),
                params.threshold.quantile,
                held_out=is_held_out,
                reason=reasons.get((category, trial), reason),
            )
        )
    return thresholds


def label_thresholds(
    scores: pd.DataFrame,
    histograms: Mapping[tuple[str, Trial], PixelHistogram],
    categories: list[str],
    trials: list[Trial],
) -> list[Threshold]:
    """The thresholds of all trials from the labels of the test images."""
    found = []
    for trial in trials:
        for category in categories:
            part = scores[
                (scores["category"] == category)
                & (scores["shots"] == trial.shots)
                & (scores["seed"] == trial.seed)
            ]
            found.append(
                from_labels(
                    category, trial, part["score"].to_numpy(), part["is_anomaly"].to_numpy(),
                    histograms.get((category, trial)),
                )
                if len(part)
                else undecided(category, trial, "there are no test images")
            )  # fmt: skip
    return found


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
    """Write maps, scores, metrics, their summary, remarks on them, and thresholds."""
    manifest, remarks = read_table(MANIFEST.path)
    calibration, _ = read_table(CALIBRATION.path)
    selection, _ = read_table(SELECTION.path)
    categories = read_json(CATEGORIES.path)["categories"]
    # pandas reads a missing mask as NaN
    manifest["mask"] = manifest["mask"].astype(object).where(manifest["mask"].notna(), None)
    tests = manifest[manifest["split"] == "test"].reset_index(drop=True)
    trials = params.trials()
    store = Store(store_root(params.features.store))
    root = dataset_root(params.dataset.format, open_path(params.dataset.path))
    aspect = manifest_aspect(remarks)
    planner = Planner.open(params, store, root, aspect) if len(tests) + len(calibration) else None
    shutil.rmtree(MAPS.path, ignore_errors=True)
    MAPS.path.parent.mkdir(parents=True, exist_ok=True)
    with_maps = trials if params.fusion.segmentation_mode != "none" else []
    create_maps(
        MAPS.path,
        with_maps,
        len(tests),
        planner.grid() if planner else (1, 1),
        BLOCK_IMAGES,
        SCHEMA,
    )
    blocks = planner.blocks(tests, trials, maps=MAPS.path) if planner else []
    outcomes = _evaluate(blocks, params, "evaluate") if blocks else []
    scores = scores_table(tests, outcomes, trials)
    write_table(scores, SCORES.path)
    histograms = merge_histograms(outcomes)
    write_table(pixel_table(histograms), PIXELS.path)
    metrics, reasons = metrics_table(
        scores, histograms, categories if len(tests) else [], trials, params
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
    thresholds = (
        label_thresholds(scores, histograms, categories, trials)
        if params.threshold.source == "labels"
        else normal_thresholds(planner, calibration, selection, categories, params)
    )
    write_thresholds(thresholds, _fusion(params), THRESHOLDS.path)
    _log_means(metrics)


def _fusion(params: Params) -> dict[str, Any]:
    """What thresholds hold for."""
    fusion = params.fusion
    return {
        "classification_mode": fusion.classification_mode,
        "segmentation_mode": fusion.segmentation_mode,
        "normalize": fusion.normalize,
        "trials": {
            trial.label: [params.vision_weight(trial), params.vision_multiplier(trial)]
            for trial in params.trials()
        },
    }


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
