"""Exports to other tools: COCO, FiftyOne, Parquet and .npy say what the run says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from cache.store import Store
from fade.errors import DataError, ParameterError, StoreError
from pipeline.artefacts.catalogue import TEST, store_root
from pipeline.artefacts.labels import write_labels
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_csv, read_table
from pipeline.cli.main import main
from pipeline.inference.coco import COCO_FILE, export_coco
from pipeline.inference.exported_scores import exported_scores
from pipeline.inference.exports import export_maps, export_masks, exported_images
from pipeline.inference.feature_files import export_features
from pipeline.inference.fiftyone_folder import export_fiftyone
from pipeline.inference.json_stream import write_json_stream
from pipeline.inference.regions import Ring, mask_regions, outlines
from pipeline.inference.run import FinishedRun
from tests.projects import GOLDEN, changed, golden_params, run_stages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path) -> Path:
    """A finished run of two categories."""
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        features__classification_size=96,
        threshold__images=3,
        evaluate__size=64,
        evaluate__intervals=0,
        evaluate__closing={"radius": 2},
    )
    return run_stages(tmp_path_factory.mktemp("run"), params)


@pytest.fixture
def run(folder: Path) -> Iterator[FinishedRun]:
    before = Path.cwd()
    os.chdir(folder)
    yield FinishedRun()
    os.chdir(before)


def fade(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    assert not ended.value.code
    return json.loads(capsys.readouterr().out)


def filled(rings: list[Ring], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres lie within polygons, by the even-odd rule."""
    found = np.zeros(shape, bool)
    ys, xs = np.mgrid[: shape[0], : shape[1]] + 0.5
    for ring in rings:
        inside = np.zeros(shape, bool)
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if x0 == x1:  # edges along rows cross no ray along them
                inside ^= (ys > min(y0, y1)) & (ys < max(y0, y1)) & (xs < x0)
        found |= inside
    return found


def without_holes(mask: np.ndarray) -> np.ndarray:
    """A mask with all that the frame does not reach, over edges and corners, filled."""
    import cv2

    _, labels = cv2.connectedComponents((~np.pad(mask, 1)).astype(np.uint8), connectivity=8)
    return np.asarray(labels != labels[0, 0])[1:-1, 1:-1]


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outlines_hold_just_the_pixels_of_a_mask(mask: np.ndarray) -> None:
    rings = outlines(mask)
    np.testing.assert_array_equal(filled(rings, mask.shape), without_holes(mask))
    for ring in rings:
        assert len(ring) >= 4
        turns = zip(ring, [*ring[1:], ring[0]], strict=True)
        assert all((x0 == x1) != (y0 == y1) for (x0, y0), (x1, y1) in turns)


