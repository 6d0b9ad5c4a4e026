"""Thin defects: which have no pixel at the size of the evaluation, and what keeps them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks import plain
from fade.aspect import AspectRatio
from fade.maps import resize_levels
from fade.preprocess import resize_mask
from fade.regions import label_regions
from pipeline.evaluation.vanished import Vanished, find_vanished, vanished_remarks
from tests.projects import GOLDEN, changed, golden_params, run_stages


def mask_of(*boxes: tuple[int, int, int, int], side: int = 1600) -> np.ndarray:
    """A mask with boxes of (top, left, height, width)."""
    mask = np.zeros((side, side), bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


def lost(mask: np.ndarray, size: int) -> Vanished:
    return find_vanished(mask, label_regions(resize_mask(mask, size)))


SCRATCH = (400, 300, 3, 900)
HOLE = (1000, 900, 60, 60)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([SCRATCH], Vanished(1, factor=2)),
        ([(400, 300, 1, 900)], Vanished(1, factor=4)),
        ([(401, 300, 1, 900)], Vanished(1, whole=True)),  # between two rows of 1024
        ([HOLE], Vanished()),
        ([HOLE, SCRATCH], Vanished(regions=1)),
        ([HOLE, SCRATCH, (200, 50, 2, 2), (210, 500, 2, 2)], Vanished(regions=3)),
        ([HOLE, (1000, 970, 60, 60)], Vanished()),  # one region after, none is gone
        # one is gone, and one is two
        ([HOLE, (1030, 960, 1, 40), (1000, 1000, 60, 60), (200, 50, 2, 2)], Vanished(regions=1)),
        ([HOLE, (1030, 960, 1, 40), (1000, 1000, 60, 60)], Vanished()),
        ([], Vanished()),
    ],
)  # fmt: skip
def test_what_a_mask_loses(boxes: list[tuple[int, int, int, int]], expected: Vanished) -> None:
    assert lost(mask_of(*boxes), 256) == expected


def test_the_suggested_size_keeps_a_pixel_and_half_of_it_does_not() -> None:
    mask = mask_of((400, 300, 1, 900))
    size = lost(mask, 256).suggested_size(256)
    assert size == 1024
    assert resize_mask(mask, size).any()
    assert not resize_mask(mask, size // 2).any()


def test_the_suggested_size_keeps_a_pixel_where_sides_are_rounded() -> None:
    """Twice the size is not twice as many rows: of 4 : 3, 13 x 13 has 11 rows, 26 x 26 has 23."""
    ratio = AspectRatio(4, 3)
    mask = np.zeros((300, 400), bool)
    mask[18:20, 90:290] = True
    regions = label_regions(resize_mask(mask, ratio.shape(13)))
    assert find_vanished(mask, regions).factor == 8
    assert not resize_mask(mask, ratio.shape(13 * 8)).any()
    found = find_vanished(mask, regions, lambda factor: ratio.shape(13 * factor))
    assert found == Vanished(1, factor=16)
    assert resize_mask(mask, ratio.shape(13 * 16)).any()


def test_full_size_loses_nothing() -> None:
    mask = mask_of((4, 3, 1, 1), side=64)
    assert find_vanished(mask, label_regions(mask)) == Vanished()


def test_an_enlarged_mask_loses_nothing_that_has_a_pixel() -> None:
    mask = mask_of((1, 1, 1, 1), (5, 3, 1, 2), side=8)
    for size in (16, 24, 100):
        assert lost(mask, size) == Vanished()


def test_losses_add_up_and_are_said() -> None:
    total = Vanished(3, 1, 2) + Vanished(1, 2, 8)
    assert total == Vanished(4, 3, 8)
    assert (total + Vanished(1, whole=True)).suggested_size(256) == "image"
    assert Vanished(1, factor=64).suggested_size(256) == "image"  # more than may be asked for
    first, second = vanished_remarks({"screw": total}, {"screw": 9}, 256)
    assert first == (
        "screw: no defect pixel is left at evaluate.size 256 in 4 of 9 defect images with a mask, left "
        "out of pixel metrics: set evaluate.size to 2048 to keep a part of each, to image to keep "
        "every pixel"
    )
    assert "3 defect regions" in second


@pytest.fixture(scope="module")
def thin(golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Golden images, which are of several sizes, with a scratch of a pixel's width as the mask of two."""
    folder = tmp_path_factory.mktemp("thin")
    data = shutil.copytree(GOLDEN / "images", folder / "images")
    weave = data / "weave"
    for name in ("hole/000", "hole/001"):
        file = weave / "ground_truth" / f"{name}_mask.png"
        mask = np.zeros_like(np.asarray(Image.open(file).convert("L")))
        mask[20, 10:60] = 255
        Image.fromarray(mask).save(file)
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        dataset={
            "format": "mvtec", "path": str(data), "watch": str(data), "categories": ["weave"],
        },
        features__segmentation_sizes=[96],
        features__store=str(folder / "store"),
        threshold__images=2,
        cluster={"kind": "synchronous"},
    )  # fmt: skip


def results_of(folder: Path) -> tuple[pd.DataFrame, np.ndarray, dict[str, Any], pd.Series]:
    """Test rows of the manifest, their maps, evaluation.json, and the metrics."""
    manifest = pd.read_parquet(folder / "artefacts" / "manifest.parquet")
    tests = manifest[manifest["split"] == "test"].reset_index(drop=True)
    (maps,) = (a for _, a in zarr.open_group(folder / "results" / "maps.zarr", mode="r").arrays())
    evaluation = json.loads((folder / "results" / "evaluation.json").read_text())
    metrics = pd.read_csv(folder / "results" / "metrics.csv").set_index("category")
    of_weave = pd.Series(metrics.to_dict("index")["weave"])
    return tests, np.asarray(maps), evaluation, of_weave


