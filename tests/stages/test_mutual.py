"""Test images that score each other, through the stages: their maps are those of the plain arithmetic."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cache.keys import Keys
from cache.store import Store
from fade.errors import ParameterError, StoreError
from fade.rules.mutual import mutual_scores, score_against_sample
from fade.types import Trial
from pipeline.artefacts.catalogue import TEST, VISION
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_json
from pipeline.config.load import load_params, parse_params
from pipeline.evaluation.recipe import Recipe
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.judged import batch_line
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from pipeline.project.check_data import check_data
from pipeline.project.plan import lines, plan
from pipeline.project.preflight import check
from pipeline.report.about import transductive
from pipeline.scoring.components import component_key
from pipeline.scoring.pairs import Batch
from pipeline.scoring.views import view_plan
from pipeline.scoring.vision import plan_vision
from tests.forks import Forks, Run
from tests.projects import GOLDEN, STAGES, golden_params, project, run_stages
from tests.stages.test_vision_encoder import nested, vision_params
from tests.stages.undisturbed import rows

TESTS, TRAINING, VIEWS = 16, 3, 2


def mutual_params(folder: Path, **leaves: Any) -> dict[str, Any]:
    given = {
        "features__store": str(folder / "store"), "vision__bank": "batch",
        "vision__rule": "mutual", "vision__shots": [0], "vision__transforms": "none",
        "vision__layer_fusion": "apart",
        "threshold__images": TRAINING,
    }  # fmt: skip
    return vision_params(**{**given, **leaves})


def maps(folder: Path, category: str, trial: str = "shots0_seed0") -> dict[str, np.ndarray]:
    """The patch maps of a category's images: tests, then those that thresholds come from."""
    receipt, store = read_receipt(VISION, folder), Store(folder.parent / "store")
    digest = receipt.compared_with["vision-map"][category][trial]
    manifest = pd.read_parquet(folder / "artefacts/manifest.parquet")
    mine = manifest[manifest["category"] == category].sort_values("split", kind="stable")
    known = receipt.rows["vision-map"]
    keys = [key for key in mine["hash"] if component_key(key, digest) in known]
    places = receipt.locate(store, "vision-map", [component_key(key, digest) for key in keys])
    found = store.read(receipt.space("vision-map"), list(places.values()))
    return dict(zip(keys, found.reshape(len(keys), -1), strict=True))


def vectors(folder: Path, keys: list[str]) -> list[list[np.ndarray]]:
    """Of each view the patches of some images."""
    params = parse_params(mutual_params(folder.parent), "test")
    receipt, store = read_receipt(TEST, folder), Store(folder.parent / "store")
    features = [receipt.space(feature.label) for feature in params.vision_features()]
    stored = [
        store.read(space, list(receipt.locate(store, space.label, keys).values()))
        for space in features
    ]
    views = view_plan(params)
    assert len(views) == VIEWS
    return [list(view.vectors(features, stored)) for view in views]


