"""New images against a finished run and against its bundle: the pipeline's own numbers."""

from __future__ import annotations

import doctest
import inspect
import io
import json
import logging
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from PIL import Image

from fade.encoder.plain_clip import plain_clip
from fade.errors import DataError, ModelError, ParameterError, StoreError, counted
from fade.text import fit, save
from fade.types import Trial
from fade.weights import write_weights
from pipeline.artefacts import results_state
from pipeline.artefacts.tables import read_table, write_table
from pipeline.config.originals import original
from pipeline.evaluation.trials import choose_trial
from pipeline.inference.bundle import Bundle
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.lock import check_lock
from pipeline.inference.opening import language_model
from pipeline.inference.output import explanation_text, predict_each, write_predictions
from pipeline.inference.prediction import Prediction
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from pipeline.process.dvc_files import keep_locks
from pipeline.report.nearest import nearest_finder
from pipeline.report.pull import COUNT, pull_finder
from pipeline.scoring.texts import USES, classifier_digest
from tests.garbage import kept_after
from tests.projects import GOLDEN, ROOT, changed, golden_params, nobody_reads, run_stages
from tests.webserver import counting_server

pytestmark = pytest.mark.usefixtures("shared_models")

Params = dict[str, Any]
WEAVE = GOLDEN / "images" / "weave"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path) -> Params:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96, 160],
        features__dtype="float16",
        features__store=str(tmp_path_factory.mktemp("predictor") / "store"),
        vision__shots=[1, 2],
        threshold__images=3,
        evaluate__size=64,
        dataset__limit=2,
        dataset__categories=["weave"],
    )


