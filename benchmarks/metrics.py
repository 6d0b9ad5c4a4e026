"""Pixel metrics from histograms, plainly from all pixels by scikit-learn and a sorted PRO."""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks import plain
from benchmarks.machine import Machine
from benchmarks.table import Row, alternate, peak_megabytes
from fade.level_counts import LevelCounts
from fade.metrics import PixelHistogram, pixel_metrics
from fade.regions import label_regions

MAPS, SIDE = 83, 448
PEAK = """
from benchmarks.metrics import MAPS, ours, samples
ours(*samples(MAPS))
"""


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps, (count, SIDE, SIDE) uint8, and masks of a few blobs on two of three, bool."""
    rng = np.random.default_rng(0)
    levels = np.empty((count, SIDE, SIDE), np.uint8)
    masks = np.zeros((count, SIDE, SIDE), bool)
    for i in range(count):
        drawn = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(int(rng.integers(1, 4)) if i % 3 else 0):
            centre = tuple(int(c) for c in rng.integers(20, SIDE - 20, 2))
            cv2.circle(drawn, centre, int(rng.integers(4, 40)), 1, -1)
        masks[i] = drawn > 0
        coarse = rng.uniform(0, 160, (56, 56)).astype(np.float32)
        smooth = cv2.resize(coarse, (SIDE, SIDE)) + 60 * cv2.blur(
            drawn.astype(np.float32), (31, 31)
        )
        levels[i] = np.clip(smooth, 0, 255).astype(np.uint8)
    return levels, masks


def ours(levels: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """The five pixel metrics."""
    total = PixelHistogram.empty()
    for one, mask in zip(levels, masks, strict=True):
        total.add(LevelCounts.of_image(one, label_regions(mask)))
    values, reasons = pixel_metrics(total)
    assert not reasons
    return values


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    levels, masks = samples(6 if quick else MAPS)
    ours(levels[:2], masks[:2])
    pair = alternate(
        lambda: ours(levels, masks), lambda: plain.pixel_metrics(levels, masks), 1 if quick else 2
    )
    assert set(pair.our_output) == set(pair.plain_output)
    for name, value in pair.our_output.items():
        assert abs(value - pair.plain_output[name]) < 1e-8, (name, value, pair.plain_output[name])
    peak = peak_megabytes(PEAK)
    return [
        Row(f"pixel metrics, {len(levels)} maps of {SIDE} x {SIDE}", pair.ours, pair.plain,
            "ratio 50", pair.ratio >= 50),
        Row("pixel metrics, peak memory", peak, None, "300 MB", peak <= 300, unit="MB"),
    ]  # fmt: skip