def plain(folder: Path, keys: list[str], leaves: dict[str, Any]) -> tuple[Batch, np.ndarray]:
    """The batch and what all its patches score, in memory."""
    vision = parse_params(mutual_params(folder.parent, **leaves), "test").vision
    batch = Batch.of("plate", Keys.of(keys), vision)
    pairs = np.array([keys.index(key) for key in batch.keys])[batch.pairs]
    scores = [
        mutual_scores(images, pairs, share=vision.lowest, metric="cosine")
        for images in vectors(folder, keys)
    ]
    return batch, 0.5 * np.mean(scores, axis=0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutual") / "run"
    return run_stages(folder, mutual_params(folder.parent), *STAGES)


def test_maps_are_those_of_the_plain_arithmetic(finished: Path) -> None:
    found = maps(finished, "plate")
    assert len(found) == TESTS + TRAINING
    tests, others = list(found)[:TESTS], list(found)[TESTS:]
    batch, scores = plain(finished, tests, {})
    assert len(batch.pairs) == TESTS * (TESTS - 1) // 2
    np.testing.assert_allclose(np.stack([found[key] for key in tests]), scores, atol=1e-6)
    views = zip(vectors(finished, others), vectors(finished, list(batch.sample)), strict=True)
    alone = np.mean(
        [
            [score_against_sample(image, sample, metric="cosine") for image in images]
            for images, sample in views
        ],
        axis=0,
    )
    np.testing.assert_allclose(np.stack([found[key] for key in others]), 0.5 * alone, atol=1e-6)
    (threshold, _) = read_json(finished / "results/thresholds.json")["thresholds"]
    assert threshold["images"] == TRAINING
    assert threshold["source"] == "training"


@pytest.mark.parametrize(
    ("leaves", "pairs"),
    [
        ({"vision__lowest": 1.0}, 120),
        ({"vision__partners": 6}, 48),
        ({"vision__partners": "all", "vision__set_size": 8}, 56),
    ],
)
def test_another_share_or_other_partners_compare_no_pair_again(
    leaves: dict[str, Any], pairs: int, finished: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, finished.parent / tmp_path.name)
    before = set(rows(folder, folder.parent / "store"))
    run_stages(folder, mutual_params(folder.parent, **leaves), "score_vision")
    new = set(rows(folder, folder.parent / "store")) - before
    found = maps(folder, "plate")
    assert len(new) == 2 * len(found)  # maps alone, of two categories
    tests = list(found)[:TESTS]
    batch, scores = plain(folder, tests, leaves)
    assert len(batch.pairs) == pairs
    np.testing.assert_allclose(np.stack([found[key] for key in tests]), scores, atol=1e-6)


def test_killed_between_pairs_only_what_was_in_flight_is_compared_again(
    finished: Path, forks: Forks, tmp_path: Path
) -> None:
    workers, side = 2, 3
    params = nested(
        mutual_params(tmp_path), {"cluster__kind": "threads", "cluster__workers": workers}
    )
    shutil.copytree(finished.parent / "store", tmp_path / "store")
    for space in (tmp_path / "store").glob("spaces/*"):
        if '"label": "vision-patch' not in (space / "space.json").read_text():
            shutil.rmtree(space)
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / VISION.path).unlink()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    run = Run("score_vision", str(folder), small=side)
    seen = 0
    for write in (9, 40):  # in the middle of pairs, two times
        end = forks.run(replace(run, kill_at=write))
        assert end.code == -signal.SIGKILL, end.stderr
        done = len(set(rows(folder, tmp_path / "store")))
        seen += sum(end.work)
        assert done > 0
    end = forks.run(run)
    assert end.code == 0, end.stderr
    total = 2 * VIEWS * TESTS * (TESTS - 1) // 2 + 2 * (TESTS + TRAINING)
    assert total < seen + sum(end.work) <= total + 2 * workers * side**2
    whole = sorted(rows(finished, finished.parent / "store"))
    assert len(set(rows(folder, tmp_path / "store")) - set(whole)) == 0
    assert (folder / VISION.path).read_bytes() == (finished / VISION.path).read_bytes()


