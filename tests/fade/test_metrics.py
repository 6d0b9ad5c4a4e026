"""The metrics against scikit-learn, against plain loops, and against the official numbers."""

import csv
import itertools
import re
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fade.errors import DataError, ParameterError
from fade.metrics import (
    LEVELS,
    METRIC_NAMES,
    PixelHistogram,
    image_metrics,
    pixel_metrics,
    pro_curve,
    recall_curve,
    roc_curve,
)
from fade.regions import Regions, label_regions

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
GOLDEN_SIZE = 160
# In one mask of `weave`, PIL and the official resize round two pixels that are 0.5 apart.
GOLDEN_TOLERANCE = {"plate": 1e-8, "weave": 5e-4, "mean": 5e-4}

quick = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)

Sample = tuple[NDArray[np.uint8], NDArray[np.bool_]]


def histogram_of(samples: list[Sample]) -> PixelHistogram:
    parts = (PixelHistogram.of_image(levels, label_regions(mask)) for levels, mask in samples)
    return sum(parts, PixelHistogram.empty())


def random_samples(seed: int, images: int = 4) -> list[Sample]:
    """Small maps with many ties; the first two have normal and defect pixels, the last is good."""
    rng = np.random.default_rng(seed)
    palette = rng.choice(LEVELS, size=int(rng.integers(1, 9)), replace=False).astype(np.uint8)
    samples = []
    for i in range(images):
        mask = rng.random((9, 7)) < (0 if i == images - 1 else rng.uniform(0.05, 0.6))
        if i < 2:
            mask[0, 0], mask[-1, -1] = True, False
        samples.append((rng.choice(palette, size=mask.shape), mask))
    return samples


# References: one array of all pixels, one loop a threshold.


def reference_curves(scores: NDArray, truth: NDArray) -> dict[str, float]:
    from sklearn.metrics import auc, precision_recall_curve, roc_auc_score

    precision, recall, _ = precision_recall_curve(truth, scores)
    sums = precision + recall
    f1 = np.divide(2 * precision * recall, sums, out=np.zeros_like(sums), where=sums > 0)
    both = truth.any() and not truth.all()
    return {
        "auroc": float(roc_auc_score(truth, scores)) if both else float("nan"),
        "aupr": float(auc(recall, precision)),
        "f1_max": float(f1.max()),
    }