@pytest.fixture(scope="module")
def folder(base: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return run_stages(tmp_path_factory.mktemp("run"), base)


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.from_run(folder)


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's bundle, weights included."""
    path = tmp_path_factory.mktemp("bundle") / "weave.fade"
    write_bundle(FinishedRun(folder), path, with_weights=True)
    return path


def assert_the_runs_numbers(predictor: Predictor, folder: Path) -> None:
    """Scores and maps of the run's test images, in one batch and otherwise than there."""
    trial = predictor.trial
    scores = pd.read_parquet(folder / "results" / "scores.parquet")
    own = scores[(scores["shots"] == trial.shots) & (scores["seed"] == trial.seed)]
    maps = zarr.open_group(folder / "results" / "maps.zarr", mode="r")
    paths = [GOLDEN / "images" / path for path in own["path"]]
    found = predictor.predict(paths, "weave")
    if own["score"].notna().any():
        np.testing.assert_allclose(
            np.array([f.score for f in found], float), own["score"], atol=1e-6, rtol=0
        )
    for number, prediction in enumerate(found):
        if trial.label not in maps:
            assert prediction.levels is None
            continue
        assert prediction.levels is not None
        off = np.abs(prediction.levels.astype(int) - np.asarray(maps[trial.label][number]))
        assert off.max() <= 1  # where rounding meets the edge of a level
        assert (off > 0).mean() < 0.01


def test_the_example_of_its_docstring_runs(folder: Path) -> None:
    given = {"project": folder, "image": WEAVE / "test" / "good" / "000.png"}
    failed, tried = doctest.testmod(inspect.getmodule(Predictor), extraglobs=given)
    assert tried == 3
    assert not failed


def test_a_run_predicts_its_own_numbers(predictor: Predictor, folder: Path) -> None:
    assert predictor.trial == Trial(2, 0)
    assert predictor.categories == ("weave",)
    assert_the_runs_numbers(predictor, folder)
    assert_the_runs_numbers(Predictor.from_run(folder, shots=1), folder)


REWEIGHTED = {
    "features__segmentation_sizes": [56], "features__dtype": "float32",
    "vision__encoder": f"local-dir:{GOLDEN / 'vision' / 'tiny-dinov2'}", "vision__layers": [0],
    "vision__metric": "euclidean", "vision__query_in_bank": False,
    "fusion__classification_mode": "vision", "fusion__segmentation_mode": "vision",
    "evaluate__reweighted": True,
}  # fmt: skip
"""PatchCore's image score."""


@pytest.mark.parametrize("leaves", [{"features__segmentation_sizes": [96]}, REWEIGHTED])
@pytest.mark.parametrize(("usual", "own"), [("none", "flips"), ("flips", "none")])
def test_references_that_a_category_has_transformed_otherwise(
    base: Params, tmp_path: Path, leaves: dict[str, Any], usual: str, own: str
) -> None:
    """A bundle held them as they usually are, and re-weighting took other references for them."""
    overrides = {"vision__transforms": usual, "vision__transform_overrides": {"weave": own}}
    run_stages(tmp_path, changed(base, vision__shots=[2], **leaves, **overrides))
    assert_the_runs_numbers(Predictor.from_run(tmp_path), tmp_path)
    write_bundle(FinishedRun(tmp_path), tmp_path / "weave.fade", with_weights=True)
    assert_the_runs_numbers(Predictor.from_bundle(tmp_path / "weave.fade"), tmp_path)


def test_a_bundle_predicts_the_same(bundle: Path, predictor: Predictor, folder: Path) -> None:
    found = Predictor.from_bundle(bundle)
    assert found.trial == predictor.trial
    assert_the_runs_numbers(found, folder)
    image = WEAVE / "test" / "good" / "000.png"
    assert (
        found.explain(image, "weave", level=0)[1] == predictor.explain(image, "weave", level=0)[1]
    )


@pytest.mark.parametrize(
    "leaves",
    [
        {"vision__coreset": 0.4},
        {"vision__index": "IVF2,Flat"},
        {"vision__shots": [0], "vision__query_in_bank": True, "fusion__normalize": True},
        {  # float16 would round one cls token in two ways, depending on its batch
            "fusion__classification_mode": "language",
            "fusion__segmentation_mode": "none",
            "features__dtype": "float32",
        },
        {"fusion__classification_mode": "none", "fusion__segmentation_mode": "vision"},
        {"features__dtype": "float32", "text__segmentation__classifier": "softmax"},
        {  # a bundle compared float16 vectors of another length than 1
            "vision__metric": "euclidean",
            "fusion__classification_mode": "vision",
            "fusion__segmentation_mode": "vision",
        },
        # bundles of CLIP's own vectors held files that none could read
        {"vision__pooling": [1, 3]},
        {"vision__rule": "subspace", "features__dtype": "float32"},
    ],
    ids=lambda leaves: next(iter(leaves)),
)
def test_all_ways_to_score(base: Params, tmp_path: Path, leaves: Params) -> None:
    folder = run_stages(tmp_path / "run", changed(base, **leaves))
    predictor = Predictor.from_run(folder)
    assert_the_runs_numbers(predictor, folder)
    assert_an_explanation(predictor)
    if "vision__index" in leaves:
        with pytest.raises(ParameterError, match=r"vision\.index"):
            write_bundle(FinishedRun(folder), tmp_path / "b.fade")
        assert not list(tmp_path.glob("*.fade*"))
        assert not list(tmp_path.glob(".*"))
    else:
        write_bundle(FinishedRun(folder), tmp_path / "b.fade", with_weights=True)
        assert_the_runs_numbers(Predictor.from_bundle(str(tmp_path / "b.fade")), folder)


def assert_an_explanation(predictor: Predictor) -> None:
    """Each side that has a part in the map is explained, as far as it can be."""
    params, image = predictor.params, WEAVE / "test" / "hole" / "000.png"
    mode = params.fusion.segmentation_mode
    if mode == "none":
        with pytest.raises(ParameterError, match="no map"):
            predictor.explain(image, "weave")
        return
    prediction, regions = predictor.explain(image, "weave", level=0, prompts=2)
    assert regions
    assert "region 1" in explanation_text(prediction, regions)
    for region in regions:
        assert bool(region.abnormal) == bool(region.normal) == (mode != "vision")
        if params.vision.rule != "nearest":
            assert region.nearest is None
            assert region.compared is not None
            continue
        assert region.nearest is not None
        assert 0 <= region.nearest.distance <= 1
        named = (
            predictor.trial.shots and params.vision.coreset == 1 and params.vision.index == "flat"
        )
        assert bool(region.nearest.reference) == bool(named)


def test_all_kinds_of_images(predictor: Predictor) -> None:
    path = WEAVE / "test" / "good" / "000.png"
    picture = Image.open(path).convert("RGB")
    found = predictor.predict([path, str(path), picture, np.asarray(picture)], "weave")
    assert len({one.score for one in found}) == 1
    assert [one.name for one in found] == [str(path), str(path), "image 2", "image 3"]
    for wrong in (np.zeros((4, 4)), 3, WEAVE / "nothing.png", WEAVE):
        with pytest.raises(DataError):
            predictor.predict([wrong], "weave")
    with pytest.raises(ParameterError, match="choose weave"):
        predictor.predict([path], "wave")
    assert predictor.predict([], "weave") == []


def test_decisions(predictor: Predictor) -> None:
    """References are at distance 0 from the bank; noise is far from it."""
    reference = predictor.material.bank("weave").references[0]
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    normal, anomalous = predictor.predict([GOLDEN / "images" / reference, noise], "weave")
    assert normal.decision == "normal"
    assert anomalous.decision == "anomalous"
    assert anomalous.score is not None
    assert anomalous.threshold is not None
    shown = replace(anomalous, name="<b>.png")._repr_html_()
    assert shown.startswith("<p><b>&lt;b&gt;.png</b>: anomalous, score ")
    assert '<img alt="anomaly map" src="data:image/webp;base64,' in shown
    assert anomalous.score > anomalous.threshold
    assert anomalous.size == (120, 90)
    mask, levels = anomalous.mask(), anomalous.full_levels()
    assert mask is not None
    assert levels is not None
    assert anomalous.pixel_threshold is not None
    assert mask.shape == (90, 120)
    np.testing.assert_array_equal(mask, levels > anomalous.pixel_threshold)
    assert "training images" in anomalous.remark


def shown(trial: Trial) -> tuple[pd.DataFrame, Callable[[str], dict[str, str]]]:
    """A trial's scores, and what the manifest lists of a path, in the project that is the folder here."""
    scores = pd.read_parquet("results/scores.parquet")
    hashes = pd.read_parquet("artefacts/manifest.parquet").set_index("path")["hash"]
    of_trial = (scores["shots"] == trial.shots) & (scores["seed"] == trial.seed)
    return scores[of_trial].reset_index(), lambda path: {"hash": hashes[path]}


def test_the_report_shows_the_patches_that_explanations_name(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    trial = predictor.trial
    scores, listed = shown(trial)
    find = nearest_finder(predictor.params, trial, scores, listed)
    assert find is not None
    found = find("weave", range(len(scores)))
    assert list(found) == list(range(len(scores)))
    compared = 0
    for position, near in found.items():
        path = scores["path"][position]
        assert near.worst.path == path
        prediction, regions = predictor.explain(GOLDEN / "images" / path, "weave", level=0)
        assert prediction.levels is not None
        assert prediction.levels[near.worst.row, near.worst.column] >= regions[0].level - 1
        nearest, peak = regions[0].nearest, (regions[0].row, regions[0].column)
        # where the image is compared with itself, too, its own patch may be nearer
        if peak == (near.worst.row, near.worst.column) and nearest and nearest.reference:
            named = (nearest.reference, nearest.row, nearest.column)
            assert named == (near.good.path, near.good.row, near.good.column)
            compared += 1
    assert compared
    (folder / "artefacts/receipts/references.parquet").rename("references.parquet")
    try:
        again = nearest_finder(predictor.params, trial, scores, listed)
        assert again is not None
        assert again("weave", [0]) == {}  # a line in the log, and a report without these pictures
    finally:
        Path("references.parquet").rename(folder / "artefacts/receipts/references.parquet")


def test_the_report_names_the_sentences_that_explanations_name(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    trial = predictor.trial
    scores, listed = shown(trial)
    find = pull_finder(predictor.params, trial, scores, listed)
    assert find is not None
    rows = list(scores.index[scores["category"] == "weave"])
    found, compared = find("weave", rows), 0
    assert list(found) == rows
    for position, (whole, pull) in found.items():
        image = GOLDEN / "images" / scores["path"][position]
        assert (whole.of, pull.of) == ("Image", "Worst patch")
        (features,) = predictor._encode([predictor._open(image, 0)[1]])
        token = features[predictor.params.classification_feature()]
        sentences = predictor.material.sentences("classification", "weave")
        cosines = (
            language_model(predictor._encoder).encode_texts(list(sentences.texts))
            @ token
            / np.linalg.norm(token)
        )
        for named, abnormal in ((whole.abnormal, True), (whole.normal, False)):
            best = np.sort(cosines[np.array(sentences.abnormal) == abnormal])[::-1]
            sides = {sentences.abnormal[sentences.texts.index(text)] for text, _ in named}
            assert sides == {abnormal}
            np.testing.assert_allclose(
                [c for _, c in named], np.unique(best)[::-1][:COUNT], atol=1e-3
            )
        prediction, _ = predictor.explain(image, "weave", level=0)
        assert prediction.levels is not None
        highest = int(prediction.levels.max())
        _, regions = predictor.explain(image, "weave", level=highest - 1, prompts=COUNT)
        if [region.patches for region in regions] == [1]:
            for ours, theirs in (
                (pull.abnormal, regions[0].abnormal), (pull.normal, regions[0].normal),
            ):  # fmt: skip
                assert [text for text, _ in ours] == [text for text, _ in theirs]
                np.testing.assert_allclose([c for _, c in ours], [c for _, c in theirs], atol=1e-5)
            compared += 1
    assert compared
    index = Path("artefacts/text/index.json")
    before = index.read_text()
    other = {**json.loads(before), "text_weights": "other"}
    index.write_text(json.dumps(other))
    try:
        again = pull_finder(predictor.params, trial, scores, listed)
        assert again is not None
        assert again("weave", rows) == {}  # a line in the log, and a report without sentences
    finally:
        index.write_text(before)


def test_explanations(predictor: Predictor) -> None:
    """A patch copied from a reference is explained by that very patch."""
    held = predictor.material.bank("weave")
    reference = GOLDEN / "images" / held.references[held.comparison.references[0]]
    prediction, regions = predictor.explain(reference, "weave", level=0)
    assert prediction.levels is not None
    (grid, _), total = prediction.levels.shape, (prediction.levels > 0).sum()
    assert sum(region.patches for region in regions) == total
    for region in regions:
        assert region.level == prediction.levels[region.row, region.column]
        assert region.nearest is not None
        assert region.nearest.distance < 1e-5
        assert region.nearest.reference == held.references[held.comparison.references[0]]
        assert (region.nearest.row, region.nearest.column) == (region.row, region.column)
        assert len(region.abnormal) == len(region.normal) == 3
        cosines = [cosine for _, cosine in region.abnormal]
        assert cosines == sorted(cosines, reverse=True)
        left, top, right, bottom = region.box
        assert left <= region.column * prediction.size[0] / grid < right
        assert top <= region.row * prediction.size[1] / grid < bottom
    assert predictor.explain(reference, "weave", level=255)[1] == []


def test_a_run_that_is_out_of_date(folder: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(folder, tmp_path / "copy"))
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("vision_weight: 0.85", "vision_weight: 0.5"))
    with pytest.raises(StoreError, match="made with other parameters"):
        FinishedRun(project)
    (project / "params.yaml").write_text(text + "\n")
    lock = project / "dvc.lock"
    ran = {
        "vision.query_in_bank": False,
        "model.pretrained": yaml.safe_load(text)["model"]["pretrained"],
    }
    stages: Params = {"score_vision": {"params": {"params.yaml": ran}}, "manifest": {}}
    lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    FinishedRun(project)
    ran["vision.query_in_bank"] = True
    lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    with pytest.raises(StoreError, match=r"changed since the run \(vision\.query_in_bank\)"):
        FinishedRun(project)
    lock.write_text("[")
    with pytest.raises(StoreError, match="cannot be read"):
        FinishedRun(project)
    lock.unlink()
    path = project / "results" / "thresholds.json"
    for fusion in ({"trials": 1}, [0]):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"fusion": fusion}))
        with pytest.raises(StoreError, match="made with other parameters"):
            FinishedRun(project)
    path.unlink()
    with pytest.raises(StoreError, match=r"thresholds\.json is missing"):
        FinishedRun(project)