def test_regions_of_a_mask() -> None:
    mask = np.zeros((4, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[2:4, 4:6] = True
    levels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    first, second = mask_regions(mask, levels)
    assert (first.box, first.area, first.level) == ((4, 2, 2, 2), 4, 23)
    assert first.polygons == [[(4, 2), (6, 2), (6, 4), (4, 4)]]
    # over a corner it is one region of two polygons
    assert (second.box, second.area, second.level) == ((0, 0, 2, 2), 2, 7)
    assert len(second.polygons) == 2


def test_a_region_within_the_box_of_another_one_is_its_own() -> None:
    mask, levels = np.zeros((9, 20), bool), np.zeros((9, 20), np.uint16)
    mask[1:8, 2:9] = True
    mask[2:7, 3:8] = False
    mask[4, 5] = True
    levels[4, 5], levels[1, 2], levels[5, 5] = 900, 300, 1000  # the last is in no region
    mask[0, 12:14] = mask[3, 11] = mask[3, 15] = mask[8, 11] = True
    levels[mask & (levels == 0)] = 7
    levels[0, 12], levels[3, 11], levels[3, 15], levels[8, 11] = 50, 50, 50, 50
    found = [(one.level, one.area, one.box) for one in mask_regions(mask, levels)]
    assert found == [
        (900, 1, (5, 4, 1, 1)), (300, 24, (2, 1, 7, 7)), (50, 2, (12, 0, 2, 1)),
        (50, 1, (11, 3, 1, 1)), (50, 1, (11, 8, 1, 1)), (50, 1, (15, 3, 1, 1)),
    ]  # fmt: skip
    assert mask_regions(np.zeros((2, 2), bool), levels) == []


def test_outlines_come_from_top_to_bottom_each_clockwise_from_its_corner() -> None:
    mask = np.array([[0, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1]], bool)
    assert outlines(mask) == [
        [(2, 0), (3, 0), (3, 1), (2, 1)],
        [(0, 1), (2, 1), (2, 2), (1, 2), (1, 3), (0, 3)],
        [(3, 2), (4, 2), (4, 3), (3, 3)],
    ]
    for corners in (np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)):
        assert [len(ring) for ring in outlines(corners)] == [4, 4]  # not one that crosses itself


def test_a_hole_that_opens_at_a_corner_is_none() -> None:
    mask = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    for turned in (np.rot90(mask, number) for number in range(4)):
        np.testing.assert_array_equal(filled(outlines(turned), turned.shape), turned)


def test_holes_have_no_outlines() -> None:
    mask = np.ones((3, 5), bool)
    mask[1, 1] = mask[1, 3] = False
    assert outlines(mask) == [[(0, 0), (5, 0), (5, 3), (0, 3)]]


def test_coco(run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fade(capsys, "export", "coco", str(tmp_path / "coco"))
    found = json.loads((tmp_path / "coco" / "instances.json").read_text())
    tests = exported_images(run)
    assert said["images"] == len(found["images"]) == len(tests)
    assert said["regions"] == len(found["annotations"]) > 0
    assert [image["file_name"] for image in found["images"]] == tests["path"].tolist()
    names = {one["id"]: one["name"] for one in found["categories"]}
    assert sorted(names.values()) == ["plate", "weave"]
    export_masks(run, tmp_path / "masks")
    export_maps(run, tmp_path / "maps", form="png")
    assert [one["id"] for one in found["annotations"]] == list(range(1, said["regions"] + 1))
    for image, name in zip(found["images"], tests["name"], strict=True):
        own = [one for one in found["annotations"] if one["image_id"] == image["id"]]
        with Image.open(tmp_path / "masks" / f"{name}.png") as file:
            mask = np.asarray(file) > 0
        assert mask.shape == (image["height"], image["width"])
        assert sum(one["area"] for one in own) == mask.sum()
        drawn = np.zeros_like(mask)
        for one in own:
            assert names[one["category_id"]] == image["category"]
            rings = [list(zip(p[::2], p[1::2], strict=True)) for p in one["segmentation"]]
            drawn |= filled(rings, mask.shape)
            left, top, width, height = one["bbox"]
            corners = [point for ring in rings for point in ring]
            assert (min(x for x, _ in corners), min(y for _, y in corners)) == (left, top)
            assert (max(x for x, _ in corners) - left, max(y for _, y in corners) - top) == (
                width,
                height,
            )
            assert 0 <= one["score"] <= 1
        assert not np.any(mask & ~drawn)
    scores, _ = read_table(Path("results/scores.parquet"), shots=1, seed=0)
    known = dict(zip(scores["path"], scores["score"], strict=True))
    for image in found["images"]:
        assert image["score"] == known[image["file_name"]]
        assert image["decision"] == (
            "anomalous" if image["score"] > image["threshold"] else "normal"
        )


def test_fiftyone(run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fo"
    assert fade(capsys, "export", "fiftyone", str(out), "--categories", "plate")["images"]
    tests = exported_images(run, ["plate"])
    # without a version, FiftyOne takes the samples as JSON of their classes
    assert "version" not in json.loads((out / "metadata.json").read_text())
    samples = json.loads((out / "samples.json").read_text())["samples"]
    export_maps(run, tmp_path / "maps", form="png", categories=["plate"])
    assert len(samples) == len(tests)
    for sample, row in zip(samples, tests.to_dict("records"), strict=True):
        assert Path(sample["filepath"]) == GOLDEN / "images" / row["path"]
        assert Path(sample["filepath"]).is_file()
        assert sample["ground_truth"]["label"] == ("anomalous" if row["is_anomaly"] else "normal")
        assert sample["prediction"]["label"] in ("anomalous", "normal")
        assert sample["anomaly_map"]["range"] == [0, 255]
        place = sample["anomaly_map"]["map_path"]
        assert place.startswith("fields/anomaly_map/")
        written = (out / place).read_bytes()
        assert written == (tmp_path / "maps" / f"{row['name']}.png").read_bytes()
        for line in sample["regions"]["polylines"]:
            points = np.array([point for ring in line["points"] for point in ring])
            assert points.min() >= 0
            assert points.max() <= 1
    export_fiftyone(run, tmp_path / "moved", copy=True, categories=["plate"])
    samples = json.loads((tmp_path / "moved" / "samples.json").read_text())["samples"]
    for sample, path in zip(samples, tests["path"], strict=True):
        copied = tmp_path / "moved" / sample["filepath"]
        assert copied.read_bytes() == (GOLDEN / "images" / path).read_bytes()


def test_fiftyone_finds_the_images_of_a_list(run: FinishedRun, tmp_path: Path) -> None:
    """Paths in a CSV file count from its folder, whatever the file is called."""
    dataset = run.params.dataset
    named = {"format": "csv", "path": str(GOLDEN / "images" / "list.csv")}
    run.params = run.params.model_copy(update={"dataset": dataset.model_copy(update=named)})
    for copy in (False, True):
        out = tmp_path / str(copy)
        export_fiftyone(run, out, copy=copy, categories=["plate"])
        samples = json.loads((out / "samples.json").read_text())["samples"]
        assert all((out / sample["filepath"]).is_file() for sample in samples)


def test_images_without_a_label(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = exported_images(run).head(2)

    def half(*arguments: Any, **options: Any) -> Any:
        scores, remarks = read_table(*arguments, **options)
        label = pd.Series([None, True, *[False] * (len(scores) - 2)], dtype=object)
        return scores.assign(is_anomaly=label), remarks

    monkeypatch.setattr("pipeline.inference.exported_scores.read_table", half)
    first, second = exported_scores(run, tests)
    assert first.is_anomaly is None
    assert second.is_anomaly is True
    assert first.score is not None
    assert first.decision is not None
    with pytest.raises(
        StoreError, match=r"scores\.parquet has no score of gone\.png: run `fade run`"
    ):
        exported_scores(run, tests.assign(path=["gone.png", "a.png"]))


def test_a_run_that_was_redone_meanwhile(run: FinishedRun, tmp_path: Path) -> None:
    """Its new scores were held against the thresholds of before."""
    folder = tmp_path / "run"
    shutil.copytree(run.folder.resolve(), folder)
    opened = FinishedRun(folder)
    content = yaml.safe_load((folder / "params.yaml").read_text())
    run_stages(folder, changed(content, fusion__classification_mode="vision"), "evaluate")
    for export in (export_coco, export_fiftyone, export_maps, export_masks):
        with pytest.raises(StoreError, match="changed while they were read"):
            export(opened, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_are_exported_as_corrected(run: FinishedRun, tmp_path: Path) -> None:
    """They were the data set's, while thresholds and metrics followed the corrections."""
    tests = exported_images(run)
    good = tests["path"][~tests["is_anomaly"].astype(bool)].iloc[0]
    bad = tests["path"][tests["is_anomaly"].astype(bool)].iloc[0]
    folder = tmp_path / "run"
    shutil.copytree(run.folder.resolve(), folder)
    write_labels({good: True, bad: False}, folder / "labels.csv")
    content = changed(
        yaml.safe_load((folder / "params.yaml").read_text()), evaluate__labels="labels.csv"
    )
    run_stages(folder, content, "evaluate")
    os.chdir(folder)
    corrected = FinishedRun()
    export_coco(corrected, tmp_path / "coco")
    images = json.loads((tmp_path / "coco" / COCO_FILE).read_text())["images"]
    labels = {image["file_name"]: image["is_anomaly"] for image in images}
    assert (labels[good], labels[bad]) == (True, False)
    export_fiftyone(corrected, tmp_path / "fiftyone")
    samples = json.loads((tmp_path / "fiftyone" / "samples.json").read_text())["samples"]
    told = {
        sample["filepath"]: (sample["ground_truth"]["label"], sample["defect"])
        for sample in samples
    }
    root = Path(content["dataset"]["path"])
    assert told[str(root / good)] == ("anomalous", "corrected")
    assert told[str(root / bad)] == ("normal", "good")


def test_json_takes_any_name_and_keeps_the_old_file(tmp_path: Path) -> None:
    name = '"\\</script>\u2028\x1b[31m\udcff\n'
    write_json_stream({"a": name, "list": iter([{"n": name}, 2]), "none": []}, tmp_path / "a")
    text = (tmp_path / "a").read_text("ascii")
    assert json.loads(text) == {"a": name, "list": [{"n": name}, 2], "none": []}

    def broken() -> Iterator[int]:
        yield 1
        raise DataError("no more")

    with pytest.raises(DataError):
        write_json_stream({"list": broken()}, tmp_path / "a")
    assert (tmp_path / "a").read_text("ascii") == text
    assert os.listdir(tmp_path) == ["a"]


def test_features(run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = run.params.vision_features()[0].label
    arguments = ("--feature", label, "--image", "plate/test/*")
    one, other = tmp_path / "parquet", tmp_path / "npy"
    said = fade(capsys, "export", "features", str(one), *arguments)
    fade(capsys, "export", "features", str(other), *arguments, "--format", "npy")
    tests = exported_images(run, ["plate"])
    assert said["features"] == {label: len(tests)}
    receipt = read_receipt(TEST)
    store = Store(store_root(None))
    places = receipt.locate(store, label, tests["hash"])
    expected = store.read(receipt.space(label), [places[key] for key in tests["hash"]])
    values = np.load(other / f"{label}.npy", allow_pickle=False)
    np.testing.assert_array_equal(values, expected)
    assert read_csv(other / f"{label}.csv")["path"].tolist() == tests["path"].tolist()
    table = pq.read_table(one / f"{label}.parquet")
    assert table["hash"].to_pylist() == tests["hash"].tolist()
    flat = np.array(table["feature"].to_pylist(), np.float32)
    np.testing.assert_array_equal(flat.reshape(expected.shape), expected.astype(np.float32))


def test_features_that_are_not_there(run: FinishedRun, tmp_path: Path) -> None:
    known = run.params.vision_features()[0].label
    with pytest.raises(ParameterError, match=f"no feature 'clip': this run has .*{known}"):
        export_features(run.params, tmp_path / "a", labels=["clip"])
    with pytest.raises(DataError, match="no image of the manifest is chosen"):
        export_features(run.params, tmp_path / "a", images=["bolt/*"])
    with pytest.raises(ParameterError, match="no category 'bolt'"):
        export_features(run.params, tmp_path / "a", categories=["bolt"])
    assert not (tmp_path / "a").exists()