def rows_of(tests: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): row[name] for name in row.index} for _, row in tests.iterrows()]


def full_mask(row: dict[str, Any], data: Path) -> np.ndarray:
    if not row["is_anomaly"]:
        return np.zeros((row["height"], row["width"]), bool)
    return np.asarray(Image.open(data / row["mask"]).convert("L")) > 0


def measured(tests: pd.DataFrame, maps: np.ndarray, data: Path) -> tuple[list[Any], list[Any]]:
    """Levels and masks of each image at its own size, as arrays."""
    levels, masks = [], []
    for row, one in zip(rows_of(tests), maps, strict=True):
        levels.append(resize_levels(one, (row["height"], row["width"])))
        masks.append(full_mask(row, data))
    return levels, masks


def test_images_that_lost_their_defect_are_left_out_and_counted(
    thin: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fade"):
        run_stages(tmp_path, changed(thin, evaluate__size=32))
    tests, maps, evaluation, metrics = results_of(tmp_path)
    count = evaluation["without_pixel_at_size"]["weave"]
    assert count["images"] == 2
    (line,) = [line for line in evaluation["warnings"] if "no defect pixel" in line]
    assert line in caplog.messages
    assert f"2 of {tests['is_anomaly'].sum()} defect images with a mask" in line
    kept = ~tests["path"].isin(["weave/test/hole/000.png", "weave/test/hole/001.png"])
    levels, masks = [], []
    data = Path(thin["dataset"]["path"])
    for row, one in zip(rows_of(tests[kept]), maps[kept], strict=True):
        levels.append(resize_levels(one, 32))
        masks.append(resize_mask(full_mask(row, data), 32))
    expected = plain.pixel_metrics(np.stack(levels), np.stack(masks))
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-8), name
    run_stages(tmp_path, changed(thin, evaluate__size=32), "report")
    assert line in (tmp_path / "results/report/index.html").read_text().replace("&#39;", "'")


def test_full_size_measures_every_pixel(thin: dict[str, Any], tmp_path: Path) -> None:
    run_stages(tmp_path, changed(thin, evaluate__size="image"))
    tests, maps, evaluation, metrics = results_of(tmp_path)
    assert evaluation["without_pixel_at_size"] == {}
    assert evaluation["warnings"] == []
    assert tests[["width", "height"]].drop_duplicates().shape[0] > 2
    levels, masks = measured(tests, maps, Path(thin["dataset"]["path"]))
    flat, marked = (np.concatenate([one.ravel() for one in many]) for many in (levels, masks))
    assert metrics["full_pixel_auroc"] == pytest.approx(roc_auc_score(marked, flat), abs=1e-10)
    beside = [i for i, mask in enumerate(masks) if mask.any()]
    near = np.concatenate([levels[i].ravel() for i in beside])
    there = np.concatenate([masks[i].ravel() for i in beside])
    assert metrics["anomaly_pixel_auroc"] == pytest.approx(roc_auc_score(there, near), abs=1e-10)
    assert metrics["full_pixel_au_pro"] == pytest.approx(aupro(levels, masks), abs=1e-10)
    pixels = pd.read_parquet(tmp_path / "results" / "pixels.parquet")
    assert pixels["normal"].sum() + pixels["anomalous"].sum() == flat.size
    thresholds = json.loads((tmp_path / "results" / "thresholds.json").read_text())["thresholds"]
    assert thresholds[0]["pixel"] is not None


def aupro(levels: list[np.ndarray], masks: list[np.ndarray], limit: float = 0.3) -> float:
    """The definition, threshold by threshold: mean overlap over false positive rate."""
    found = [label_regions(mask) for mask in masks]
    inside = np.concatenate([one.ravel()[r.pixels] for one, r in zip(levels, found, strict=True)])
    share = np.concatenate([regions.weights for regions in found])
    normal = np.concatenate([one[~mask] for one, mask in zip(levels, masks, strict=True)])
    steps = range(256, -1, -1)
    rate = np.array([(normal >= step).mean() for step in steps])
    overlap = np.array([share[inside >= step].sum() for step in steps]) / share.sum()
    within = rate <= limit
    x = np.append(rate[within], limit)
    y = np.append(overlap[within], np.interp(limit, rate, overlap))
    return float(np.trapezoid(y, x) / limit)


def test_a_category_whose_defects_all_vanish_says_why(thin: dict[str, Any], tmp_path: Path) -> None:
    data = shutil.copytree(thin["dataset"]["path"], tmp_path / "images")
    for file in (data / "weave" / "ground_truth").rglob("*.png"):
        mask = np.zeros_like(np.asarray(Image.open(file).convert("L")))
        mask[20, 10:60] = 255
        Image.fromarray(mask).save(file)
    params = changed(
        thin, dataset__path=str(data), dataset__watch=str(data), evaluate__size=32,
        threshold__images=0,
    )  # fmt: skip
    run_stages(tmp_path / "run", params)
    _, _, evaluation, metrics = results_of(tmp_path / "run")
    assert np.isnan(metrics["full_pixel_au_pro"])
    reasons = {
        r["metric"]: r["reason"] for r in evaluation["undefined"] if r["category"] == "weave"
    }
    assert reasons["full_pixel_au_pro"] == "no defect pixel is left at evaluate.size 32"