def test_numbers_of_the_lock_are_those_of_the_parameters(tmp_path: Path) -> None:
    """DVC writes 1e-05 and `no`, which YAML 1.1 reads as text and as false."""
    (tmp_path / "params.yaml").write_text(
        'fusion: {vision_multiplier: 1e-5}\nmodel: {name: "no"}\n'
    )
    ran = "fusion.vision_multiplier: 1e-05, model.name: no"
    (tmp_path / "dvc.lock").write_text(
        f"stages: {{evaluate: {{params: {{params.yaml: {{{ran}}}}}}}}}"
    )
    check_lock(tmp_path)


def test_parameters_that_an_older_version_did_not_know(tmp_path: Path) -> None:
    """Its run noted nothing of them: what they would change, it did not."""
    content = yaml.safe_load(original("params.yaml"))

    def write(**evaluate: Any) -> None:
        own = {**content, "evaluate": content["evaluate"] | evaluate}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))

    noted = {
        name: content[name]
        for name in ("dataset", "model", "text", "vision", "fusion", "threshold")
    }
    noted |= {f"features.{name}": value for name, value in content["features"].items()}
    noted |= {f"evaluate.{name}": content["evaluate"][name] for name in ("size", "pro_limit")}
    ran = {"stages": {"evaluate": {"params": {"params.yaml": noted}}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(ran))
    write()
    check_lock(tmp_path)
    write(foreground=True, closing={"radius": 3})
    with pytest.raises(
        StoreError, match=r"changed since the run \(evaluate\.closing, evaluate\.foreground\)"
    ):
        check_lock(tmp_path)
    # a run that was killed before evaluate: what earlier stages know of its parameters did not change
    ran["stages"]["extract"] = ran["stages"].pop("evaluate")
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(ran))
    check_lock(tmp_path)


def test_a_stage_that_ran_alone_leaves_the_others_behind(tmp_path: Path) -> None:
    """As after `fade run score_vision` with other banks: thresholds are those of the old ones."""
    (tmp_path / "params.yaml").write_text("{}")
    receipt = "artefacts/receipts/vision.parquet"

    def write(made: str) -> None:
        stages = {
            "score_vision": {"outs": [{"path": receipt, "md5": made}]},
            "evaluate": {"deps": [{"path": receipt, "md5": "a"}, {"path": "code.py", "md5": "c"}]},
            "report": {"deps": [{"path": receipt, "md5": "old"}]},
        }
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))

    write("a")
    check_lock(tmp_path)
    write("b")
    with pytest.raises(StoreError, match=r"^evaluate did not run again after the stages before"):
        check_lock(tmp_path)


def test_a_lock_file_that_a_kill_cut_short(tmp_path: Path) -> None:
    """What is left is YAML, too, and lacks the stages that would tell of other parameters."""
    (tmp_path / "params.yaml").write_text("a: 2")
    lock = tmp_path / "dvc.lock"
    bank, evaluate = (
        "stages:\n  bank: {cmd: b}\n",
        "  evaluate: {cmd: e, params: {params.yaml: {a: 1}}}\n",
    )
    lock.write_text(bank + evaluate)
    keep_locks(tmp_path)
    with pytest.raises(StoreError, match=r"changed since the run \(a\)"):
        check_lock(tmp_path)
    lock.write_text(bank)
    with pytest.raises(StoreError, match="cannot be read whole"):
        check_lock(tmp_path)


@pytest.fixture
def run_ahead(base: Params, folder: Path, tmp_path: Path) -> tuple[Predictor, Path]:
    """A predictor, kept while the project's banks were made anew of other training images."""
    project = Path(shutil.copytree(folder, tmp_path / "copy"))
    kept = Predictor.from_run(project)
    images = Path(shutil.copytree(WEAVE, tmp_path / "images" / "weave")).parent
    for path in (images / "weave" / "train" / "good").iterdir():
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)
    again = changed(base, dataset__path=str(images), dataset__watch=str(images))
    run_stages(project, again, "manifest", "select", "extract", "bank")
    return kept, project


def test_banks_of_the_next_run_do_not_meet_the_thresholds_of_this(
    run_ahead: tuple[Predictor, Path], noise: Path, tmp_path: Path
) -> None:
    """A predictor that is kept, one that is opened beside a run, and a bundle."""
    kept, project = run_ahead
    for use in (
        lambda: kept.predict([noise], "weave"),
        lambda: Predictor.from_run(project).predict([noise], "weave"),
        lambda: write_bundle(FinishedRun(project), tmp_path / "a.fade"),
    ):
        with pytest.raises(
            StoreError, match=r"made with another bank of weave.* or run it, and start"
        ):
            use()
    assert not list(tmp_path.glob("*.fade*"))


def test_parts_of_two_runs(folder: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(folder, tmp_path / "copy"))
    run = FinishedRun(project)
    text = project / "artefacts" / "text" / "index.json"
    before = text.read_text()
    digest = json.loads(before)["classifiers"]["segmentation"]["weave"]
    text.write_text(before.replace(digest, "0" * 40))
    for use in (run.classifier, run.sentences):
        with pytest.raises(StoreError, match="made with another text classifier of weave"):
            use("segmentation", "weave")
    small, large = sorted((project / "artefacts" / "banks" / "weave").glob("*.faiss"))
    shutil.copy(small, large)
    with pytest.raises(StoreError, match="is of another run than artefacts/banks"):
        run.bank("weave")