def test_a_batch_that_is_too_small_is_refused_with_its_category(tmp_path: Path) -> None:
    params = mutual_params(tmp_path, dataset__limit=1)
    with pytest.raises(ParameterError, match=r"category 'weave' has 3 different test images"):
        run_stages(tmp_path / "run", params, "manifest", "select")
    known = parse_params(params, "test")
    with pytest.raises(ParameterError, match=r"has 3 different test images"):  # before DVC starts
        check(known, ["manifest", "select"], tmp_path)
    assert [one.code for one in check_data(known)[1] if one.topic == "batches"] == [2]


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ({"vision__partners": 3}, "vision.partners"),
        ({"vision__partners": True}, "vision.partners"),
        ({"vision__lowest": 0.0}, "vision.lowest"),
        ({"vision__lowest": 1.1}, "vision.lowest"),
        ({"vision__set_size": 4}, "vision.set_size"),
        ({"vision__variance": 0.0}, "vision.variance"),
        ({"vision__components": 0}, "vision.components"),
        ({"vision__bank": "references"}, "in that rule test images score each other"),
        ({"vision__shots": [0, 1]}, "vision.bank is batch at 1 shot"),
        ({"features__keep": False}, "features.keep is false and vision.bank is batch"),
        ({"vision__bank_size": 9}, "vision.bank_size is 9, and vision.rule 'mutual' has no bank"),
        ({"vision__neighbours": 2}, "vision.neighbours is 2, and vision.rule 'mutual'"),
        (
            {"vision__rule": "nearest", "vision__coreset": 0.5},
            "vision.coreset is 0.5, and vision.bank 'batch' has no bank for it",
        ),
        (
            {"vision__rule": "nearest", "vision__index": "HNSW32"},
            "vision.index is 'HNSW32', and vision.bank 'batch' has no bank for it",
        ),
        (
            {"vision__variance": 0.9},
            "vision.variance is 0.9, and vision.rule 'mutual' does not read",
        ),
        (
            {"vision__rule": "nearest", "vision__lowest": 0.5},
            "vision.lowest is 0.5, and vision.rule 'nearest' does not read it: .* to mutual",
        ),
    ],
)
def test_what_batches_and_rules_cannot_do(
    leaves: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_params(mutual_params(tmp_path, **leaves), "test")


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ({"vision__rule": "subspace", "vision__shots": [0, 1]}, "no references to fit it to"),
        ({"vision__rule": "subspace", "vision__coreset": 0.5}, "vision.coreset is 0.5"),
        ({"vision__rule": "subspace", "vision__index": "HNSW32"}, "vision.index is 'HNSW32'"),
        ({"vision__bank_size": 9}, "vision.thinning is greedy and vision.bank_size 9"),
        ({"vision__thinning": "superadd"}, "vision.thinning is superadd and vision.bank_size None"),
        (
            {"vision__thinning": "superadd", "vision__bank_size": 9, "vision__coreset": 0.5},
            "both thin the bank",
        ),
        (
            {"vision__components": 5},
            "vision.components is 5, and vision.rule 'nearest' does not read it: .* to subspace",
        ),
        (
            {"vision__partners": "all"},
            "vision.partners is 'all', and vision.bank 'references' does not read it: .* to batch",
        ),
        (
            {"vision__rule": "subspace", "vision__set_size": 8},
            "vision.set_size is 8, and vision.bank",
        ),
    ],
)
def test_what_rules_and_thinning_cannot_do_with_references(
    leaves: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_params(vision_params(**leaves), "test")


def test_zero_shots_take_the_batch_and_others_the_references(tmp_path: Path) -> None:
    leaves = {
        "vision__bank": {"zero_shot": "batch", "few_shot": "references"},
        "vision__rule": {"zero_shot": "mutual", "few_shot": "nearest"},
        "vision__shots": [0, 1, 4],
    }
    vision = parse_params(mutual_params(tmp_path, **leaves), "test").vision
    assert [vision.rule_at(shots) for shots in (0, 1)] == ["mutual", "nearest"]
    assert [vision.has_batch(shots) for shots in (0, 1)] == [True, False]


def test_scores_are_fused_at_zero_shots_with_a_batch(tmp_path: Path) -> None:
    vision = np.full((2, 2), 0.75, np.float32)
    fused = {}
    for bank, rule in (("batch", "mutual"), ("references", "nearest")):
        both = golden_params("fewshot1_both_seed0", tmp_path / "none.pt")
        leaves = {"vision__bank": bank, "vision__rule": rule, "vision__shots": [0],
                  "vision__query_in_bank": True}  # fmt: skip
        recipe = Recipe.of(parse_params(nested(both, leaves), "test"))
        fused[bank] = recipe.score(0.25, vision, 0, (2, 2))
    assert fused == {"batch": 0.5, "references": 0.25}


def test_other_test_images_count_beside_references(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, finished.parent / tmp_path.name)
    leaves = {
        "vision__bank": "references_and_batch", "vision__rule": "nearest", "vision__shots": [0, 1],
    }  # fmt: skip
    params = mutual_params(folder.parent, **leaves)
    run_stages(folder, params, "select", "extract", "bank", "stream", *STAGES[6:9])
    selection = pd.read_parquet(folder / "artefacts/selection.parquet")
    (reference,) = selection[selection["category"] == "plate"]["hash"]
    for trial in ("shots0_seed0", "shots1_seed0"):
        found = maps(folder, "plate", trial)
        tests, others = list(found)[:TESTS], list(found)[TESTS:]
        assert len(others) >= TRAINING - 1  # images to calibrate on
        distances = []
        for images in vectors(folder, [*found, *([reference] if reference in found else [])]):
            cosines = np.stack([[(one @ other.T).max(axis=1) for other in images[:TESTS]]
                                for one in images[: len(found)]])  # fmt: skip
            for number in range(TESTS):
                cosines[number, number] = -1
            distances.append(0.5 * (1 - cosines.max(axis=1)))
        plain_maps = np.mean(distances, axis=0)
        ours = np.stack(list(found.values()))
        if trial == "shots0_seed0":
            np.testing.assert_allclose(ours, plain_maps, atol=1e-5)
        else:
            assert (ours <= plain_maps + 1e-5).all()
            assert (ours[: len(tests)] < plain_maps[: len(tests)] - 1e-4).any()
    run_stages(folder, params, "evaluate")
    scores = pd.read_parquet(folder / "results/scores.parquet")
    of_plate = scores[(scores["category"] == "plate") & (scores["shots"] == 1)]
    some = of_plate.set_index("path")["score"].iloc[:3]
    for shots in (0, 1):
        bundle = tmp_path / "parts.fade"
        write_bundle(FinishedRun(folder, shots), bundle, with_weights=True)
        for predictor in (Predictor.from_run(folder, shots=shots), Predictor.from_bundle(bundle)):
            # in this small batch a new image is compared with what one of calibration is
            threshold = predictor.thresholds["plate"]
            (alone,) = predictor.predict([GOLDEN / "images" / str(threshold.set_by)], "plate")
            assert alone.score == pytest.approx(threshold.image, abs=1e-5)
            if shots:  # test images are not compared with themselves
                again = predictor.predict(
                    [GOLDEN / "images" / path for path in some.index], "plate"
                )
                assert [one.score for one in again] == pytest.approx(list(some), abs=1e-5)


def test_a_sweep_of_rules_compares_each_pair_once(finished: Path, tmp_path: Path) -> None:
    """Mutual at 0 shots, and the batch beside the references at one."""
    folder = shutil.copytree(finished, finished.parent / tmp_path.name)
    params = mutual_params(
        folder.parent, vision__metric="euclidean", vision__shots=[0, 1],
        vision__bank={"zero_shot": "batch", "few_shot": "references_and_batch"},
        vision__rule={"zero_shot": "mutual", "few_shot": "nearest"},
    )  # fmt: skip
    run_stages(folder, params, "select", "extract", "bank", "stream")
    with project(folder, params):
        store = Store(folder.parent / "store")
        steps = plan_vision(load_params(), read_receipt(TEST), store).before
        assert len(steps) == 2
        pairs = [
            (task.view.space.fingerprint, task.keys[first], task.keys[second])
            for step in steps
            for task in step.tasks(store)
            for first, second in task.pairs
        ]
        assert plan(load_params()).pairs == 2 * TESTS * (TESTS - 1) // 2
    assert len(pairs) == len(set(pairs)) == sum(sum(step.counts().values()) for step in steps)
    assert len(pairs) >= 2 * VIEWS * TESTS * (TESTS - 1) // 2


def test_a_plan_counts_pairs_and_their_multiply_adds(finished: Path) -> None:
    with project(finished, mutual_params(finished.parent)):
        found = plan(load_params())
        large = plan(load_params(), 1000)
    assert found.pairs == 2 * TESTS * (TESTS - 1) // 2
    patches, dim = 16, 64
    compared = found.pairs + 2 * TRAINING * TESTS
    assert found.pair_multiply_adds == VIEWS * compared * patches**2 * dim
    assert large.pairs == 1000 * 32 // 2
    assert "16,000 of test images" in "\n".join(lines(large))


def test_the_report_and_predictions_say_that_scores_depend_on_the_batch(finished: Path) -> None:
    params = parse_params(mutual_params(finished.parent), "test")
    assert "Transductive: at 0 shots" in str(transductive(params))
    assert "transductive" in str(batch_line(params, Trial(0, 0), batch=False))
    plain_params = parse_params(vision_params(), "test")
    assert transductive(plain_params) is None
    assert batch_line(plain_params, Trial(1, 0), batch=False) is None
    assert "the others that are named" in str(batch_line(params, Trial(0, 0), batch=True))


def test_predict_scores_single_images_by_the_sample_and_folders_against_themselves(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    table = pd.read_parquet("results/scores.parquet")
    scores = table[table["category"] == "plate"].set_index("path")["score"]
    root = GOLDEN / "images"
    paths = [root / path for path in scores.index]
    predictor = Predictor.from_run(finished)
    batch = list(predictor.stream_batch([*paths, paths[0]], "plate"))  # an equal image counts once
    found = np.array([prediction.score for prediction in batch[:-1]], float)
    np.testing.assert_allclose(found, scores, atol=1e-5)
    assert batch[-1].score == batch[0].score
    # all 16 images are in the sample, so that one more is compared with them as with a batch
    threshold = predictor.material.thresholds["plate"]
    (alone,) = predictor.predict([root / str(threshold.set_by)], "plate")
    assert alone.score == pytest.approx(threshold.image, abs=1e-5)
    assert alone.decision == "normal"
    regions = predictor.explain(root / str(threshold.set_by), "plate", level=0)[1]
    told = regions[0].compared
    assert told is not None
    assert told.measure == "mean of the lowest 30 % of the distances to images of the batch"
    hashes = pd.read_parquet("artefacts/manifest.parquet").set_index("path")["hash"]
    highest = maps(finished, "plate")[hashes[str(threshold.set_by)]].max()
    assert told.distance == pytest.approx(highest, abs=0.01)  # levels are steps
    assert regions[0].nearest is None
    with pytest.raises(ParameterError, match="a batch of 4 images cannot score itself"):
        list(predictor.stream_batch(paths[:4], "plate"))
    for space in (finished.parent / "store").glob("spaces/*"):
        if '"label": "vision-patch' in (space / "space.json").read_text():
            space.rename(space.with_name(f"hidden-{space.name}"))
    with pytest.raises(StoreError, match=r"fade predict --batch FOLDER"):
        Predictor.from_run(finished).predict(paths[:1], "plate")
