"""Reductions and filters: evaluate alone applies them, and new images get the same numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from cache.store import Store
from fade.closing import closed_mask
from fade.errors import ParameterError
from fade.filters import Finish
from fade.foreground import first_component, foreground
from fade.levels import UNIT
from fade.reductions import top_mean
from pipeline.artefacts.catalogue import TEST
from pipeline.artefacts.maps import map_loader
from pipeline.artefacts.pixel_histograms import read_pixels
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_json
from pipeline.config.load import parse_params
from pipeline.evaluation.thresholds import read_thresholds
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.exports import export_maps, export_masks, exported_images, file_names, maps
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from pipeline.report.shades import mask_loader
from tests.projects import GOLDEN, STAGES, run_stages
from tests.stages.test_vision_encoder import vision_params

MEASURED = 48


def params(store: Path, **leaves: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "dataset__categories": ["weave"],
        "dataset__limit": 2,
        "features__store": str(store),
        "vision__shots": [1],
        "vision__transforms": "none",
        "evaluate__size": MEASURED,
        "threshold__images": 3,
    }
    return vision_params(**{**given, **leaves})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished") / "store"


@pytest.fixture(scope="module")
def folder(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_stages(tmp_path_factory.mktemp("run"), params(store))


def again(folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch, **leaves: Any) -> Path:
    """Evaluate alone, with other leaves; a model or a bank would be a fault."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("evaluate writes nothing into the store")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", refused)
        run_stages(folder, params(store, **leaves), "evaluate", "report")
    return folder


@pytest.mark.parametrize(
    ("leaves", "finish"),
    [
        ({"sigma": 4.0}, Finish("bilinear", 4.0)),
        (
            {"sigma": 2.0, "kernel": "reflect", "resize": "nearest"},
            Finish("nearest", 2.0, "reflect"),
        ),
        ({"resize": "corners", "sigma": 1.0, "kernel": "small"}, Finish("corners", 1.0, "small")),
    ],
)
def test_scores_and_maps_are_those_of_the_finished_map(
    folder: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    leaves: dict[str, Any],
    finish: Finish,
) -> None:
    asked = {f"evaluate__{name}": value for name, value in leaves.items()}
    again(folder, store, monkeypatch, evaluate__top_of="pixels", evaluate__top=0.05, **asked)
    monkeypatch.chdir(folder)
    run = FinishedRun()
    tests = exported_images(run)
    patches = list(maps(run, tests))
    finished = [finish.apply(one, (MEASURED, MEASURED)) for one in patches]
    scores = pd.read_parquet("results/scores.parquet")["score"]
    np.testing.assert_allclose(scores, [top_mean(one, 0.05) for one in finished], atol=1e-6)
    levels = [UNIT.levels(finish.apply(np.clip(one, 0, 1), (MEASURED,) * 2)) for one in patches]
    known = [one for one, anomaly in zip(levels, tests["is_anomaly"], strict=True) if not anomaly]
    histogram = read_pixels(Path("results/pixels.parquet"))["weave", run.trial]
    counted = np.bincount(np.concatenate(known).ravel(), minlength=256)
    assert (histogram.normal - histogram.normal_beside_defects).tolist() == counted.tolist()

    predictor = Predictor(run)
    images = [GOLDEN / "images" / path for path in tests["path"]]
    for number, one in enumerate(predictor.predict(images, "weave")):
        assert one.score == pytest.approx(scores[number], abs=1e-6)
        assert one.finished is not None
        assert np.abs(one.finished.astype(int) - levels[number]).max() <= 1
    export_maps(run, tmp_path / "maps", size="image")
    written = tifffile.imread(next((tmp_path / "maps").rglob("*.tiff")))
    width, height = tests["width"].iloc[0], tests["height"].iloc[0]
    assert written.shape == (height, width)
    assert written.max() <= finished[0].max() + 1e-6