def test_a_precision_that_is_slower_is_told(
    base: Params, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = changed(
        base, model__precision="bf16", runtime__device="cpu", vision__shots=[1],
        features__segmentation_sizes=[96],
    )  # fmt: skip
    project = run_stages(tmp_path, half)
    write_bundle(FinishedRun(project), tmp_path / "a.fade", with_weights=True)
    monkeypatch.setattr(logging.getLogger("fade"), "propagate", True)
    for lacking in (False, True):
        monkeypatch.setattr("fade.device.lacks_bf16", lambda lacking=lacking: lacking)
        caplog.clear()
        Predictor.from_run(project)
        Predictor.from_bundle(tmp_path / "a.fade")
        slow = "model.precision bf16 is slower than fp32 on this processor: "
        assert caplog.messages == lacking * [
            f"{slow}set it to fp32 and run `fade run`",
            f"{slow}write the bundle from a run of fp32",
        ]


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_who_lets_a_predictor_go_lets_its_model_go(kind: str, folder: Path, bundle: Path) -> None:
    """At once: who opens one with each new run or bundle would have several models in memory."""
    image = WEAVE / "test" / "good" / "000.png"

    def opened() -> Predictor:
        found = Predictor.from_run(folder) if kind == "run" else Predictor.from_bundle(bundle)
        found.explain(image, "weave", level=0)
        return found

    assert kept_after(opened, lambda predictor: [predictor.material]) == []


def test_another_model(folder: Path, bundle: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(folder, tmp_path / "copy"))
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("model:\n", "model:\n  gem: {depth: 3}\n"))
    with pytest.raises(StoreError, match="other features"):
        Predictor.from_run(project)


def test_trials() -> None:
    trials = [Trial(0, 0), Trial(1, 0), Trial(1, 5), Trial(4, 3), Trial(4, 5)]
    assert choose_trial(trials, None, None) == Trial(4, 3)
    assert choose_trial(trials, 1, None) == Trial(1, 0)
    assert choose_trial(trials, None, 5) == Trial(4, 5)
    with pytest.raises(ParameterError, match=r"0 \(seed 0\), 1 \(seed 0\)"):
        choose_trial(trials, 2, None)


# bundles


def test_equal_bundles_are_equal_bytes(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_bundle(FinishedRun(folder), tmp_path / name, with_weights=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert str(folder).encode() not in (tmp_path / "a").read_bytes()
    assert str(GOLDEN).encode() not in (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("with_weights", [False, True])
def test_no_bundle_of_features_that_an_older_version_made(
    folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_weights: bool
) -> None:
    path = tmp_path / "a.fade"
    monkeypatch.setattr("fade.encoder.encoder.FEATURE_VERSION", 1000)
    with pytest.raises(StoreError, match=r"or this program changed; run `fade run`, with --force"):
        write_bundle(FinishedRun(folder), path, with_weights=with_weights)
    with pytest.raises(
        StoreError, match=r"write the bundle again with `fade run` and `fade bundle`"
    ):
        Predictor.from_bundle(bundle)
    assert not path.exists()

    def lost(*_: Any, **__: Any) -> None:
        raise ModelError("no weights here")

    monkeypatch.setattr("pipeline.inference.bundle_writing.load_image_encoder", lost)
    write_bundle(FinishedRun(folder), path)  # nothing can be known here
    assert path.exists()


def test_a_bundle_without_weights(
    folder: Path, tmp_path: Path, golden_checkpoint: Path, bundle: Path
) -> None:
    path = tmp_path / "bare.fade"
    write_bundle(FinishedRun(folder), path)
    assert path.stat().st_size < bundle.stat().st_size
    with pytest.raises(ModelError, match="--with-weights"):
        Predictor.from_bundle(path)
    with zipfile.ZipFile(path) as archive:
        assert "weights.safetensors" not in archive.namelist()
    found = Predictor.from_bundle(path, weights=golden_checkpoint)
    assert_the_runs_numbers(found, folder)


def test_weights_are_not_copied_into_the_temporary_folder(
    folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they would stay after a kill: a model's config alone lies there for a moment."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    most = 0

    def looked(real: Callable[..., Any]) -> Callable[..., Any]:
        def look(*args: Any, **options: Any) -> Any:
            nonlocal most
            sizes = [path.stat().st_size for path in scratch.rglob("*") if path.is_file()]
            most = max(most, sum(sizes))
            return real(*args, **options)

        return look

    monkeypatch.setattr("fade.encoder.plain_clip.plain_clip", looked(plain_clip))
    monkeypatch.setattr("fade.encoder.encoder.write_weights", looked(write_weights))
    Bundle(bundle).encoder()
    assert 0 < most < 10_000
    write_bundle(FinishedRun(folder), tmp_path / "out" / "a.fade", with_weights=True)
    assert most < 10_000
    assert (tmp_path / "out" / "a.fade").read_bytes() == bundle.read_bytes()


@pytest.mark.parametrize(
    ("name", "pretrained"),
    [("hf-hub:org/none", ""), (None, "hf-hub:org/none"), ("ViT-B-32", "laion2b_s34b_b79k")],
)
def test_a_strangers_bundle_calls_nobody(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, pretrained: str
) -> None:
    def elsewhere(entries: dict[str, bytes]) -> None:
        content = json.loads(entries["bundle.json"])
        content["parameters"]["model"]["pretrained"] = pretrained
        if name:
            content["parameters"]["model"]["name"] = name
            del entries["model.json"]
        entries["bundle.json"] = json.dumps(content).encode()

    path = rewritten(bundle, tmp_path / "a.fade", elsewhere)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with counting_server() as (url, calls):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        with pytest.raises(ModelError, match="not all on this machine: fetch them with --download"):
            Predictor.from_bundle(path)
        assert not calls
        with pytest.raises(ModelError, match="could not be"):
            Predictor.from_bundle(path, download=True)
        assert calls


Change = Callable[[dict[str, bytes]], None]


def rewritten(bundle: Path, target: Path, change: Change, compression: int = 0) -> Path:
    """A bundle with other entries."""
    with zipfile.ZipFile(bundle) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries.pop("weights.safetensors")
    change(entries)
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return target


def set_json(**leaves: Any) -> Change:
    def change(entries: dict[str, bytes]) -> None:
        content = json.loads(entries["bundle.json"]) | leaves
        entries["bundle.json"] = json.dumps(content).encode()

    return change


def other_trial(entries: dict[str, bytes]) -> None:
    """Thresholds and trial agree, and the parameters have no such trial."""
    content = json.loads(entries["bundle.json"])
    content["trial"] = [2, 7]
    for threshold in content["thresholds"]:
        threshold["seed"] = 7
    entries["bundle.json"] = json.dumps(content).encode()


def set_bank(array: np.ndarray, **options: Any) -> Change:
    return edit_bank(lambda _: array, **options)


def edit_bank(edit: Callable[[np.ndarray], np.ndarray], **options: Any) -> Change:
    def change(entries: dict[str, bytes]) -> None:
        buffer = io.BytesIO()
        array = np.load(io.BytesIO(entries["banks/0/96.npy"]), allow_pickle=False)
        np.save(buffer, edit(array), **options)
        entries["banks/0/96.npy"] = buffer.getvalue()

    return change


def claim(shape: tuple[int, ...]) -> Change:
    """A bank's header that tells of another shape than its bytes have."""

    def change(entries: dict[str, bytes]) -> None:
        buffer = io.BytesIO()
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(buffer, header)
        entries["banks/0/96.npy"] = buffer.getvalue() + bytes(64)

    return change


def swap_classifiers(entries: dict[str, bytes]) -> None:
    one, other = sorted(name for name in entries if name.startswith("text/"))
    entries[one], entries[other] = entries[other], entries[one]


def unit_rows(*shape: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e.update({"../evil": b"x"}), "none that"),
        (lambda e: e.update({"/etc/passwd": b"x"}), "none that"),
        (lambda e: e.update({"text/../../x.npz": b"x"}), "none that"),
        (lambda e: e.update({"model.pkl": b"x"}), "none that"),
        (lambda e: e.update({"model.json": b" " * (2 << 20)}), "at most"),
        (lambda e: e.pop("bundle.json"), "bundle.json"),
        (set_json(schema=99), "schema version 99"),
        (set_json(kind="zip"), "no bundle"),
        (set_json(trial=[7, 7]), "do not agree"),
        (set_json(trial="x"), "is not a valid bundle"),
        (set_json(trial="20"), "trial: input should be a valid tuple, not '20'"),
        (set_json(trial=[2.9, 0.2]), r"trial\.0: input should be a valid integer, not 2\.9"),
        (set_json(trial=[2, 0, 0]), "trial: tuple should have at most 2 items"),
        (set_json(trial=[True, 0]), "valid integer, not true"),
        (set_json(trial=[1, 0]), "do not agree"),
        (set_json(categories=["weave", "weave"]), "do not agree"),
        (set_json(categories="weave"), "categories: input should be a valid tuple, not 'weave'"),
        (set_json(categories=[1]), "categories.0: input should be a valid string, not 1"),
        (set_json(aspect=[2, 1]), "do not agree"),
        (set_json(thresholds=[{"a": 1}]), "threshold 1: category is missing"),
        (set_json(parameters={"dataset": {}}), "is missing"),
        (set_json(texts=[1]), "is not a valid bundle"),
        (other_trial, "do not agree"),
    ],
    ids=range(23),
)  # fmt: skip
def test_bundles_that_are_refused(bundle: Path, tmp_path: Path, change: Change, says: str) -> None:
    with pytest.raises((StoreError, ParameterError), match=says) as error:
        Bundle(rewritten(bundle, tmp_path / "bad.fade", change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e.pop("banks/0/96.npy"), "is not a valid bundle"),
        (set_bank(np.array([{"a": 1}], dtype=object), allow_pickle=True), "is not a valid bundle"),
        (set_bank(np.zeros((2, 9, 8), np.float32)), r"row 0 of banks/0/96\.npy has length 0"),
        (set_bank(np.full((2, 9, 8), np.nan, np.float16)), "has length nan"),
        (set_bank(np.full((2, 9, 8), np.inf, np.float16)), "has length inf"),
        (set_bank(1.01 * unit_rows(2, 9, 8)), r"has length 1\.01"),
        (set_bank(unit_rows(2, 8)), "has shape"),
        (set_bank(unit_rows(3, 9, 8)), r"has shape \(3, 9, 8\), for 2 references"),
        (set_bank(np.ones((2, 9, 8), np.int64)), "has type int64"),
        (claim((1 << 33, 4)), "header tells of 137,438,953,472 bytes, there are 64"),
        (claim((4, 2)), "header tells of 32 bytes"),
        (claim((-2, -8)), "is not a valid bundle"),
        (set_json(banks={"weave": {"number": 0, "references": "ab"}}), "references: input should be a"),
        (set_json(banks={"weave": {"number": 0, "references": []}}), "0 references at 2 shots"),
        (set_json(banks={"weave": {"number": 0, "references": ["a"] * 3}}), "3 references at 2 shots"),
        (set_json(banks={"weave": {"number": "../../x", "references": ["a"]}}), "is not a valid bundle"),
        (set_json(banks={}), "is not a valid bundle"),
    ],
    ids=range(17),
)  # fmt: skip
def test_banks_that_are_refused(bundle: Path, tmp_path: Path, change: Change, says: str) -> None:
    path = rewritten(bundle, tmp_path / "bad.fade", change)
    with pytest.raises(StoreError, match=says):
        Bundle(path).bank("weave")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda rows: unit_rows(*rows.shape[:2], 8), "patches of 8 numbers, but 2 references"),
        (lambda rows: rows[:, :-1], "holds 70 patches of 128 numbers, but .* have 72 of 128"),
        (lambda rows: np.repeat(rows, 2, axis=1), "holds 144 patches"),
    ],
    ids=["width", "fewer", "more"],
)
def test_banks_of_another_model_are_refused(
    bundle: Path,
    tmp_path: Path,
    golden_checkpoint: Path,
    edit: Callable[[np.ndarray], np.ndarray],
    says: str,
) -> None:
    path = rewritten(bundle, tmp_path / "bad.fade", edit_bank(edit))
    opened = Predictor.from_bundle(path, weights=golden_checkpoint)
    with pytest.raises(StoreError, match=rf"bad\.fade: the bank of weave at size 96 .*{says}"):
        opened.predict([WEAVE / "test" / "good" / "000.png"], "weave")


