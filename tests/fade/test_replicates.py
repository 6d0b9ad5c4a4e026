"""Replicates of pixel metrics against images that are repeated as often as their weights say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.further_metrics import further_pixel_metrics
from fade.level_counts import LevelCounts
from fade.metrics import PixelHistogram, pixel_metrics
from fade.rates import image_rates, pixel_rates
from fade.regions import label_regions
from fade.replicates import (
    MAX_LEVELS,
    LevelShares,
    Replicates,
    coarse_rows,
    image_rate_replicates,
    image_weights,
    mean_replicates,
)
from tests.fade.test_metrics import random_samples

quick = settings(max_examples=10, deadline=None, derandomize=True)
LIMITS = [0.3, 0.05]
R = 12


def exact_metrics(histogram: PixelHistogram, level: int = 0) -> dict[str, float]:
    parts = (
        pixel_metrics(histogram, LIMITS[0]),
        further_pixel_metrics(histogram, LIMITS),
        pixel_rates(histogram, level),
    )
    return {name: value for values, _ in parts for name, value in values.items()}


def test_weights_are_poisson_of_mean_one_and_differ_by_image() -> None:
    drawn = np.stack([image_weights(str(i), 200) for i in range(200)])
    assert abs(drawn.mean() - 1) < 0.02
    assert abs(drawn.var() - 1) < 0.03
    shares = np.bincount(drawn.ravel(), minlength=5)[:4] / drawn.size
    np.testing.assert_allclose(shares, np.exp(-1) / np.array([1, 1, 2, 6]), atol=0.01)
    related = np.asarray(np.corrcoef(drawn))[np.triu_indices(200, 1)]
    assert abs(related).max() < 0.35
    assert image_weights("a", 9).tolist() != image_weights("a", 9, seed=1).tolist()
    assert len(image_weights("a", 0)) == 0


@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_replicates_are_metrics_of_repeated_images(seed: int) -> None:
    """Weights that keep the size of each stratum, so that scaling changes nothing."""
    samples = random_samples(seed, images=5)
    images = [LevelCounts.of_image(levels, label_regions(mask)) for levels, mask in samples]
    histograms = [PixelHistogram.of_image(levels, label_regions(mask)) for levels, mask in samples]
    found = Replicates.empty(R, 256)
    names = [f"{seed} {i}" for i in range(len(samples))]
    for part in (slice(0, 2), slice(2, 5)):  # in pieces
        rows = np.stack([coarse_rows(one) for one in images[part]])
        found.add(names[part], rows, [one.regions for one in images[part]])
    total = sum(histograms, PixelHistogram.empty())
    level = int(samples[seed % 5][0].flat[seed % 7])  # pixels are at the threshold itself, too
    exact = exact_metrics(total, level)
    values = found.metrics(LIMITS, LevelShares.of(total, level), exact)
    assert values.keys() == exact.keys()
    weights = np.stack([image_weights(name, R) for name in names], axis=1)
    bad = np.array([one.regions > 0 for one in histograms])
    for r in range(R):
        repeated = PixelHistogram.empty()
        # each stratum repeated by the other's total, times its own size: the same share as scaled
        sums = weights[r, bad].sum(), weights[r, ~bad].sum()
        if 0 in sums:
            assert np.isnan(values["full_pixel_auroc"][r])
            continue
        for one, is_bad, weight in zip(histograms, bad, weights[r], strict=True):
            share = bad.sum() * sums[1] if is_bad else (~bad).sum() * sums[0]
            for _ in range(int(weight * share)):
                repeated = repeated + one
        for name, expected in exact_metrics(repeated, level).items():
            assert values[name][r] == pytest.approx(expected, abs=1e-9), name


def test_sums_of_two_sets_of_images_are_those_of_all() -> None:
    rng = np.random.default_rng(0)
    names, rows, regions = list("abcd"), rng.random((4, 4, 8)), [0, 3, 1, 0]
    together, first, second = (Replicates.empty(5, 8) for _ in range(3))
    together.add(names, rows, regions)
    first.add(names[:2], rows[:2], regions[:2])
    second.add(names[2:], rows[2:], regions[2:])
    joined = first + second
    for name in ("counts", "regions", "images"):
        np.testing.assert_allclose(getattr(joined, name), getattr(together, name), err_msg=name)


def test_many_levels_are_joined_and_their_error_is_taken_off() -> None:
    rng = np.random.default_rng(0)
    images, total = [], PixelHistogram.empty(65536)
    for i in range(6):
        mask = np.zeros((40, 40), bool)
        mask[:8, :8] = i < 3
        levels = (rng.beta(2, 30, mask.shape) * 60000 + 900 * mask).astype(np.uint16)
        images.append(LevelCounts.of_image(levels, label_regions(mask)))
        total.add(images[-1])
    rows = np.stack([coarse_rows(one) for one in images])
    assert rows.shape == (6, 4, MAX_LEVELS)
    found = Replicates.empty(300, MAX_LEVELS)
    found.add([str(i) for i in range(6)], rows, [one.regions for one in images])
    exact = exact_metrics(total, level=6400)
    values = found.metrics(LIMITS, LevelShares.of(total, 6400), exact)
    for name in ("full_pixel_auroc", "full_pixel_ap", "full_pixel_au_pro", "full_pixel_recall"):
        assert abs(np.nanmedian(values[name]) - exact[name]) < 0.05, name


def test_a_far_pixel_puts_all_levels_into_a_few() -> None:
    """Then levels are joined coarsely: samples stay shares, and rates vary as those of the images do."""
    rng = np.random.default_rng(0)
    names, images, total = [f"i{i}" for i in range(30)], [], PixelHistogram.empty(65536)
    for i in range(30):
        mask = np.zeros((64, 64), bool)
        mask[10:20, 10 : 12 + i // 2] = i % 2
        levels = rng.integers(0, 190 + i, mask.shape).astype(np.uint16)
        levels[mask] = rng.integers(205, 232, int(mask.sum()))
        levels[0, 0] = 65535 if i == 28 else 0
        images.append(LevelCounts.of_image(levels, label_regions(mask)))
        total.add(images[-1])
    found = Replicates.empty(200, MAX_LEVELS)
    rows = np.stack([coarse_rows(one) for one in images])
    found.add(names, rows, [one.regions for one in images])
    values = found.metrics(LIMITS, LevelShares.of(total, 200), exact_metrics(total, 200))
    for name, samples in values.items():
        assert np.nanmin(samples) >= 0, name
        assert np.nanmax(samples) <= 1, name
    # once by the images' own counts
    false = [int(one.normal[one.levels > 200].sum()) for one in images]
    bad = np.array([one.regions > 0 for one in images])
    weights = np.stack([image_weights(name, 200) for name in names], axis=1)
    own = sum(
        bad.sum() * (weights * false)[:, of].sum(axis=1) / weights[:, of].sum(axis=1)
        for of in (bad, ~bad)
    ) / int(total.normal.sum())  # fmt: skip
    alarms = values["full_pixel_false_alarms"]
    assert alarms.std() == pytest.approx(own.std(), rel=0.5)
    assert alarms.mean() == pytest.approx(own.mean(), rel=0.05)


def test_a_threshold_within_joined_levels_counts_a_share_of_them() -> None:
    """Of two images half is above it, of two nothing: false alarms follow the weights of the first."""
    names, nothing = ["a", "b", "c", "d"], np.zeros((8, 8), bool)
    spread = np.tile(np.array([6400, 6401], np.uint16), 32).reshape(8, 8)
    maps = [spread, spread, np.zeros_like(spread), np.zeros_like(spread)]
    images = [LevelCounts.of_image(levels, label_regions(nothing)) for levels in maps]
    total = PixelHistogram.empty(65536)
    for image in images:
        total.add(image)
    found = Replicates.empty(50, MAX_LEVELS)
    found.add(names, np.stack([coarse_rows(image) for image in images]), [0] * 4)
    values = found.metrics(LIMITS, LevelShares.of(total, 6400), exact_metrics(total, 6400))
    weights = np.stack([image_weights(name, 50) for name in names], axis=1).astype(float)
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, np.nan)
    expected = 0.5 * weights[:, :2].sum(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(values["full_pixel_false_alarms"], expected, atol=1e-12)


def test_without_good_or_without_anomalous_images() -> None:
    mask = np.zeros((5, 5), bool)
    mask[0, 0] = True
    bad = LevelCounts.of_image(mask.astype(np.uint8), label_regions(mask))
    good = LevelCounts.of_image(mask.astype(np.uint8), label_regions(np.zeros_like(mask)))
    for one, known in ((bad, True), (good, False)):
        found = Replicates.empty(40, 256)
        found.add(["a", "b"], np.stack([coarse_rows(one)] * 2), [one.regions] * 2)
        total = PixelHistogram.empty()
        total.add(one)
        total.add(one)
        values = found.metrics(LIMITS, LevelShares.of(total, 0), exact_metrics(total, 0))
        assert ("full_pixel_auroc" in values) == known
        assert np.nanmin(values["full_pixel_false_alarms"]) >= 0
    assert not Replicates.empty(3, 256).metrics(LIMITS, None, exact_metrics(PixelHistogram.empty()))


def test_a_sample_without_one_of_the_kinds_has_no_value_where_it_is_needed() -> None:
    """Precision is 1 where nothing is detected, not where nobody knows what is."""
    images = []
    for defects in ([True, False, False], [False] * 3):
        mask = np.array([defects])
        levels = np.array([[9, 200, 3]], np.uint8)
        images.append((LevelCounts.of_image(levels, label_regions(mask)), label_regions(mask)))
    (bad, regions), (good, _) = images
    found = Replicates.empty(60, 256)
    found.add(["bad", "good"], np.stack([coarse_rows(bad), coarse_rows(good)]), [regions.count, 0])
    total = PixelHistogram.empty()
    total.add(bad)
    total.add(good)
    values = found.metrics(LIMITS, LevelShares.of(total, 8), exact_metrics(total, 8))
    without_bad, without_good = (image_weights(name, 60) == 0 for name in ("bad", "good"))
    assert 0 < without_bad.sum() < 60
    assert 0 < without_good.sum() < 60
    of_defect_images = {"anomaly_pixel_auroc", "anomaly_pixel_f1_max", "full_pixel_recall"}
    for name, samples in values.items():
        lacking = without_bad if name in of_defect_images else without_bad | without_good
        assert np.isnan(samples).tolist() == lacking.tolist(), name


@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_rates_of_images_and_means(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [str(i) for i in range(9)]
    scores, bad = rng.random(9), np.arange(9) < 4
    values = image_rate_replicates(names, scores > 0.5, bad, R)
    means = mean_replicates(names, scores.tolist(), R)
    for r, weights in enumerate(np.stack([image_weights(name, R) for name in names], axis=1)):
        assert means[r] == pytest.approx(np.average(scores, weights=weights))
        if weights[bad].sum() and weights[~bad].sum():
            shares = np.where(bad, 4 * weights[~bad].sum(), 5 * weights[bad].sum())
            repeats = np.repeat(np.arange(9), weights * shares)
            for name, expected in image_rates(scores[repeats], bad[repeats], 0.5)[0].items():
                assert values[name][r] == pytest.approx(expected)