def reference_aupro(samples: list[Sample], limit: float) -> float:
    from scipy.ndimage import label  # type: ignore[import-untyped]

    levels = np.stack([m for m, _ in samples])
    masks = np.stack([m for _, m in samples])
    regions = []
    for i, mask in enumerate(masks):
        labels, count = label(mask, structure=np.ones((3, 3)))
        regions += [(i, labels == k) for k in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(levels.ravel().tolist()), reverse=True):
        hit = levels >= threshold
        overlap = np.mean([hit[i][region].mean() for i, region in regions])
        points.append((float(hit[~masks].mean()), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
        if x1 == limit:
            break
    return area / limit


# Images


@quick
@given(seed=seeds, images=st.integers(2, 30))
def test_image_metrics_equal_sklearn(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 10, images) / 7 if seed % 2 else rng.random(images)
    truth = rng.random(images) < 0.5
    truth[:2] = True, False
    values, reasons = image_metrics(scores, truth)
    reference = reference_curves(scores, truth)
    assert reasons == {}
    assert tuple(values) == METRIC_NAMES[:3]
    for name, value in values.items():
        assert value == pytest.approx(reference[name.removeprefix("full_image_")], abs=1e-12)


def test_image_metrics_by_hand() -> None:
    values, _ = image_metrics(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    assert values["full_image_auroc"] == pytest.approx(3.5 / 4)
    # Precision and recall: (1, 0), (1, 1/2), (2/3, 1), (1/2, 1).
    assert values["full_image_aupr"] == pytest.approx(0.5 + 0.5 * (1 + 2 / 3) / 2)
    assert values["full_image_f1_max"] == pytest.approx(0.8)


def test_image_metrics_keep_float32_ties() -> None:
    scores = np.array([0.1, 0.1, 0.3], np.float32)
    values, _ = image_metrics(scores, np.array([True, False, False]))
    assert values["full_image_auroc"] == pytest.approx(0.25)


def test_only_anomalous_images() -> None:
    scores, truth = np.array([0.2, 0.5, 0.5]), np.ones(3, bool)
    values, reasons = image_metrics(scores, truth)
    assert np.isnan(values["full_image_auroc"])
    assert reasons == {"full_image_auroc": "no good test image"}
    reference = reference_curves(scores, truth)
    assert values["full_image_aupr"] == reference["aupr"] == 1
    assert values["full_image_f1_max"] == reference["f1_max"] == 1


@pytest.mark.parametrize(
    ("images", "reason"), [(3, "no anomalous test image"), (0, "no test image")]
)
def test_no_anomalous_images(images: int, reason: str) -> None:
    values, reasons = image_metrics(np.arange(float(images)), np.zeros(images, bool))
    assert reasons == dict.fromkeys(METRIC_NAMES[:3], reason)
    assert tuple(values) == METRIC_NAMES[:3]
    assert np.isnan(list(values.values())).all()


OF_IMAGES = (image_metrics, roc_curve, recall_curve)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_scores_are_refused(bad: float) -> None:
    for function in OF_IMAGES:
        with pytest.raises(DataError, match=f"image 1 .*{re.escape(str(bad))}"):
            function(np.array([0.5, bad]), np.array([True, False]))


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        (np.zeros(2), np.zeros(3, bool)),
        (np.zeros((2, 1)), np.zeros((2, 1), bool)),
        (np.zeros(2), np.array([0.0, np.nan])),
        (np.zeros(2), np.array([0, 1])),
        (np.array(["0.1", "0.2"]), np.array([True, False])),
    ],
)
def test_ill_shaped_scores_are_refused(scores: NDArray, truth: NDArray) -> None:
    for function in OF_IMAGES:
        with pytest.raises(DataError, match="cannot be evaluated"):
            function(scores, truth)


# Pixels


@quick
@given(seed=seeds, limit=st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_pixel_metrics_equal_sklearn_and_loops(seed: int, limit: float) -> None:
    samples = random_samples(seed)
    values, reasons = pixel_metrics(histogram_of(samples), limit)
    assert reasons == {}
    assert tuple(values) == METRIC_NAMES[3:]
    for prefix, chosen in (
        ("full_pixel", samples),
        ("anomaly_pixel", [s for s in samples if s[1].any()]),
    ):
        levels = np.concatenate([m.ravel() for m, _ in chosen])
        truth = np.concatenate([m.ravel() for _, m in chosen])
        reference = reference_curves(levels, truth)
        assert values[f"{prefix}_auroc"] == pytest.approx(reference["auroc"], abs=1e-9)
        assert values[f"{prefix}_f1_max"] == pytest.approx(reference["f1_max"], abs=1e-9)
    expected = reference_aupro(samples, limit)
    assert values["full_pixel_au_pro"] == pytest.approx(expected, abs=1e-9)


def test_au_pro_limit_on_a_point_and_between_points() -> None:
    """Rates of false positives 0, 1/4, 1/2, 1, overlaps 1/2, 1/2, 1, 1."""
    levels = np.array([[9, 8, 7, 7, 6, 6]], np.uint8)
    mask = np.array([[1, 0, 1, 0, 0, 0]], bool)
    histogram = histogram_of([(levels, mask)])
    at_point = pixel_metrics(histogram, 0.25)[0]["full_pixel_au_pro"]
    assert at_point == pytest.approx(0.5)
    between = pixel_metrics(histogram, 0.375)[0]["full_pixel_au_pro"]
    assert between == pytest.approx((0.25 * 0.5 + 0.125 * (0.5 + 0.75) / 2) / 0.375)


def test_each_region_weighs_the_same() -> None:
    levels = np.zeros((5, 10), np.uint8)
    mask = np.zeros((5, 10), bool)
    mask[0, 0] = True
    mask[2:5, 2:8] = True
    levels[0, 0] = 200
    values, _ = pixel_metrics(histogram_of([(levels, mask)]), 0.3)
    # From (0, 1/2) straight to (1, 1).
    assert values["full_pixel_au_pro"] == pytest.approx((0.5 + 0.65) / 2)


def test_regions_touch_at_corners() -> None:
    regions = label_regions(np.eye(4, dtype=bool))
    assert regions.count == 1
    np.testing.assert_array_equal(regions.pixels, [0, 5, 10, 15])
    np.testing.assert_allclose(regions.weights, 0.25)


@quick
@given(seed=seeds)
def test_histograms_add_up_in_any_order(seed: int) -> None:
    samples = random_samples(seed)
    whole = histogram_of(samples)
    order = np.random.default_rng(seed).permutation(len(samples))
    shuffled = histogram_of([samples[i] for i in order])
    halves = histogram_of(samples[2:]) + histogram_of(samples[:2])
    levels = np.concatenate([m.ravel() for m, _ in samples])
    truth = np.concatenate([m.ravel() for _, m in samples])
    beside = np.concatenate([m.ravel() for m, mask in samples if mask.any()])
    for histogram in (whole, shuffled, halves):
        for name in ("normal", "normal_beside_defects", "anomalous", "regions"):
            np.testing.assert_array_equal(getattr(histogram, name), getattr(whole, name))
        np.testing.assert_allclose(histogram.pro, whole.pro, rtol=0, atol=1e-12)
        assert histogram.normal.dtype == histogram.anomalous.dtype == np.int64
    np.testing.assert_array_equal(whole.anomalous, np.bincount(levels[truth], minlength=LEVELS))
    np.testing.assert_array_equal(whole.normal, np.bincount(levels[~truth], minlength=LEVELS))
    np.testing.assert_array_equal(
        whole.normal_beside_defects + whole.anomalous, np.bincount(beside, minlength=LEVELS)
    )
    assert whole.pro.sum() == pytest.approx(whole.regions)


def test_union_of_images_is_one_tall_image() -> None:
    """Stacked with a normal line between, images keep their regions and pixels."""
    samples = random_samples(3, images=3)
    line = (np.zeros((1, 7), np.uint8), np.zeros((1, 7), bool))
    tall = [samples[0], line, samples[1], line, samples[2]]
    one = PixelHistogram.of_image(
        np.concatenate([m for m, _ in tall]), label_regions(np.concatenate([m for _, m in tall]))
    )
    many = histogram_of(tall)
    np.testing.assert_array_equal(one.normal, many.normal)
    np.testing.assert_array_equal(one.anomalous, many.anomalous)
    np.testing.assert_allclose(one.pro, many.pro, atol=1e-12)
    assert one.regions == many.regions


def test_empty_changes_nothing() -> None:
    histogram = histogram_of(random_samples(1))
    assert pixel_metrics(histogram + PixelHistogram.empty()) == pixel_metrics(histogram)


ZEROS = np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize(
    ("masks", "reasons"),
    [
        ([], dict.fromkeys(METRIC_NAMES[3:], "no test image with a known mask")),
        ([False], dict.fromkeys(METRIC_NAMES[3:], "no defect pixel")),
        (
            [True],
            {
                "full_pixel_auroc": "no normal pixel",
                "full_pixel_au_pro": "no normal pixel",
                "anomaly_pixel_auroc": "no normal pixel in an image with a defect",
            },
        ),
        (
            [True, False],
            {"anomaly_pixel_auroc": "no normal pixel in an image with a defect"},
        ),
    ],
)
def test_undefined_pixel_metrics_say_why(masks: list[bool], reasons: dict[str, str]) -> None:
    values, said = pixel_metrics(histogram_of([(ZEROS, np.full((4, 4), m)) for m in masks]))
    assert said == reasons
    assert tuple(values) == METRIC_NAMES[3:]
    assert {name for name, value in values.items() if np.isnan(value)} == set(reasons)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_pro_limit_outside_range_is_refused(limit: float) -> None:
    with pytest.raises(ParameterError, match="pro_limit"):
        pixel_metrics(PixelHistogram.empty(), limit)


@pytest.mark.parametrize(
    "levels", [np.zeros((4, 4)), np.zeros((4, 5), np.uint8), np.zeros(16, np.uint8)]
)
def test_maps_unlike_their_mask_are_refused(levels: NDArray) -> None:
    regions = label_regions(np.zeros((4, 4), bool))
    with pytest.raises(DataError, match="resize"):
        PixelHistogram.of_image(levels, regions)


@pytest.mark.parametrize("mask", [ZEROS, np.zeros((0, 4), bool), np.zeros((1, 4, 4), bool)])
def test_ill_masks_are_refused(mask: NDArray) -> None:
    with pytest.raises(DataError, match="mask"):
        label_regions(mask)


@pytest.mark.parametrize("pro", [np.zeros(255), np.full(LEVELS, np.nan), np.full(LEVELS, -1.0)])
def test_damaged_histograms_are_refused(pro: NDArray) -> None:
    none = np.zeros(LEVELS, np.int64)
    with pytest.raises(DataError, match="'pro'"):
        PixelHistogram(none, none, none, pro, 0)


# The official numbers


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@cache
def visa_masks() -> dict[str, str]:
    rows = rows_of(next((GOLDEN / "images_visa" / "split_csv").glob("*.csv")))
    return {str(Path(row["image"]).with_suffix("")): row["mask"] for row in rows if row["mask"]}


def mask_path(run: str, name: str) -> Path:
    if run.startswith("visa_"):
        return GOLDEN / "images_visa" / visa_masks()[name]
    category, _, defect, stem = name.split("/")
    return GOLDEN / "images" / category / "ground_truth" / defect / f"{stem}_mask.png"


@cache
def regions_at(path: Path | None) -> Regions:
    size = (GOLDEN_SIZE, GOLDEN_SIZE)
    if path is None:
        return label_regions(np.zeros(size, bool))
    with Image.open(path) as image:
        pixels = np.asarray(image)
    channel = pixels if pixels.ndim == 2 else pixels[..., 0]
    defect = Image.fromarray((channel != 0).astype(np.float32))
    return label_regions(np.asarray(defect.resize(size, Image.Resampling.BILINEAR)) > 0.5)


@pytest.mark.parametrize("run", sorted(path.name for path in (GOLDEN / "runs").iterdir()))
def test_official_metrics(run: str) -> None:
    folder = GOLDEN / "runs" / run
    images = rows_of(folder / "image_scores.csv")
    with np.load(folder / "maps_uint8.npz") as arrays:
        maps, names = arrays["maps"], arrays["image_name"]
    assert [row["image_name"] for row in images] == names.tolist()
    official = {row["object_name"]: row for row in rows_of(folder / "evaluation_results.csv")}
    results = {}
    for category in official.keys() - {"mean"}:
        chosen = [i for i, row in enumerate(images) if row["classname"] == category]
        is_anomaly = np.array([images[i]["is_anomaly"] == "1" for i in chosen])
        scores = np.array([float(images[i]["image_anomaly_score"]) for i in chosen])
        histogram = PixelHistogram.empty()
        for i, anomalous in zip(chosen, is_anomaly, strict=True):
            levels = cv2.resize(maps[i], (GOLDEN_SIZE, GOLDEN_SIZE), interpolation=cv2.INTER_LINEAR)
            regions = regions_at(mask_path(run, str(names[i])) if anomalous else None)
            histogram += PixelHistogram.of_image(levels, regions)
        results[category] = image_metrics(scores, is_anomaly)[0] | pixel_metrics(histogram)[0]
        assert tuple(results[category]) == METRIC_NAMES
    results["mean"] = {
        name: float(np.mean([values[name] for values in results.values()])) for name in METRIC_NAMES
    }
    for category, values in results.items():
        for name in METRIC_NAMES:
            tolerance = 1e-12 if name in METRIC_NAMES[:3] else GOLDEN_TOLERANCE[category]
            expected = float(official[category][name])
            assert values[name] == pytest.approx(expected, rel=0, abs=tolerance), (category, name)


@quick
@given(seed=seeds, count=st.sampled_from([2, 3, 40]))
def test_curves_have_the_areas_of_their_metrics(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.random(count).round(1), rng.random(count) > 0.4
    labels[:2] = True, False
    values, _ = image_metrics(scores, labels)
    roc, recall = roc_curve(scores, labels), recall_curve(scores, labels)
    assert roc is not None
    assert recall is not None
    assert np.trapezoid(roc[1], roc[0]) == pytest.approx(values["full_image_auroc"])
    assert np.trapezoid(recall[1], recall[0]) == pytest.approx(values["full_image_aupr"])
    assert roc_curve(scores, np.ones(count, bool)) is None
    assert roc_curve(scores, np.zeros(count, bool)) is None
    assert recall_curve(scores, np.zeros(count, bool)) is None


def test_the_pro_curve_has_the_area_of_its_metric() -> None:
    mask = np.zeros((16, 16), bool)
    mask[2:6, 2:6] = mask[10, 10] = True
    levels = np.random.default_rng(3).integers(0, 256, (16, 16)).astype(np.uint8)
    histogram = PixelHistogram.of_image(levels, label_regions(mask))
    pro = pro_curve(histogram)
    assert pro is not None
    full, _ = pixel_metrics(histogram, 1.0)
    assert np.trapezoid(pro[1], pro[0]) == pytest.approx(full["full_pixel_au_pro"])
    assert pro[1][-1] == pytest.approx(1)
    assert pro_curve(PixelHistogram.empty()) is None
    assert pro_curve(histogram_of([(ZEROS, np.ones((4, 4), bool))])) is None