def test_classifiers_are_those_of_their_names(bundle: Path, folder: Path, tmp_path: Path) -> None:
    opened = Bundle(rewritten(bundle, tmp_path / "swapped.fade", swap_classifiers))
    with pytest.raises(StoreError, match=r"swapped\.fade is not a valid .* than its name says"):
        opened.classifier("classification", "weave")
    opened = Bundle(
        rewritten(bundle, tmp_path / "odd.fade", set_json(texts={"classification": {}}))
    )
    with pytest.raises(StoreError, match="is not a valid bundle"):
        opened.classifier("classification", "weave")
    project = Path(shutil.copytree(folder, tmp_path / "copy"))
    one, other = sorted((project / "artefacts" / "text").glob("*.npz"))
    one.write_bytes(other.read_bytes())
    run = FinishedRun(project)
    with pytest.raises(StoreError, match="is another one than its name says: run the text stage"):
        [run.classifier(use, "weave") for use in ("classification", "segmentation")]


def test_a_classifier_of_another_model_is_refused(
    bundle: Path, tmp_path: Path, golden_checkpoint: Path
) -> None:
    narrow = fit("average", unit_rows(4, 8), np.array([0, 1, 0, 1]))
    save(narrow, tmp_path / "narrow.npz")
    name = classifier_digest(narrow)

    def change(entries: dict[str, bytes]) -> None:
        entries[f"text/{name}.npz"] = (tmp_path / "narrow.npz").read_bytes()
        set_json(texts={use: {"weave": name} for use in USES})(entries)

    path = rewritten(bundle, tmp_path / "bad.fade", change)
    opened = Predictor.from_bundle(path, weights=golden_checkpoint)
    with pytest.raises(StoreError, match="takes embeddings of 8 numbers, the model gives 128"):
        opened.predict([WEAVE / "test" / "good" / "000.png"], "weave")


@pytest.mark.parametrize(
    "prompts",
    [[["a", 1], [True, False]], [["a"], ["no"]], [["a"], [True, False]], ["a", [True]], [["a"]], 1],
)
def test_prompts_that_are_refused(bundle: Path, tmp_path: Path, prompts: Any) -> None:
    content = json.dumps({"segmentation": {"weave": prompts}}).encode()
    path = rewritten(bundle, tmp_path / "bad.fade", lambda e: e.update({"prompts.json": content}))
    with pytest.raises(StoreError, match="is not a valid bundle"):
        Bundle(path).sentences("segmentation", "weave")


