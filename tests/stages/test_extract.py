"""Extraction: only what is lacking, and what happens when the store or an image is not as it was."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cache.store import DamagedSegmentError, Store
from fade.errors import DataError, StoreError
from pipeline.artefacts.catalogue import TEST
from pipeline.artefacts.receipts import read_receipt
from pipeline.features.models import load_encoder
from tests.projects import GOLDEN, changed, golden_params, project, run_stages


@pytest.fixture
def params(golden_checkpoint: Path) -> dict[str, Any]:
    return changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        dataset__limit=2,
    )


def spaces(folder: Path) -> dict[str, int]:
    """Published rows by label of their space."""
    store = Store(folder / ".fade" / "store")
    return {space.label: len(store.index(space)) for space in store.spaces()}


def test_only_what_somebody_reads_is_stored(params: dict[str, Any], tmp_path: Path) -> None:
    language = changed(
        params, fusion__classification_mode="language", fusion__segmentation_mode="language"
    )
    run_stages(tmp_path, language, "manifest", "select", "extract")
    assert spaces(tmp_path) == {"clip-cls-96": 12, "gem-patch-96": 12}
    run_stages(tmp_path, params, "manifest", "select", "extract")
    assert spaces(tmp_path) == {"clip-cls-96": 12, "gem-patch-96": 12, "clip-patch-96": 14}


@pytest.mark.parametrize(
    ("weight", "stage"),
    [("visual.transformer.resblocks.0.mlp.c_fc.weight", "extract"), ("text_projection", "text")],
)
def test_numbers_that_are_not_finite_are_blamed_on_a_file(
    params: dict[str, Any], tmp_path: Path, golden_checkpoint: Path, weight: str, stage: str
) -> None:
    state = torch.load(golden_checkpoint, weights_only=True)
    state[weight] = torch.full_like(state[weight], float("nan"))
    torch.save(state, tmp_path / "nan.pt")
    broken = changed(params, model__pretrained=str(tmp_path / "nan.pt"))
    with pytest.raises(
        StoreError, match=r"check the weights .*model\.pretrained: .*nan\.pt\)$"
    ) as told:
        run_stages(tmp_path, broken, "manifest", "select", stage)
    # features are kept in float32 here, and sentences always are
    assert "float16" not in str(told.value)


@pytest.mark.parametrize("keep", [True, False])
def test_a_precision_that_is_slower_is_told_once(
    params: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    keep: bool,
) -> None:
    monkeypatch.setattr(logging.getLogger("fade"), "propagate", True)
    monkeypatch.setattr("fade.device.lacks_bf16", lambda: True)
    half = changed(
        params, model__precision="bf16", runtime__device="cpu", features__keep=keep,
        fusion__classification_mode="language", fusion__segmentation_mode="language",
    )  # fmt: skip
    before = () if keep else ("extract", "text", "bank")
    run_stages(tmp_path, half, "manifest", "select", *before)
    stage = "extract" if keep else "stream"
    run_stages(tmp_path, half, stage)
    said = "model.precision bf16 is slower than fp32 on this processor: set it to fp32"
    assert caplog.text.count(said) == 1
    run_stages(tmp_path, half, stage)  # nothing to encode
    assert caplog.text.count(said) == 1


def test_a_damaged_segment_is_named_and_computed_again(
    params: dict[str, Any], tmp_path: Path
) -> None:
    run_stages(tmp_path, params)
    metrics = (tmp_path / "results" / "metrics.csv").read_bytes()
    store = Store(tmp_path / ".fade" / "store")
    (space,) = (s for s in store.spaces() if s.label == "clip-patch-96")
    folder = Path(store.root) / store.folder(space)
    (maps,) = (s for s in store.spaces() if s.label == "vision-map")
    shutil.rmtree(Path(store.root) / store.folder(maps))  # so that features are read again
    with project(tmp_path, params):
        tested = next(iter(read_receipt(TEST).rows[space.label]))
    segment = store.index(space)[tested].segment
    (shard,) = (folder / "segments" / segment).rglob("c/*/*/*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(DamagedSegmentError, match=f"segment {segment} of clip-patch-96"):
        run_stages(tmp_path, params, "score_vision")
    assert not (tmp_path / TEST.path).exists(), "the receipt must not outlive its rows"
    assert len(store.index(space)) < 14
    run_stages(tmp_path, params, "extract", "bank", "score_vision", "evaluate")
    assert len(store.index(space)) == 14
    assert (tmp_path / "results" / "metrics.csv").read_bytes() == metrics


def test_an_image_that_changes_meanwhile(params: dict[str, Any], tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(GOLDEN / "images", images)
    params = changed(params, dataset__path=str(images))
    run_stages(tmp_path, params, "manifest", "select")
    shutil.copy(images / "weave/test/good/001.png", images / "weave/test/good/000.png")
    with pytest.raises(DataError, match=r"weave/test/good/000\.png changed since"):
        run_stages(tmp_path, params, "extract")


def test_receipts_do_not_depend_on_how_the_work_was_cut(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipeline.features.plan

    run_stages(tmp_path / "whole", params, "manifest", "select", "extract")
    monkeypatch.setattr(pipeline.features.plan, "SEGMENT_IMAGES", 1)
    single = changed(params, runtime={"batch_size": 1})
    run_stages(tmp_path / "single", single, "manifest", "select", "extract")
    receipts = []
    for name in ("whole", "single"):
        with project(tmp_path / name, params):
            receipts.append(read_receipt(TEST))
    assert receipts[0].spaces == receipts[1].spaces
    assert {k: set(v) for k, v in receipts[0].rows.items()} == {
        k: set(v) for k, v in receipts[1].rows.items()
    }
    assert json.dumps(receipts[0].compared_with) == "{}"


def test_a_worker_loads_the_model_once(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks of references and of test images want different features of the same model."""
    import pipeline.features.extraction
    import stages.extract

    loaded = []

    def counted(*args: Any) -> Any:
        loaded.append(load_encoder(*args))
        return loaded[-1]

    def here(function: Any, tasks: Any, *args: Any, **options: Any) -> Any:
        tasks = list(tasks)
        assert len({task.features for task in tasks}) > 1
        return [function(task) for task in tasks]

    monkeypatch.setattr(stages.extract, "load_image_encoder", counted)
    monkeypatch.setattr(
        pipeline.features.extraction, "load_encoder_of", lambda params, feature: counted(params)
    )
    monkeypatch.setattr(pipeline.features.extraction, "iterate_tasks", here)
    monkeypatch.setattr(pipeline.features.extraction, "_LOADED", {})
    run_stages(tmp_path, params, "manifest", "select")
    there = changed(params, cluster={"kind": "address", "address": "tcp://127.0.0.1:9"})
    run_stages(tmp_path, there, "extract")
    assert len(loaded) == 2, "one to plan, one to compute"


