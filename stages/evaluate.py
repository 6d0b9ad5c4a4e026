"""Stage evaluate: fused maps, image scores, metrics and thresholds from the score components."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache.keys import Keys
from cache.place import open_path
from cache.store import Store
from fade.aspect import Aspect, Shape, shape_of
from fade.datasets.read import dataset_root
from fade.metrics import PixelHistogram
from fade.types import DataPath, Trial
from pipeline.artefacts.catalogue import (
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
from pipeline.artefacts.pixel_histograms import pixel_table
from pipeline.artefacts.provenance import made_with
from pipeline.artefacts.receipts import Receipt, read_receipt
from pipeline.artefacts.tables import (
    GROUP_ROWS,
    SCHEMA,
    manifest_aspect,
    read_json,
    read_table,
    table_writer,
    write_csv,
    write_json,
    write_table,
)
from pipeline.compute.tasks import iterate_tasks
from pipeline.config.schema import Params
from pipeline.dataset.images import calibration_images, test_images
from pipeline.evaluation.blocks import (
    Block,
    Component,
    Fusion,
    Outcome,
    TestImage,
    add_histograms,
    create_maps,
    evaluate_block,
    merge_histograms,
)
from pipeline.evaluation.results import (
    mean_counts,
    mean_metrics,
    metrics_table,
    score_rows,
    summary_table,
)
from pipeline.evaluation.thresholds import (
    Threshold,
    from_labels,
    from_normal,
    undecided,
    write_thresholds,
)
from pipeline.process.memory import give_back
from pipeline.scoring.calibration import trial_images
from pipeline.scoring.components import component_key
from pipeline.stage import run_stage

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")

BLOCK_IMAGES = 64


class _Components:
    """Where the components of images lie: of test images by row, of the few others by key.

    Args:
        receipt: of the components.
        label: which of them.
        store: where they are.
        tests, calibration: categories and keys of the images, see :func:`test_images`.
        trials: those that differ in the component; None alone if none do.

    Raises:
        DamagedSegmentError: rows are gone or changed.
    """

    def __init__(
        self,
        receipt: Receipt,
        label: str,
        store: Store,
        tests: Sequence[tuple[str, Keys]],
        calibration: Sequence[tuple[str, Keys]],
        trials: Sequence[Trial | None],
    ) -> None:
        self.space = receipt.space(label)
        self.against = receipt.against[label]
        located = receipt.located(store, label).check()
        self._tests = {
            trial: located.places(
                Keys.join([keys.joined(self._digest(name, trial)) for name, keys in tests])
            )
            for trial in trials
        }
        held_out = receipt.against.get("held-out", {})
        few = {
            component_key(key, digest)
            for category, keys in calibration
            for key in keys
            for digest in (
                *(self._digest(category, trial) for trial in trials),
                *(of.get(key, "") for of in held_out.get(category, {}).values()),
            )
        }  # fmt: skip
        keys = Keys.of(sorted(few))
        keys = keys.take(located.vouched(keys))  # trials differ in the images that they need
        self._few = dict(zip(keys, located.places(keys), strict=True))

    def _digest(self, category: str, trial: Trial | None) -> str:
        against = self.against[category]
        return str(against[trial.label] if trial else against)

    def of_tests(self, first: int, count: int, trial: Trial | None = None) -> Component:
        """The rows for so many test images; of one trial where it differs between trials."""
        return Component(self.space, self._tests[trial][first : first + count].narrowed())

    def of(
        self, images: pd.DataFrame, trial: Trial | None, held_out: Mapping[str, str]
    ) -> Component:
        """The rows for some images to calibrate on.

        Of references that are held out, ``held_out`` tells what each was compared with.
        """
        keys = [
            component_key(key, held_out.get(key) or self._digest(category, trial))
            for category, key in zip(images["category"], images["hash"], strict=True)
        ]
        return Component(self.space, [self._few[key] for key in keys])


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
        tests, calibration = test_images(), calibration_images()

        def found(receipt: Receipt, label: str, trials: Sequence[Trial | None]) -> _Components:
            with receipt.void_if_damaged(store):
                components = _Components(receipt, label, store, tests, calibration, trials)
            give_back()  # what finding them took
            return components

        return cls(
            params,
            store,
            root,
            aspect,
            found(language, "language-score", [None]) if params.needs_language_score else None,
            found(language, "language-map", [None]) if params.needs_language_map else None,
            found(vision, "vision-map", params.trials()) if params.needs_vision else None,
            vision.against.get("held-out", {}),
        )

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
    ) -> Iterator[Block]:
        """Blocks of some images, in their order, each made when it is asked for.

        Args:
            images: with ``category``, ``path``, ``is_anomaly``, ``mask`` and ``mask_hash``; to
                calibrate also ``hash``.
            trials: all of them are evaluated in each block.
            maps: where fused maps of test images go; None for images to calibrate on.
            held_out: see :class:`_Components`.
        """
        params = self.params
        fusions = tuple(
            Fusion(trial, params.vision_weight(trial), params.vision_multiplier(trial))
            for trial in trials
        )
        for first in range(0, len(images), BLOCK_IMAGES):
            part = images.iloc[first : first + BLOCK_IMAGES]
            # pandas reads a missing mask as NaN
            masks = (
                part[name].astype(object).where(part[name].notna(), None)
                for name in ("mask", "mask_hash")
            )
            columns = (part["category"], part["path"], part["is_anomaly"], *masks)

            def rows(
                components: _Components | None,
                trial: Trial | None = None,
                part: pd.DataFrame = part,
                first: int = first,
            ) -> Component | None:
                if components is None:
                    return None
                if maps is not None:
                    return components.of_tests(first, len(part), trial)
                # texts know nothing of references
                return components.of(part, trial, (held_out or {}) if trial else {})

            visions = (rows(self.vision, fusion.trial) for fusion in fusions)
            yield Block(
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
                rows(self.language_score),
                rows(self.language_map),
                tuple(component for component in visions if component is not None),
                params.dataset.exif_rotation,
            )


def _evaluate(
    blocks: Iterable[Block], images: int, params: Params, label: str
) -> Iterator[Outcome]:
    """Outcomes of blocks of so many images, in their order, as they come."""
    store = Store(store_root(params.features.store))
    # a damaged row may be of either: both are cheap to make again
    language, vision = read_receipt(LANGUAGE), read_receipt(VISION)
    with language.void_if_damaged(store), vision.void_if_damaged(store):
        yield from iterate_tasks(
            evaluate_block,
            blocks,
            params.cluster,
            label,
            weight=lambda block: len(block.images),
            name=lambda block: block.images[0].category,
            total=images,
        )


def normal_thresholds(
    planner: Planner | None,
    calibration: pd.DataFrame,
    selection: pd.DataFrame,
    categories: list[str],
    params: Params,
) -> list[Threshold]:
    """The thresholds of all trials from normal images; without any, why there are none."""
    images = calibration.assign(is_anomaly=False, mask=None, mask_hash=None)
    by_category = dict(tuple(images.groupby("category", sort=False)))
    chosen_by_category = dict(tuple(selection.groupby("category", sort=False)))
    reason = (
        "threshold.images is 0"
        if not params.threshold.images
        else "there are no training images to calibrate on"
    )
    parts: list[tuple[str, Trial, bool, pd.DataFrame, Mapping[str, str] | None]] = []
    reasons: dict[tuple[str, Trial], str] = {}
    for trial in params.trials():
        for category in categories:
            own = by_category.get(category, images.iloc[:0])
            rows = chosen_by_category.get(category, selection.iloc[:0])
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
            parts.append((category, trial, chosen.held_out, part, held_out))
    total = sum(len(part) for _, _, _, part, _ in parts) if planner else 0
    blocks = (
        block
        for _, trial, _, part, held_out in parts
        for block in (planner.blocks(part, [trial], held_out=held_out) if planner else ())
    )
    outcomes = _evaluate(blocks, total, params, "calibrate") if total else iter(())
    thresholds = []
    for category, trial, is_held_out, part, _ in parts:
        pieces = -(-len(part) // BLOCK_IMAGES) if planner else 0
        mine = list(islice(outcomes, pieces))
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
    rows_of = score_rows(scores)
    for trial in trials:
        for category in categories:
            part = scores.iloc[rows_of.get((category, trial), [])]
            found.append(
                from_labels(
                    category, trial, part["score"].to_numpy(), part["is_anomaly"].to_numpy(),
                    histograms.get((category, trial)),
                )
                if len(part)
                else undecided(category, trial, "there are no test images")
            )  # fmt: skip
    return found


def scores_table(
    tests: pd.DataFrame, scores: NDArray[np.float64], trials: list[Trial]
) -> pd.DataFrame:
    """What metrics need of the scores (trials, images): trial by trial, in the images' order."""
    import pandas as pd

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