def test_thresholds_from_normal_images_are_multiplied(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def threshold(factor: float) -> Any:
        again(folder, store, monkeypatch, threshold__factor=factor)
        return read_thresholds(folder / "results/thresholds.json")[0]

    before, after, below = threshold(1.0), threshold(1.421), threshold(0.5)
    assert after.image == pytest.approx(1.421 * before.image)
    assert after.pixel == int(1.421 * before.pixel)
    assert after.false_alarm_limit == before.false_alarm_limit
    assert below.false_alarm_limit is None
    assert after.remark.endswith("times 1.421")


def test_euclidean_distances_have_a_scale_everywhere(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Scores, thresholds, maps, the report, exports and new images of values far above 1."""
    leaves: dict[str, Any] = {
        "vision__metric": "euclidean", "vision__unit": False, "evaluate__sigma": 1.0,
    }  # fmt: skip
    run = run_stages(tmp_path / "run", params(store, **leaves), *STAGES)
    monkeypatch.chdir(run)
    finished = FinishedRun()
    tests = exported_images(finished)
    patches = list(maps(finished, tests))
    scores = pd.read_parquet("results/scores.parquet")["score"]
    np.testing.assert_allclose(scores, [top_mean(one, 0.2) for one in patches], rtol=1e-6)
    assert scores.min() > 1
    threshold = finished.thresholds["weave"]
    scale = threshold.map_scale
    assert scale.count == 1 << 16
    assert threshold.image is not None
    assert threshold.pixel is not None
    assert threshold.pixel > 255
    stored = map_loader()(finished.trial.label, 0)
    assert stored is not None
    assert np.abs(scale.values(stored) - patches[0]).max() <= 1.01 * scale.step
    predictor = Predictor(finished)
    images = [GOLDEN / "images" / path for path in tests["path"]]
    for number, one in enumerate(predictor.predict(images, "weave")):
        assert one.score == pytest.approx(scores[number], rel=1e-5)
        levels = one.full_levels()
        assert levels is not None
        assert levels.dtype == np.uint16
        shades = one.shades()
        assert shades is not None
        assert shades.max() >= levels.max() >> 8
    export_maps(finished, tmp_path / "png", form="png", size="map")
    file = tmp_path / "png" / f"{file_names(tests, 'mvtec')[0]}.png"
    written = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, stored)


def test_a_scale_reaches_beyond_the_threshold(store: Path, tmp_path: Path) -> None:
    """No test image has shown how large values can be, and yet a defect can be above the threshold."""
    train = tmp_path / "images" / "weave" / "train"
    shutil.copytree(GOLDEN / "images" / "weave" / "train", train)
    leaves: dict[str, Any] = {
        "vision__metric": "euclidean", "vision__unit": False, "dataset__limit": None,
        "dataset__path": str(tmp_path / "images"), "dataset__watch": str(tmp_path / "images"),
        "threshold__quantile": 0.95, "threshold__factor": 1.421,
    }  # fmt: skip
    finished = FinishedRun(run_stages(tmp_path / "run", params(store, **leaves), *STAGES))
    threshold = finished.thresholds["weave"]
    assert threshold.pixel is not None
    assert threshold.pixel < threshold.map_scale.count - 1
    odd = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (found,) = Predictor(finished).predict([odd], "weave")
    mask = found.mask()
    assert mask is not None
    assert mask.any()


@pytest.mark.parametrize(
    "leaves",
    [
        {"vision__layer_fusion": "apart", "vision__pooling": [1, 3], "vision__coreset": 0.5},
        {"vision__rule": "subspace", "vision__unit": False},
        {"vision__rule": "mutual", "vision__bank": "batch", "vision__shots": [0],
         "dataset__limit": 3},
    ],
    ids=["nearest", "subspace", "mutual"],
)  # fmt: skip
def test_a_bundle_takes_the_encoder_and_what_is_normal_along(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: dict[str, Any]
) -> None:
    run = run_stages(tmp_path / "run", params(store, **leaves), *STAGES[:9])
    image = GOLDEN / "images/weave/test/good/000.png"
    monkeypatch.chdir(run)
    before = Predictor.from_run().predict([image], "weave")[0]
    write_bundle(FinishedRun(), tmp_path / "parts.fade", with_weights=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").rename(tmp_path / "gone")
    monkeypatch.setattr("fade.encoders.load.load_checkpoint", None)
    after = Predictor.from_bundle(tmp_path / "parts.fade").predict([image], "weave")[0]
    assert (after.score, after.threshold, after.scale) == (
        before.score, before.threshold, before.scale,
    )  # fmt: skip
    np.testing.assert_array_equal(after.levels, before.levels)


def test_masks_are_closed(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same mask by fade predict and fade export, larger than what is above the threshold."""
    leaves = {"radius": 6, "angles": 4, "lower": 0.5}
    again(folder, store, monkeypatch, evaluate__closing=leaves, threshold__quantile=0.5)
    monkeypatch.chdir(folder)
    run = FinishedRun()
    tests = exported_images(run)
    export_masks(run, tmp_path / "masks")
    grown = 0
    predictor = Predictor(run)
    for name, path in zip(file_names(tests, "mvtec"), tests["path"], strict=True):
        (one,) = predictor.predict([GOLDEN / "images" / path], "weave")
        mask, levels = one.mask(), one.finished
        assert mask is not None
        assert levels is not None
        assert one.pixel_threshold is not None
        expected = closed_mask(
            UNIT.values(levels), float(UNIT.values(np.array(one.pixel_threshold))),
            radius=6, angles=4, lower=0.5,
        )  # fmt: skip
        width, height = one.size
        scaled = cv2.resize(
            expected.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
        )
        np.testing.assert_array_equal(mask, scaled > 0)
        grown += int(expected.sum()) - int((levels > one.pixel_threshold).sum())
        written = cv2.imread(str(tmp_path / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert np.mean(np.asarray(written) > 0) == pytest.approx(mask.mean(), abs=0.02)
    assert grown > 0
    table, shown = pd.read_parquet("results/scores.parquet"), run.params
    sizes = tests[["width", "height"]].iloc[0].to_dict()
    load = mask_loader(
        shown, table, lambda _: {str(name): value for name, value in sizes.items()}, None,
        list(run.thresholds.values()),
    )  # fmt: skip
    assert load is not None
    for row, one in enumerate(
        predictor.predict([GOLDEN / "images" / path for path in table["path"]], "weave")
    ):
        mask, loaded = one.mask(), load(run.trial.label, row)
        assert mask is not None
        assert loaded is not None
        assert loaded.shape == (MEASURED, MEASURED)
        assert loaded.mean() == pytest.approx(mask.mean(), abs=0.02)


def test_the_background_scores_0(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By evaluate alone, and in new images and bundles; an image without any foreground counts whole."""
    again(folder, store, monkeypatch)
    monkeypatch.chdir(folder)
    tests = exported_images(FinishedRun())
    before = list(maps(FinishedRun(), tests))
    receipt, opened = read_receipt(TEST), Store(store)
    feature = parse_params(params(store), "test").foreground_feature().label
    places = receipt.locate(opened, feature, tests["hash"].tolist())
    rows = opened.read(receipt.space(feature), [places[key] for key in tests["hash"]])
    patches = rows.astype(np.float32).reshape(len(rows), *before[0].shape, -1)
    components = [np.abs(first_component(one.reshape(-1, one.shape[-1]))) for one in patches]
    # so that at least one image has none
    limit = float(sorted(one.max() for one in components)[0]) + 1e-3
    leaves = {"evaluate__foreground_overrides": {"weave": True}}
    again(folder, store, monkeypatch, **leaves, evaluate__foreground_threshold=limit)
    after = list(maps(FinishedRun(), tests))
    masks = [foreground(one, limit) for one in patches]
    assert {bool(mask.any()) for mask in masks} == {False, True}
    assert any(0 < mask.mean() < 1 for mask in masks)
    expected = [one * mask if mask.any() else one for one, mask in zip(before, masks, strict=True)]
    np.testing.assert_array_equal(after, expected)
    scores = pd.read_parquet("results/scores.parquet")["score"]
    np.testing.assert_allclose(scores, [top_mean(one, 0.2) for one in expected], atol=1e-6)
    warnings = read_json(Path("results/evaluation.json"))["warnings"]
    without = sum(not mask.any() for mask in masks)
    assert [
        f"no foreground was found in {without} of {len(tests)} test images" in line
        for line in warnings
    ].count(True) == 1
    write_bundle(FinishedRun(), tmp_path / "parts.fade", with_weights=True)
    images = [GOLDEN / "images" / path for path in tests["path"]]
    for predictor in (Predictor.from_run(), Predictor.from_bundle(tmp_path / "parts.fade")):
        found = [one.score for one in predictor.predict(images, "weave")]
        assert found == pytest.approx(scores.tolist(), abs=1e-6)


PATCHCORE = {"vision__metric": "euclidean", "evaluate__reweighted": True, "evaluate__top": 0}


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ({"vision__metric": "cosine"}, "vision.metric is 'cosine': set it to euclidean"),
        ({"vision__pooling": [1, 3]}, "in 2 ways: keep one of"),
        (
            {"evaluate__top": 0.1},
            "evaluate.top is 0.1: set it to 0, or evaluate.reweighted to false",
        ),
        ({"features__keep": False}, "features.keep is false: set it to true"),
        (
            {
                "evaluate__foreground": True,
                "features__keep": False,
                "evaluate__reweighted": False,
            },
            "features.keep is false: set it to true, or evaluate.foreground to false",
        ),
        ({"evaluate__foreground_threshold": 0.0}, "evaluate.foreground_threshold"),
        ({"evaluate__foreground_overrides": {"weave": 1}}, "evaluate.foreground_overrides.weave"),
        ({"evaluate__sigma": -1.0}, "evaluate.sigma"),
        ({"evaluate__sigma": 101.0}, "evaluate.sigma"),
        ({"evaluate__kernel": "box"}, "evaluate.kernel"),
        ({"evaluate__resize": "cubic"}, "evaluate.resize"),
        ({"threshold__factor": 0.0}, "threshold.factor"),
        ({"evaluate__closing": {"radius": -1}}, "evaluate.closing.radius"),
        ({"evaluate__closing": {"lower": 2.0}}, "evaluate.closing.lower"),
    ],
)
def test_what_is_refused(leaves: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_params(params(Path("store"), **{**PATCHCORE, **leaves}), "test")