@pytest.mark.parametrize(
    ("file", "column"),
    [("artefacts/selection.parquet", "rank"), ("artefacts/banks/references.parquet", "hash")],
)
def test_tables_without_a_column_are_refused(
    file: str, column: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "run")
    frame, remarks = read_table(tmp_path / "run" / file)
    del remarks["schema"]
    write_table(frame.drop(columns=column), tmp_path / "run" / file, **remarks)
    with pytest.raises(StoreError, match=rf"{file} cannot be read .*{column}"):
        FinishedRun(tmp_path / "run").bank("weave")


@pytest.mark.parametrize("part", ["prompts", "classifiers"])
@pytest.mark.parametrize("value", [None, "x", {"segmentation": "x"}])
def test_an_index_of_texts_of_another_shape_is_refused(
    part: str, value: Any, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "run")
    index = tmp_path / "run/artefacts/text/index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {part: value}))
    with pytest.raises(StoreError, match=r"index\.json is no index of texts: run"):
        FinishedRun(tmp_path / "run").classifier("segmentation", "weave")


def test_a_config_is_named_as_the_bundles(
    bundle: Path, tmp_path: Path, golden_checkpoint: Path
) -> None:
    path = rewritten(bundle, tmp_path / "a.fade", lambda e: e.update({"model.json": b"{}"}))
    with pytest.raises(ModelError, match=rf"model\.json of {path} lacks embed_dim"):
        Bundle(path, golden_checkpoint).encoder()


def test_entries_that_are_longer_than_the_file(bundle: Path, tmp_path: Path) -> None:
    path = rewritten(bundle, tmp_path / "long.fade", lambda e: None)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = archive.start_dir
        size = archive.infolist()[0].file_size
    # both sizes of the first entry in the archive's directory
    assert data[place + 20 : place + 28] == struct.pack("<II", size, size)
    data[place + 20 : place + 28] = struct.pack("<II", 1 << 25, 1 << 25)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"its entries are .* bytes long, the file"):
        Bundle(path)


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_bundle_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="it is no plain file"):
        Bundle(tmp_path / "pipe")