def write_scores(tests: pd.DataFrame, scores: NDArray[np.float64], trials: list[Trial]) -> None:
    """Write scores.parquet: trial by trial, images in the manifest's order."""
    import pyarrow as pa

    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("image", "path", "category", "defect")),
            ("is_anomaly", pa.bool_()),
            *((name, pa.int64()) for name in ("shots", "seed")),
            ("score", pa.float64()),
        ]
    )
    with table_writer(SCORES.path, schema) as write:
        for number, trial in enumerate(trials):
            for start in range(0, len(tests), GROUP_ROWS):
                part = tests.iloc[start : start + GROUP_ROWS]
                write(
                    {
                        "image": [os.path.splitext(path)[0] for path in part["path"]],
                        **{name: part[name].tolist() for name in ("path", "category", "defect")},
                        "is_anomaly": part["is_anomaly"].to_numpy(dtype=bool),
                        "shots": np.full(len(part), trial.shots),
                        "seed": np.full(len(part), trial.seed),
                        "score": scores[number, start : start + GROUP_ROWS],
                    }
                )


def run(params: Params) -> None:
    """Write maps, scores, metrics, their summary, remarks on them, and thresholds."""
    columns = ("path", "category", "defect", "is_anomaly", "mask", "mask_hash")
    tests, remarks = read_table(MANIFEST.path, columns, split="test")
    calibration, _ = read_table(CALIBRATION.path)
    selection, _ = read_table(SELECTION.path)
    categories = read_json(CATEGORIES.path)["categories"]
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
    values = np.full((len(trials), len(tests)), np.nan)
    histograms: dict[tuple[str, Trial], PixelHistogram] = {}
    if planner and len(tests):
        done = 0
        blocks = planner.blocks(tests, trials, maps=MAPS.path)
        for outcome in _evaluate(blocks, len(tests), params, "evaluate"):
            count = outcome.scores.shape[1]
            values[:, done : done + count] = outcome.scores
            add_histograms(histograms, outcome)
            done += count
    write_scores(tests, values, trials)
    write_table(pixel_table(histograms), PIXELS.path)
    scores = scores_table(tests, values, trials)
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
            "made_with": made_with(),
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