def test_a_model_is_loaded_only_for_what_the_store_lacks(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it told of its features is kept with the hash of its weights, and holds for fewer of them."""
    import stages.extract

    loaded = []

    def counted(*arguments: Any) -> Any:
        loaded.append(arguments)
        return load_encoder(*arguments)

    monkeypatch.setattr(stages.extract, "load_image_encoder", counted)
    weights = tmp_path / "weights.pt"
    shutil.copy(params["model"]["pretrained"], weights)
    own = changed(params, model__pretrained=str(weights))
    (tmp_path / "code.json").write_text('{"extract": "1"}')
    run_stages(tmp_path, own, "manifest", "select", "extract")
    receipt = (tmp_path / TEST.path).read_bytes()
    run_stages(tmp_path, changed(own, vision__seeds=[0]), "extract")
    assert len(loaded) == 1
    assert (tmp_path / TEST.path).read_bytes() == receipt
    weights.touch()
    os.utime(weights, (1, 1))
    run_stages(tmp_path, own, "extract")
    assert len(loaded) == 1, "touched, not changed"
    (tmp_path / "code.json").write_text('{"extract": "2"}')
    run_stages(tmp_path, own, "extract")
    assert len(loaded) == 2, "of other code nothing is known"
    import torch

    state = torch.load(weights, weights_only=True)
    torch.save({**state, "visual.proj": state["visual.proj"] + 1}, weights)
    run_stages(tmp_path, own, "extract")
    assert len(loaded) == 3
    assert (tmp_path / TEST.path).read_bytes() != receipt
