"""The further pixel metrics beside the five: by kind, AUPIMO, rates, and intervals of 200 samples."""

from __future__ import annotations

import time

import cv2
import numpy as np

from benchmarks.machine import Machine
from benchmarks.metrics import MAPS, ours, samples
from benchmarks.table import Row, peak_megabytes
from fade.further_metrics import further_pixel_metrics
from fade.level_counts import LevelCounts, occurring
from fade.metrics import PixelHistogram
from fade.pimo import DefectLevels, SharedRate, aupimo
from fade.rates import pixel_rates
from fade.regions import label_regions
from fade.replicates import LevelShares, Replicates, coarse_rows
from fade.uncertainty import resampled_metrics
from pipeline.evaluation.planner import BLOCK_IMAGES

LIMITS, INTERVALS = (0.3, 0.05), 200
IMAGES, DRAWS = 1725, 1000
PEAK = """
from benchmarks.further import further
from benchmarks.metrics import MAPS, samples
further(*samples(MAPS), intervals=200)
"""


def further(levels: np.ndarray, masks: np.ndarray, intervals: int) -> dict[str, float]:
    """All pixel metrics, the five included, of maps (n, H, W) uint8 and masks (n, H, W)."""
    total, shared = PixelHistogram.empty(), SharedRate.empty()
    replicates, defects, drawn = Replicates.empty(intervals, 256), [], []
    for number, (one, mask) in enumerate(zip(levels, masks, strict=True)):
        regions = label_regions(mask)
        counts = LevelCounts.of_image(one, regions)
        total.add(counts)
        # a float map of patches, as an evaluation has it
        patches = np.ascontiguousarray(one[::12, ::12], np.float32) * np.float32(257)
        fine = cv2.resize(patches, one.shape[::-1]).astype(np.uint16)
        if regions.count:
            defects.append(DefectLevels.of_image(fine, regions))
        else:
            shared.add(*occurring(fine))
        if intervals:
            drawn.append((str(number), coarse_rows(counts), regions.count))
    for first in range(0, len(drawn), BLOCK_IMAGES):  # as evaluation adds blocks of images
        names, rows, numbers = zip(*drawn[first : first + BLOCK_IMAGES], strict=True)
        replicates.add(names, np.stack(rows), numbers)
    values = ours_of(total)
    values["full_pixel_aupimo"] = float(np.mean([one.value for one in aupimo(shared, defects)]))
    if intervals:
        above = LevelShares.of(total, 128)
        assert len(replicates.metrics(LIMITS, above, values)["full_pixel_ap"]) == intervals
    return values


def ours_of(total: PixelHistogram) -> dict[str, float]:
    """What one histogram tells."""
    from fade.metrics import pixel_metrics

    parts = pixel_metrics(total), further_pixel_metrics(total, LIMITS), pixel_rates(total, 128)
    return {name: value for values, _ in parts for name, value in values.items()}


def _seconds(function: object, *arguments: object) -> float:
    start = time.perf_counter()
    function(*arguments)  # type: ignore[operator]
    return time.perf_counter() - start


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    levels, masks = samples(6 if quick else MAPS)
    ours(levels[:2], masks[:2])
    further(levels[:2], masks[:2], INTERVALS)
    five, plain, drawn = (
        min(_seconds(*call) for _ in range(3))
        for call in (
            (ours, levels, masks), (further, levels, masks, 0), (further, levels, masks, INTERVALS),
        )
    )  # fmt: skip
    rng = np.random.default_rng(0)
    is_anomaly = np.arange(IMAGES) % 4 > 0
    scores = [rng.normal(is_anomaly * 2.0)]
    bootstrap = _seconds(resampled_metrics, scores, is_anomaly, 50 if quick else DRAWS, 0)
    peak = peak_megabytes(PEAK)
    many = f"{len(levels)} maps of {levels.shape[1]} x {levels.shape[2]}"
    return [
        Row(f"all pixel metrics, {many}", plain, five, "3 x the five", plain <= 3 * five),
        Row(f"the same with intervals, {many}", drawn, five, "3 x the five", drawn <= 3 * five),
        Row(f"bootstrap of image metrics, {IMAGES} images", bootstrap, None, "20 s", bootstrap <= 20),
        Row("the same, peak memory", peak, None, "300 MB", peak <= 300, unit="MB"),
    ]  # fmt: skip
