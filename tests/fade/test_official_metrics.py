"""The metrics against numbers that the benchmarks' own scripts gave on the same made-up maps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fade.further_metrics import further_pixel_metrics
from fade.level_counts import LevelCounts
from fade.metrics import PixelHistogram, au_pro
from fade.pimo import DefectLevels, SharedRate, aupimo
from fade.regions import label_regions
from fade.saturation import SaturatedRegion, Saturation, saturated

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "metrics" / "official.json"
LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
SHAPE = (48, 64)
PRO_CASES = ("random", "smooth", "ties", "constant", "inverted", "whole_image", "diagonal")
LOCO_CASES = ("random", "ties", "inverted", "constant")
PIMO_CASES = ("random", "ties", "below", "above")

Levels = NDArray[np.uint16]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class LocoImage:
    """A map with the masks of its defects, each with how much of it is enough; none of a good one."""

    kind: str
    levels: Levels
    masks: list[tuple[Mask, Saturation]]


def _rectangle(rng: np.random.Generator) -> Mask:
    mask = np.zeros(SHAPE, bool)
    (top, left), (height, width) = rng.integers(0, (40, 50)), rng.integers(1, 14, 2)
    mask[top : top + height, left : left + width] = True
    return mask


def _levels(rng: np.random.Generator, mask: Mask, case: str) -> Levels:
    if case == "constant":
        return np.full(SHAPE, 9, np.uint16)
    many = 4 if case == "ties" else 1024
    values = rng.integers(0, many, SHAPE) // 2
    if case == "smooth":
        values = np.add.outer(np.arange(48), np.arange(64) * 3) + rng.integers(0, 150)
    rise = -(many // 4) if case == "inverted" else many // 4
    return np.clip(values + rise * mask, 0, many - 1).astype(np.uint16)


def pro_case(case: str) -> list[tuple[Levels, Mask]]:
    """Maps and masks of six images, two of them good."""
    rng = np.random.default_rng([1, PRO_CASES.index(case)])
    found = []
    for number in range(6):
        mask = np.zeros(SHAPE, bool)
        for _ in range((0, 1, 2, 3, 5, 0)[number]):
            mask |= _rectangle(rng)
        if case == "diagonal" and number:
            mask |= np.eye(*SHAPE, number * 3, dtype=bool)
        if case == "whole_image" and number == 1:
            mask[:] = True
        found.append((_levels(rng, mask, case), mask))
    return found


def loco_case(case: str) -> list[LocoImage]:
    """Nine images: good, logical and structural ones, with masks that overlap or are in pieces."""
    rng = np.random.default_rng([2, LOCO_CASES.index(case)])
    limits = [Saturation(0.3, True), Saturation(20, False), Saturation(1.0, True)]
    found = []
    for number in range(9):
        kind = ("good", "logical_anomalies", "structural_anomalies")[number % 3]
        masks = []
        for which in range(number % 4 if kind != "good" else 0):
            masks.append((_rectangle(rng) | _rectangle(rng), limits[(number + which) % 3]))
        if kind != "good" and not masks:
            masks.append((_rectangle(rng), limits[0]))
        union = np.any([np.zeros(SHAPE, bool), *(mask for mask, _ in masks)], axis=0)
        found.append(LocoImage(kind, _levels(rng, union, case), masks))
    return found


def pimo_case(case: str) -> tuple[list[Levels], list[tuple[Levels, Mask]]]:
    """Four good maps of 250,000 pixels, and three with defects.

    A level has the ten highest of the million good pixels at or above it, another the hundred highest:
    both limits of the rate are points of the curve, as anomalib takes the nearest points for limits.
    """
    rng = np.random.default_rng([3, PIMO_CASES.index(case)])
    good = [rng.integers(0, 20000, (500, 500)).astype(np.uint16) for _ in range(4)]
    high = 63800 - 200 * np.arange(120)  # of the highest good pixels, from the top
    if case == "ties":
        high[10:100] = np.repeat([58000, 50000], 45)
    for place, level in enumerate(high):
        good[place % 4].ravel()[100 * place] = level
    low, top = {"below": (0, 39000), "above": (64500, 65535)}.get(case, (30000, 65535))
    bad = []
    for _ in range(3):
        levels = rng.integers(0, 20000, (500, 500)).astype(np.uint16)
        mask = np.zeros((500, 500), bool)
        mask[50:80, 60 : 60 + int(rng.integers(1, 90))] = True
        levels[mask] = rng.integers(low, top, int(mask.sum()))
        bad.append((levels, mask))
    return good, bad


@cache
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("case", PRO_CASES)
def test_au_pro_is_that_of_mvtec_ad(case: str) -> None:
    parts = [PixelHistogram.of_image(m, label_regions(mask)) for m, mask in pro_case(case)]
    total = sum(parts, PixelHistogram.empty(65536))
    found = {str(limit): au_pro(total, limit) for limit in LIMITS}
    assert found == pytest.approx(golden()["au_pro"][case], abs=1e-6)
    assert further_pixel_metrics(total, (0.3, 0.05))[0]["full_pixel_au_pro_0.05"] == found["0.05"]


@pytest.mark.parametrize("case", LOCO_CASES)
def test_au_spro_is_that_of_mvtec_loco(case: str) -> None:
    totals: dict[str, PixelHistogram] = {}
    for image in loco_case(case):
        union = np.any([np.zeros(SHAPE, bool), *(mask for mask, _ in image.masks)], axis=0)
        regions = [
            SaturatedRegion(np.flatnonzero(mask), enough.pixels(int(mask.sum())))
            for mask, enough in image.masks
        ]
        plain = LevelCounts.of_image(image.levels, label_regions(union))
        one = saturated(plain, image.levels, regions)
        totals.setdefault(image.kind, PixelHistogram.empty(65536)).add(one)
    good = totals.pop("good")
    found = {
        kind: {str(limit): au_pro(good + one, limit) for limit in LIMITS}
        for kind, one in totals.items()
    }
    for kind, values in found.items():
        assert values == pytest.approx(golden()["au_spro"][case][kind], abs=1e-8)


@pytest.mark.parametrize("case", PIMO_CASES)
def test_aupimo_is_that_of_anomalib(case: str) -> None:
    good, bad = pimo_case(case)
    shared = sum(map(SharedRate.of_image, good), SharedRate.empty())
    images = [DefectLevels.of_image(levels, label_regions(mask)) for levels, mask in bad]
    found = [one.value for one in aupimo(shared, images)]
    assert found == pytest.approx(golden()["aupimo"][case], abs=1e-8)
