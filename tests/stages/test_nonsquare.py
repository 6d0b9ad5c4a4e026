"""Images that are not square, squashed or kept: maps lie where the defect is, through the real stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image

from benchmarks.nonsquare import parameters, write_cropped
from fade.aspect import AspectRatio
from fade.encoder import Encoder
from fade.errors import DataError
from fade.scoring import Detector, Settings
from pipeline.artefacts.catalogue import MANIFEST, SKIPPED, TEST
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_json, read_table
from pipeline.features.models import DEMO_MODEL, SHIPPED, SHIPPED_WEIGHTS
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.explain import nearest_patch
from pipeline.inference.prediction import NormalPatch
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from tests.projects import STAGES, changed, run_stages

pytestmark = pytest.mark.usefixtures("shared_models")

PROMPTS = {"normal": ["a flawless {classname}"], "abnormal": ["a damaged {classname}", "a hole"]}
PRODUCTS = {"fabric": ("hole",), "tile": ("glue",)}
TRIAL = "shots1_seed0"
GRIDS = {
    ("square", (256, 128)): (16, 16),
    ("keep", (256, 128)): (11, 23),
    ("square", (86, 256)): (16, 16),
    ("keep", (86, 256)): (28, 9),
}
"""Of size 128 with patches of 8 pixels, by mode and (width, height)."""


def demo_params(data: Path, aspect: str, store: Path) -> dict[str, Any]:
    return changed(
        parameters(data, aspect, store),
        features__classification_size=64,
        features__segmentation_sizes=[96, 128],
        text__classification__prompts=[PROMPTS],
        text__segmentation__prompts=[PROMPTS],
        vision__shots=[1],
        vision__seeds=[0],
        threshold__images=2,
        evaluate__size=96,
        cluster={"kind": "synchronous"},
    )


@pytest.fixture(scope="module", params=[(256, 128), (86, 256)], ids=["2:1", "1:3"])
def data(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, int]]:
    """A data set of rectangles, and their width and height."""
    root = tmp_path_factory.mktemp("rectangles") / "data"
    width, height = request.param
    write_cropped(root, width, height, categories=PRODUCTS, train=3, good=1, per_defect=2)
    return root, request.param


@pytest.fixture(scope="module", params=["square", "keep"])
def finished(request: Any, data: tuple[Path, tuple[int, int]]) -> Path:
    """A finished run of either mode."""
    root, _ = data
    params = demo_params(root, request.param, root.parent / "store")
    drawn = STAGES if request.param == "keep" else ()
    return run_stages(root.parent / request.param, params, *drawn)


def defects(folder: Path) -> pd.DataFrame:
    """The run's test images with a defect, their rows in the maps as index."""
    manifest, _ = read_table(folder / MANIFEST.path)
    tests = manifest[manifest["split"] == "test"].reset_index(drop=True)
    return tests[tests["is_anomaly"]]