def test_compressed_and_damaged_bundles(bundle: Path, tmp_path: Path) -> None:
    squeezed = rewritten(bundle, tmp_path / "a", lambda e: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(StoreError, match="none that"):
        Bundle(squeezed)
    data = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as archive:
        place = archive.getinfo("banks/0/96.npy").header_offset + 600
    data[place] ^= 1
    (tmp_path / "b").write_bytes(data)
    with pytest.raises(StoreError, match="is not a valid bundle"):
        Bundle(tmp_path / "b").bank("weave")
    (tmp_path / "c").write_bytes(bundle.read_bytes()[:1000])
    with pytest.raises(StoreError, match="is not a valid bundle"):
        Bundle(tmp_path / "c")
    with pytest.raises(StoreError, match="there is no bundle"):
        Bundle(tmp_path / "d")
    with pytest.raises(StoreError, match=r"is not a valid bundle \(it is a folder\)"):
        Bundle(tmp_path)


def test_two_entries_of_one_name(bundle: Path, tmp_path: Path) -> None:
    path = rewritten(bundle, tmp_path / "twice", lambda e: None)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("prompts.json", b"{}")
    with pytest.raises(StoreError, match="none that"):
        Bundle(path)


# the command line


@pytest.fixture
def fade(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs ``fade`` in the run's folder: exit code, output, errors."""
    from pipeline.cli.main import main

    monkeypatch.chdir(folder)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


Fade = Callable[..., tuple[int, str, str]]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    path = tmp_path / "new" / "noise.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    return path


def test_predict_command(fade: Fade, predictor: Predictor, noise: Path, tmp_path: Path) -> None:
    reference = GOLDEN / "images" / predictor.material.bank("weave").references[0]
    shutil.copy(reference, noise.parent / "NOISE.jpg.png")
    out = tmp_path / "out"
    code, text, remark = fade("predict", noise.parent, reference, "--out", out)
    assert code == 10
    assert text.count(": normal") == 2
    assert text.count(": anomalous") == 1
    assert "training images outside the bank" in remark
    table = pd.read_csv(out / "predictions.csv")
    assert sorted(table["decision"]) == ["anomalous", "normal", "normal"]
    assert set(table["threshold_source"]) == {"training"}
    (count,) = set(table["threshold_images"])
    assert f"over {count} training images outside the bank" in remark
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == pytest.approx(table["score"].tolist())
    for kind in ("heatmaps", "overlays", "masks"):
        assert len(list((out / kind).iterdir())) == 3
    with Image.open(out / "masks" / "noise.png") as mask:
        assert mask.size == (120, 90)
        assert mask.mode == "L"
    code, text, remark = fade("predict", reference, "--threshold", "-1", "--json")
    record = json.loads(text)
    assert (code, record["decision"], record["threshold"]) == (10, "anomalous", -1)
    assert record["threshold_source"] == "given"
    assert "given by --threshold" in remark
    assert "--threshold is nan" in fade("predict", reference, "--threshold", "nan")[2]
    code, text, _ = fade("predict", reference, "--json", "--category", "weave", "--shots", "1")
    assert code == 0
    assert json.loads(text)["decision"] == "normal"


def test_predict_says_what_became_of_the_images(fade: Fade, noise: Path, tmp_path: Path) -> None:
    """Rows name their pictures, columns of before keep their places, a last line counts."""
    for name in ("a/000.png", "b/000.png"):
        (noise.parent / name).parent.mkdir()
        shutil.copy(noise, noise.parent / name)
    (noise.parent / "c.png").write_bytes(b"no image")
    out = tmp_path / "out"
    code, text, error = fade("predict", noise.parent, "--out", out)
    assert code == 3
    assert text.count("\n") == 3
    assert "4 images: 3 anomalous, 0 normal, 1 not read" in error.splitlines()
    assert "weave, 2 shots, seed 0: " in error
    assert "with 95 % confidence at most 63.2 % false alarms" in error  # 1 - 0.05 ** (1 / 3)
    table = pd.read_csv(out / "predictions.csv")
    assert table.columns[:9].tolist() == [
        "image", "category", "score", "threshold", "decision", "pixel_threshold",
        "threshold_source", "threshold_images", "remark",
    ]  # fmt: skip
    for row in table.to_dict("records"):
        own = str(row["image"])
        for kind in ("heatmap", "overlay", "mask"):
            with Image.open(out / row[kind]) as drawn, Image.open(own) as image:
                assert drawn.size == image.size
    assert sorted(table["overlay"]) == [
        "overlays/000-2.png", "overlays/000.png", "overlays/noise.png"
    ]  # fmt: skip
    assert set(zip(table["shots"], table["seed"], strict=True)) == {(2, 0)}
    (set_by,) = set(table["threshold_set_by"])
    assert (GOLDEN / "images" / set_by).is_file()
    assert set_by in error
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [line["mask"] for line in lines] == table["mask"].tolist()
    code, text, error = fade("predict", noise, "--json", "--out", out, "--no-pictures")
    assert json.loads(text)["overlay"] is None
    assert error.splitlines()[-1] == "1 image: 1 anomalous, 0 normal"


def test_who_stops_reading_loses_no_file(fade: Fade, noise: Path, tmp_path: Path) -> None:
    """As after ``| head``: with ``--out`` all images are done, without the command ends."""
    shutil.copy(noise, noise.parent / "another.png")
    for more, expected in ((("--out", tmp_path / "out"), 10), ((), 1)):
        with nobody_reads():
            assert fade("predict", noise.parent, *more)[0] == expected
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 2


def test_predict_goes_on_after_broken_images(fade: Fade, noise: Path) -> None:
    (noise.parent / "broken.png").write_bytes(b"no image")
    code, text, error = fade("predict", str(noise.parent / "*.png"))
    assert code == 3
    assert "noise.png" in text
    assert "broken.png" in error
    assert "1 other image is done" in error


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes")
def test_names_that_are_no_text_are_named(fade: Fade, noise: Path, tmp_path: Path) -> None:
    shutil.copy(noise, noise.parent / os.fsdecode(b"caf\xe9.png"))
    (noise.parent / "gone.png").symlink_to("nowhere")
    os.mkfifo(noise.parent / "pipe.png")
    for more in ((), ("--out", tmp_path / "out"), ("--json",)):
        code, text, error = fade("predict", noise.parent, *more)
        assert code == 3
        assert text.count("\n") == 1
        assert r"caf\udce9.png: its name is not UTF-8" in error
        assert "gone.png is a link to nothing" in error
        assert "pipe.png is no plain file" in error
        assert "(1 other image is done)" in error
    assert len(list((tmp_path / "out" / "heatmaps").iterdir())) == 1
    code, text, error = fade("show", noise.parent / os.fsdecode(b"caf\xe9.png"))
    assert code == 0
    assert r"caf\udce9.png: anomalous" in text
    code, text, error = fade("show", noise.parent / "pipe.png")
    assert (code, text) == (3, "")


def test_images_that_vanish_after_they_were_read(
    predictor: Predictor, noise: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copy(noise, noise.parent / "other.png"))

    def vanishing() -> Iterator[Prediction]:
        for found in predict_each(predictor, [str(noise), str(other)], "weave", [], keep=True):
            Path(found.name).unlink()
            yield found

    assert len(list(write_predictions(vanishing(), tmp_path / "out"))) == 2
    for kind in ("heatmaps", "overlays", "masks"):
        assert len(list((tmp_path / "out" / kind).iterdir())) == 2


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd")
def test_pipes_are_read_once(fade: Fade, noise: Path, tmp_path: Path) -> None:
    """Also where another image of the batch is broken."""
    (noise.parent / "broken.png").write_bytes(b"no image")
    there, here = os.pipe()
    os.write(here, noise.read_bytes())
    os.close(here)
    code, text, error = fade(
        "predict", f"/dev/fd/{there}", noise.parent / "broken.png", "--out", tmp_path / "out"
    )
    os.close(there)
    assert code == 3
    assert f"/dev/fd/{there}: anomalous" in text
    assert "broken.png is not a readable image" in error
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == [f"{there}.png"]


def ended_when(done: Callable[[], bool], number: signal.Signals) -> threading.Thread:
    """Sends a signal to this process as soon as something is done, or after a minute."""

    def wait() -> None:
        end = time.monotonic() + 60
        while not done() and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_watch_goes_on_after_a_kill(
    fade: Fade, predictor: Predictor, bundle: Path, noise: Path, tmp_path: Path
) -> None:
    """A bundle's watch is killed, a run's goes on: each image is judged once, as predict judges it."""
    new, out = noise.parent, tmp_path / "out"
    names = ["noise.png", *(f"{number}.png" for number in range(3))]
    for number, name in enumerate(names[1:]):
        shutil.copy(WEAVE / "test" / "good" / f"00{number % 2}.png", new / name)
    watch = ["predict", "--watch", str(new), "--out", str(out), "--interval", "0.05"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli.main", *watch, "--bundle", str(bundle)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert killed.stdout is not None
    assert killed.stdout.readline()  # a decision is given once it is noted
    killed.kill()
    killed.communicate(timeout=60)
    lines = out / "watched.jsonl"
    before = count_lines(lines)
    assert before
    shutil.copy(noise, new / "late.png")
    (new / "half.png").write_bytes(noise.read_bytes()[:-100])
    thread = ended_when(lambda: count_lines(lines) >= len(names) + 2, signal.SIGTERM)
    code, text, error = fade(*watch)
    thread.join()
    assert code == 0
    assert text.count("\n") == len(names) + 1 - before
    assert f"watching {new}; {counted(before, 'file')} judged before" in error
    assert "warning: " in error
    assert f"{len(names) + 2 - before} images: " in error.splitlines()[-1]
    table = pd.read_csv(out / "watched.csv")
    good = table[table["score"].notna()]
    assert sorted(good["image"]) == sorted(str(new / name) for name in [*names, "late.png"])
    for row in good.to_dict("records"):
        (alone,) = predictor.predict([row["image"]], "weave")
        assert (row["score"], row["decision"]) == (
            pytest.approx(alone.score, abs=1e-6), alone.decision
        )  # fmt: skip
        assert (out / row["mask"]).is_file()
    assert len(set(good["mask"])) == len(good)
    table.to_csv(out / "watched.csv", index=False)  # by another hand
    assert fade(*watch)[0] == 5


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_watch_ends_when_the_project_runs_again(
    fade: Fade, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thresholds alone may be others then: a line would be judged by those of before."""
    for number in range(9):
        shutil.copy(noise, noise.parent / f"{number}.png")
    # when it starts, after a look that finds files come, and before the first eight are judged
    states = iter(3 * ["of the run"])
    monkeypatch.setattr(results_state, "results_state", lambda folder: next(states, None))
    out = ("--out", tmp_path / "out", "--interval", "0.01")
    late = threading.Timer(50, os.kill, (os.getpid(), signal.SIGTERM))
    late.start()
    code, _, error = fade("predict", "--watch", noise.parent, *out)
    late.cancel()
    assert code == 5
    assert error.splitlines()[-1].startswith("error: the project ran again, or runs: start this")
    assert count_lines(tmp_path / "out" / "watched.jsonl") == 8


def test_watch_refuses(fade: Fade, noise: Path, tmp_path: Path) -> None:
    watch = ("predict", "--watch", noise.parent)
    for arguments, says, code in (
        ((*watch, noise, "--out", tmp_path), "takes no images", 2),
        ((*watch, "--batch", "--out", tmp_path), "leave out --batch", 2),
        (watch, "--watch needs --out", 2),
        (("predict", "--watch", noise, "--out", tmp_path), "is no folder", 3),
        (("predict",), "no images: give files, folders or globs, or --watch FOLDER", 2),
    ):
        ended, _, error = fade(*arguments)
        assert (ended, error.count("\n")) == (code, 1)
        assert says in error


def test_a_camera_that_fills_one_array_again_and_again(predictor: Predictor) -> None:
    """In a batch, too, each frame is judged as it was when it was given."""
    with Image.open(WEAVE / "test" / "good" / "000.png") as image:
        first = np.asarray(image.convert("RGB"))
    frames = [np.roll(first, shift, 1) // (shift + 1) for shift in range(3)]
    buffer = np.empty_like(frames[0])
    shown = Image.new("RGB", buffer.shape[1::-1])

    def filled() -> Iterator[np.ndarray]:
        for frame in frames:
            np.copyto(buffer, frame)
            yield buffer

    def painted() -> Iterator[Image.Image]:
        for frame in frames:
            shown.paste(Image.fromarray(frame))
            yield shown

    expected = [found.score for found in predictor.predict(frames, "weave")]
    assert len(set(expected)) == 3
    assert [found.score for found in predictor.stream(filled(), "weave")] == expected
    assert [found.score for found in predictor.stream(painted(), "weave")] == expected


def test_a_camera_is_answered_frame_by_frame(predictor: Predictor) -> None:
    """Frames without an end, from elsewhere than files: none is taken before the last one's answer."""
    taken = []

    def camera() -> Iterator[np.ndarray]:
        with Image.open(WEAVE / "test" / "good" / "000.png") as image:
            frame = np.asarray(image.convert("RGB"))
        while True:
            taken.append(frame)
            yield frame

    answers = predictor.stream(camera(), "weave", batch_size=1)
    for number in range(3):
        found = next(answers)
        assert (found.name, len(taken)) == (f"image {number}", number + 1)
    (of_file,) = predictor.predict([WEAVE / "test" / "good" / "000.png"], "weave")
    assert found.score == of_file.score
    next(predictor.stream(camera(), "weave"))
    assert len(taken) == 3 + predictor.params.runtime.batch_size
    with pytest.raises(ParameterError, match="batch_size is 0"):
        next(predictor.stream(camera(), "weave", batch_size=0))


def test_a_camera_that_fails_loses_no_answer(predictor: Predictor) -> None:
    """Nor does an image that cannot be read: those taken with it into a batch are answered first."""
    names = [str(WEAVE / "test" / "good" / f"{number:03}.png") for number in range(3)]

    def camera() -> Iterator[str]:
        yield from names
        raise OSError("unplugged")

    assert predictor.params.runtime.batch_size > len(names)
    expected = [found.score for found in predictor.predict(names, "weave")]
    for images, error in ((camera(), OSError), ([*names, "gone.png", *names], DataError)):
        answers = predictor.stream(images, "weave")
        assert [next(answers).score for _ in names] == expected
        with pytest.raises(error, match=r"unplugged|gone\.png"):
            next(answers)


def test_the_camera_loop_of_the_docs(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is written there, with a video in the camera's place."""
    cv2 = pytest.importorskip("cv2")
    video, frame = tmp_path / "video.avi", np.full((90, 120, 3), 90, np.uint8)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 5, (120, 90))
    for _ in range(3):
        writer.write(frame)
    writer.release()
    text = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "VideoCapture(0)" in b)
    for written, here in (
        ('"line3.fade"', repr(str(bundle))),
        ("VideoCapture(0)", f"VideoCapture({str(video)!r})"),
        ('"cable"', '"weave"'),
    ):
        assert written in block
        block = block.replace(written, here)
    exec(compile(block, "docs/predict.md", "exec"), {"__name__": "camera"})
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in said] == [["image", str(k), "anomalous"] for k in range(3)]


def test_predict_twice_into_the_images_folder(fade: Fade, noise: Path) -> None:
    for _ in range(2):
        code, text, _ = fade("predict", noise.parent, "--out", noise.parent / "out")
        assert code == 10
        assert text.count("\n") == 1


@pytest.mark.parametrize("place", ["predictions.csv", "heatmaps/noise.png"])
def test_folders_in_the_place_of_files(fade: Fade, noise: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "out" / place).mkdir(parents=True)
    code, _, error = fade("predict", noise, "--out", tmp_path / "out")
    assert code == 5
    assert error.splitlines()[-1].startswith(f"error: {tmp_path / 'out' / place}: it is a folder")


def test_predict_refuses(fade: Fade, noise: Path, tmp_path: Path) -> None:
    long = "n" * 300
    assert fade("predict", "")[0] == fade("predict", noise, "--out", "")[0] == 2
    assert fade("show", "")[0] == fade("show", noise, "--out", "")[0] == 2
    assert fade("predict", long)[0] == fade("predict", "n/" * 3000)[0] == 3
    for arguments, expected in (
        (("predict", noise, "--out", long), 2),
        (("predict", noise, "--bundle", long), 5),
        (("show", long), 3),
        (("show", noise, "--out", f"{long}.png"), 5),
        (("show", noise, "--out", tmp_path / "x"), 2),
        (("show", noise, "--out", tmp_path / "x.txt"), 2),
        (("show", noise, "--out", tmp_path), 2),
        (("bundle", long), 5),
        (("table", long), 5),
    ):
        code, text, error = fade(*arguments)
        assert (code, text) == (expected, ""), error
        assert error.startswith("error: ")
        assert "unexpected" not in error
        assert error.count("\n") == 1
    assert fade("predict", noise.parent / "*.gif")[0] == 3
    assert fade("predict", noise, "--category", "plate")[0] == 2
    assert fade("predict", noise, "--shots", "7")[0] == 2
    assert fade("predict", noise, "--bundle", "none.fade")[0] == 5
    assert fade("predict", noise, "--weights", "x.pt")[0] == 2
    assert fade("predict", noise, "--bundle", "none.fade", "--shots", "1")[0] == 2


def test_bundle_command(fade: Fade, noise: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.fade"
    code, text, _ = fade("bundle", path, "--with-weights", "--shots", "1")
    assert code == 0
    assert "1 category, 1 shot, seed 0" in text
    os.chdir(tmp_path)  # nothing of the project is needed
    code, text, _ = fade("predict", noise, "--bundle", path)
    assert code == 10
    assert "anomalous" in text


def test_a_bundle_of_some_categories(fade: Fade, noise: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.fade"
    code, text, _ = fade("bundle", path, "--category", "weave", "--category", "weave", "--json")
    assert code == 0
    assert json.loads(text)["categories"] == ["weave"]
    code, _, error = fade("bundle", tmp_path / "c.fade", "--category", "weave", "--category", "nut")
    assert code == 2
    assert "there is no category 'nut': choose weave" in error
    assert not (tmp_path / "c.fade").exists()


def test_show_command(fade: Fade, noise: Path, tmp_path: Path) -> None:
    out = tmp_path / "why.png"
    code, text, _ = fade("show", noise, "--out", out)
    assert code == 0
    assert "region 1: pixels" in text
    assert "nearest normal patch: weave/train/good/" in text
    assert "abnormal prompt, cosine" in text
    with Image.open(out) as drawn:
        assert drawn.size == (120, 90)
    content = json.loads(fade("show", noise, "--json", "--level", "0")[1])
    assert content["regions"][0]["nearest"]["distance"] > 0


def test_show_draws_where_nobody_reads_on(
    fade: Fade, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `fade show ... | head -1`, which closes the pipe."""

    def closed(text: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("pipeline.cli.predict.echo_text", closed)
    fade("show", noise, "--out", tmp_path / "why.png")
    with Image.open(tmp_path / "why.png") as drawn:
        assert drawn.size == (120, 90)


def test_new_images_that_are_turned_are_said(
    predictor: Predictor, fade: Fade, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    file = tmp_path / "turned.jpg"
    Image.open(WEAVE / "test/good/000.png").convert("RGB").save(file, exif=exif)
    predictor.predict([file, WEAVE / "test/good/001.png"], "weave")
    (line,) = [line for line in caplog.messages if "EXIF" in line]
    assert line.startswith("1 image has an EXIF orientation, which is not applied")
    assert str(file) in line
    predictor.predict([file], "weave")  # of each image of a camera it would fill a log
    assert [found for found in caplog.messages if "EXIF" in found] == [line]
    # on the command line it is a line as the others are
    assert f"\nwarning: {line}\n" in fade("predict", file)[2]
    assert "WARNING" not in fade("predict", file)[2]