def assert_on_the_defect(levels: np.ndarray, mask_file: Path) -> None:
    """The highest level lies within a patch of the defect, and the defect is far above the rest."""
    mask = np.asarray(Image.open(mask_file)) > 0
    scaled = cv2.resize(levels, mask.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(float)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
    assert near[np.unravel_index(scaled.argmax(), scaled.shape)], mask_file
    assert scaled[mask].mean() > scaled[~near].mean() + 2 * scaled[~near].std(), mask_file
    # mirrored or turned by half, the map would not lie there
    middle = np.argwhere(scaled >= np.quantile(scaled, 0.98)).mean(axis=0)
    off = np.abs(middle - np.argwhere(mask).mean(axis=0)) / max(mask.shape)
    assert off.max() < 0.12, (mask_file, off)


def test_maps_lie_on_the_defect(finished: Path, data: tuple[Path, tuple[int, int]]) -> None:
    root, size = data
    maps = zarr.open_group(finished / "results" / "maps.zarr", mode="r")[TRIAL]
    assert maps.shape[1:] == GRIDS[finished.name, size]
    rows = defects(finished)
    assert len(rows) == 4
    for number, row in rows.iterrows():
        assert_on_the_defect(maps[number], root / row["mask"])
    metrics = pd.read_csv(finished / "results" / "metrics.csv").set_index("category")
    for name in ("full_pixel_auroc", "anomaly_pixel_auroc"):
        assert (metrics[name] > 0.93).all(), metrics[name]
    assert metrics["full_pixel_au_pro"]["mean"] > 0.75


def test_prediction_is_the_run_s(finished: Path, data: tuple[Path, tuple[int, int]]) -> None:
    """From a run and from its bundle, maps on the image's own pixels, boxes around the defect."""
    root, size = data
    predictors = [Predictor.from_run(finished)]
    if finished.name == "keep":
        write_bundle(FinishedRun(finished), finished / "b.fade")
        predictors.append(Predictor.from_bundle(finished / "b.fade"))
    maps = zarr.open_group(finished / "results" / "maps.zarr", mode="r")[TRIAL]
    scores = pd.read_parquet(finished / "results" / "scores.parquet").set_index("path")["score"]
    rows = defects(finished)
    for predictor in predictors:
        for number, row in rows.iterrows():
            (found,) = predictor.predict([root / row["path"]], row["category"])
            assert found.levels is not None
            assert np.abs(found.levels.astype(int) - maps[number]).max() <= 1
            assert found.score == pytest.approx(scores[row["path"]], abs=1e-6)
            assert found.size == size
            full, above = found.full_levels(), found.mask()
            assert full is not None
            assert above is not None
            assert full.shape == above.shape == size[::-1]
            assert_on_the_defect(full, root / row["mask"])
            level = int(0.9 * full.max())
            _, regions = predictor.explain(root / row["path"], row["category"], level=level)
            mask = np.asarray(Image.open(root / row["mask"])) > 0
            left, top, right, bottom = regions[0].box
            assert mask[top:bottom, left:right].any()
            assert right <= size[0]
            assert bottom <= size[1]
            rows_columns = maps.shape[1:]
            nearest = regions[0].nearest
            assert nearest is not None
            assert nearest.row is not None
            assert nearest.column is not None
            assert nearest.row < rows_columns[0]
            assert nearest.column < rows_columns[1]


def test_the_library_says_the_same(finished: Path, data: tuple[Path, tuple[int, int]]) -> None:
    """A detector over the same reference, with the aspect ratio given to it."""
    root, (width, height) = data
    if finished.name == "square":
        return  # tests/fade/test_library.py
    predictor = Predictor.from_run(finished)
    held = predictor.material.bank("tile")
    reference = root / held.references[held.comparison.references[0]]
    prompts = finished / "prompts.json"
    prompts.write_text(
        json.dumps({side: {"prompts": texts} for side, texts in PROMPTS.items()}), encoding="utf-8"
    )
    settings = Settings(
        classification_size=64,
        segmentation_sizes=(96, 128),
        score_prompts=(str(prompts),),
        map_prompts=(str(prompts),),
        aspect=AspectRatio(width, height),
    )
    detector = Detector.prepare(
        Encoder.load(str(SHIPPED[DEMO_MODEL]), str(SHIPPED_WEIGHTS[DEMO_MODEL])),
        "tile", [np.asarray(Image.open(reference))], settings,
    )  # fmt: skip
    rows = defects(finished)
    for path in rows.loc[rows["category"] == "tile", "path"]:
        found = detector.inspect(np.asarray(Image.open(root / path)))
        (wanted,) = predictor.predict([root / path], "tile")
        assert wanted.levels is not None
        assert found.levels.shape == wanted.levels.shape
        # the run keeps float16 features
        assert np.abs(found.levels.astype(int) - wanted.levels).max() <= 2
        assert found.score == pytest.approx(wanted.score, abs=5e-3)
    with pytest.raises(DataError, match=r"128 x 128 pixels has another aspect ratio"):
        detector.inspect(np.zeros((128, 128, 3), np.uint8))


def test_nearest_patch_is_named_by_its_own_row(
    finished: Path, data: tuple[Path, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each patch of a reference is its own nearest one."""
    root, (width, height) = data
    sizes = []

    def noted(*given: Any) -> NormalPatch:
        sizes.append(given[5])  # by which rotated references tell places
        return nearest_patch(*given)

    monkeypatch.setattr("pipeline.inference.predictor.nearest_patch", noted)
    predictor = Predictor.from_run(finished)
    for category in PRODUCTS:
        held = predictor.material.bank(category)
        image = root / held.references[held.comparison.references[0]]
        _, regions = predictor.explain(image, category, level=0)
        for region in regions:
            assert region.nearest is not None
            assert (region.nearest.row, region.nearest.column) == (region.row, region.column)
    assert set(sizes) == {(height, width)}


def test_other_proportions_are_told(finished: Path) -> None:
    """A run of squashed images takes any; one that keeps an aspect ratio refuses others by size."""
    predictor = Predictor.from_run(finished)
    image = np.zeros((100, 100, 3), np.uint8)
    if finished.name == "square":
        assert predictor.predict([image], "tile")[0].size == (100, 100)
        return
    for way in (predictor.predict, lambda images, name: predictor.explain(images[0], name)):
        with pytest.raises(DataError, match=r"100 x 100 pixels.* aspect ratio .*make a run") as why:
            way([image], "tile")
        assert "\n" not in str(why.value)


def test_a_square_keeps_every_bit(tmp_path: Path) -> None:
    """Square images under keep: the same features, components and results, byte for byte."""
    write_cropped(
        tmp_path / "data", 128, 128, categories={"tile": ("glue",)}, train=2, good=1, per_defect=1
    )
    first, second = (
        run_stages(tmp_path / mode, demo_params(tmp_path / "data", mode, tmp_path / mode / "store"))
        for mode in ("square", "keep")
    )
    files = [
        file.relative_to(first)
        for place in ("results", "artefacts")
        for file in sorted((first / place).rglob("*"))
        if file.is_file() and file.name != MANIFEST.path.name  # says that it was made to keep
    ]
    assert len(files) > 15
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
    spaces = read_receipt(TEST, second).spaces.values()
    assert all("grid" not in space.description for space in spaces)


def test_unlike_images_are_refused_or_skipped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_cropped(data, 256, 128, categories={"tile": ("glue",)}, train=5, good=1, per_defect=1)
    for place in ("train", "test"):
        file = data / "tile" / place / "good" / "000.png"
        Image.open(file).crop((0, 0, 100, 128)).save(file)
    near = data / "tile" / "train" / "good" / "001.png"
    Image.open(near).crop((0, 0, 250, 128)).save(near)
    params = changed(demo_params(data, "keep", tmp_path / "store"), vision__shots=[2])
    with pytest.raises(DataError) as caught:
        run_stages(tmp_path / "fail", params, "manifest")
    text = str(caught.value)
    assert "unlike the aspect ratio of 2 of 7 images" in text
    assert "tile/train/good/000.png is 100 x 128 pixels, not of the aspect ratio 2:1" in text
    assert "tile/test/good/000.png is 100 x 128" in text
    for way_out in ("square", "dataset.categories", "docs/nonsquare.md", "on_bad_image skip"):
        assert way_out in text
    params["dataset"]["on_bad_image"] = "skip"
    folder = run_stages(tmp_path / "skip", params)
    skipped = read_json(folder / SKIPPED.path)["skipped"]
    assert [item["path"] for item in skipped] == [
        "tile/train/good/000.png", "tile/test/good/000.png",
    ]  # fmt: skip
    maps = zarr.open_group(folder / "results" / "maps.zarr", mode="r")
    assert maps["shots2_seed0"].shape == (1, 11, 23)
    shutil.rmtree(data / "tile" / "test")
    run_stages(tmp_path / "none", params)  # nothing to measure, and nothing to fail


def test_masks_are_turned_like_their_images(tmp_path: Path) -> None:
    """A camera held upright: stored lying, shown standing; the mask drawn on either."""
    data, wide = tmp_path / "data", tmp_path / "wide"
    write_cropped(wide, 256, 128, categories={"tile": ("glue",)}, train=2, good=1, per_defect=2)
    tag = Image.Exif()
    tag[0x0112] = 6  # to be turned a quarter to the right
    for file in sorted(wide.rglob("*.png")):
        target = data / file.relative_to(wide)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            if file.name == "001_mask.png":  # drawn on what people see
                image.transpose(Image.Transpose.ROTATE_270).save(target)
            else:
                image.save(target, exif=tag)
    params = changed(
        demo_params(data / "tile", "keep", tmp_path / "store"),
        dataset__format="folder", dataset__exif_rotation=True, vision__shots=[2],
    )  # fmt: skip
    folder = run_stages(tmp_path / "run", params, *STAGES)
    maps = zarr.open_group(folder / "results" / "maps.zarr", mode="r")["shots2_seed0"]
    assert maps.shape == (3, 23, 11)
    rows = defects(folder)
    assert set(rows["width"]) == {128}
    upright = tmp_path / "upright.png"
    for number, row in rows.iterrows():
        mask = Image.open(wide / "tile" / row["mask"]).transpose(Image.Transpose.ROTATE_270)
        mask.save(upright)
        assert_on_the_defect(maps[number], upright)
    metrics = pd.read_csv(folder / "results" / "metrics.csv")
    assert (metrics["full_pixel_auroc"] > 0.93).all()
    (found,) = Predictor.from_run(folder).predict([data / "tile" / row["path"]], "tile")
    assert found.size == (128, 256)
    lying = changed(params, dataset__exif_rotation=False)
    with pytest.raises(DataError, match=r"001_mask\.png is 128 x 256.*256 x 128"):
        run_stages(tmp_path / "lying", lying, "manifest")
    file = data / "tile" / "ground_truth" / "glue" / "001_mask.png"
    Image.open(wide / "tile" / "ground_truth" / "glue" / "001_mask.png").save(file)  # no tag
    with pytest.raises(DataError, match=r"001_mask\.png is 256 x 128.*drawn unturned"):
        run_stages(tmp_path / "unturned", params, "manifest")


def test_each_group_of_proportions_in_its_own_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, width, height in (("tile", 256, 128), ("fabric", 86, 256)):
        one = {name: PRODUCTS[name]}
        write_cropped(data, width, height, categories=one, train=1, good=1, per_defect=1)
    params = demo_params(data, "keep", tmp_path / "store")
    with pytest.raises(DataError, match="unlike the aspect ratio of 3 of 6 images"):
        run_stages(tmp_path / "both", params, "manifest")
    for name, shape in (("tile", [2, 1]), ("fabric", [43, 128])):
        alone = changed(params, dataset__categories=[name])
        folder = run_stages(tmp_path / name, alone, "manifest")
        assert read_table(folder / MANIFEST.path)[1]["aspect"] == shape
