"""Prompts are embedded once, whoever asks for them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cache.store import Store
from fade.encoder import Encoder
from fade.errors import DataError, ParameterError, StoreError
from pipeline.features.models import load_encoder
from pipeline.scoring.prompt_embeddings import embed
from pipeline.scoring.texts import TextIndex
from tests.projects import GOLDEN, changed, golden_params, project, run_stages


def warnings_of(act: Callable[[], object]) -> list[str]:
    """What is warned of meanwhile."""
    found: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Kept(logging.WARNING)
    log = logging.getLogger("fade")
    log.addHandler(handler)
    try:
        act()
    finally:
        log.removeHandler(handler)
    return found


@pytest.fixture(scope="module")
def encoder(golden_checkpoint: Path) -> Encoder:
    return Encoder.load(str(GOLDEN / "fade-golden.json"), str(golden_checkpoint))


def test_distinct_prompts_are_encoded_once(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = encoder.encode_texts

    def counting(prompts: Any, *args: Any) -> Any:
        asked.extend(prompts)
        return real(prompts, *args)

    monkeypatch.setattr(encoder, "encode_texts", counting)
    first = embed(["a", "b", "a"], encoder, Store(tmp_path))
    second = embed(["b", "c"], encoder, Store(tmp_path))
    assert asked == ["a", "b", "c"]
    assert (first["b"] == second["b"]).all()


def test_a_model_is_loaded_only_for_prompts_that_the_store_lacks(
    golden_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it told of its text tower is kept with the hash of its weights."""
    import pipeline.features.text_tower

    loaded = []

    def counted(params: Any) -> Encoder:
        loaded.append(params)
        return load_encoder(params)

    def index() -> bytes:
        return (tmp_path / "artefacts" / "text" / "index.json").read_bytes()

    monkeypatch.setattr(pipeline.features.text_tower, "load_encoder", counted)
    weights = tmp_path / "weights.pt"
    shutil.copy(golden_checkpoint, weights)
    params = golden_params("zeroshot_language", weights)
    (tmp_path / "code.json").write_text('{"text": "1"}')
    run_stages(tmp_path, params, "manifest", "text")
    first = index()
    run_stages(tmp_path, params, "text")
    assert len(loaded) == 1
    assert index() == first
    softmax = changed(params, text__segmentation__classifier="softmax")
    run_stages(tmp_path, softmax, "text")
    assert len(loaded) == 1, "another classifier, the same prompts"
    assert index() != first
    prompts = [{"normal": ["fine"], "abnormal": ["broken"]}]
    run_stages(tmp_path, changed(params, text__segmentation__prompts=prompts), "text")
    assert len(loaded) == 2, "prompts that the store lacks"
    (tmp_path / ".fade" / "texts.json").write_text('{"a": [1]}')
    run_stages(tmp_path, params, "text")
    assert len(loaded) == 3, "of a damaged file nothing is known"
    state = torch.load(weights, weights_only=True)
    torch.save({**state, "text_projection": state["text_projection"] + 1}, weights)
    run_stages(tmp_path, params, "text")
    assert len(loaded) == 4
    assert index() != first


def test_one_classifier_serves_all_categories_where_the_name_has_no_part(
    golden_checkpoint: Path, tmp_path: Path
) -> None:
    params = golden_params("zeroshot_language", golden_checkpoint)
    override = {"plate": {"segmentation": [{"normal": ["fine"], "abnormal": ["broken"]}]}}
    run_stages(tmp_path, changed(params, text__overrides=override), "manifest", "text")
    with project(tmp_path, params):
        index = TextIndex.read()
    by_category = index.classifiers["classification"]
    assert by_category["weave"] != by_category["plate"]
    assert index.classifiers["segmentation"]["weave"] != index.classifiers["segmentation"]["plate"]
    run_stages(tmp_path, params, "text")
    with project(tmp_path, params):
        index = TextIndex.read()
    assert len(set(index.classifiers["segmentation"].values())) == 1
    assert len(list((tmp_path / "artefacts" / "text").glob("*.npz"))) == 3


def test_overrides_of_unknown_categories(golden_checkpoint: Path, tmp_path: Path) -> None:
    """A misspelt name would do nothing without a word."""
    override = {"weavee": {"segmentation": [{"normal": ["fine"], "abnormal": ["broken"]}]}}
    params = changed(
        golden_params("zeroshot_language", golden_checkpoint),
        text__overrides=override, dataset__categories=None,
    )  # fmt: skip
    with pytest.raises(ParameterError, match=r"names 'weavee', .*did you mean weave\?.*remove it"):
        run_stages(tmp_path, params, "manifest", "text")
    # it may be one that dataset.categories leaves out
    said = changed(params, dataset__categories=["weave"])
    logged = warnings_of(lambda: run_stages(tmp_path, said, "manifest", "text"))
    assert [line for line in logged if "text.overrides names 'weavee'" in line]


def test_sentences_of_both_sides_are_warned_of(golden_checkpoint: Path, tmp_path: Path) -> None:
    def told(abnormal: list[str]) -> list[str]:
        params = changed(
            golden_params("zeroshot_language", golden_checkpoint),
            text__segmentation__prompts=[{"normal": ["fine", "whole"], "abnormal": abnormal}],
        )
        return warnings_of(lambda: run_stages(tmp_path, params, "manifest", "text"))

    assert not told(["broken"])
    (line,) = told(["broken", "fine"])
    assert "text.segmentation: sentences that are both" in line
    assert "weave: 'a photo of a fine.'" in line
    assert "weave: all of them" in told(["whole", "fine"])[0]


def test_prompts_longer_than_the_model_reads(golden_checkpoint: Path, tmp_path: Path) -> None:
    """They would be cut to one and the same sentence, and the run would end as usual."""
    params = changed(
        golden_params("zeroshot_language", golden_checkpoint),
        text__template="word " * 80 + "{prompt}",
    )
    with pytest.raises(
        ParameterError, match=r"the prompt 'word .* photo of a weave' has 87 tokens.* 77"
    ):
        run_stages(tmp_path, params, "manifest", "text")
    assert not (tmp_path / "artefacts" / "text").exists()


def test_a_prompt_file_edited_in_place_is_noticed(golden_checkpoint: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "mine.json"
    content = {"normal": {"prompts": ["fine"]}, "abnormal": {"prompts": ["broken"]}}
    prompts.write_text(json.dumps(content))
    params = changed(
        golden_params("zeroshot_language", golden_checkpoint),
        text__segmentation__prompts=[str(prompts)],
        features__segmentation_sizes=[96],
        dataset__limit=1,
    )
    run_stages(tmp_path, params, "manifest", "select", "extract", "text", "score_language")
    content["normal"]["prompts"] = ["fine and whole"]
    prompts.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"prompt file of text\.segmentation\.prompts changed"):
        run_stages(tmp_path, params, "score_language")


def test_labels_of_one_side_only(golden_checkpoint: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "half.json"
    prompts.write_text(json.dumps({"normal": {"prompts": ["fine"]}}))
    params = changed(
        golden_params("zeroshot_language", golden_checkpoint),
        text__classification__prompts=[str(prompts)],
    )
    with pytest.raises(DataError, match=r"half\.json"):
        run_stages(tmp_path, params, "manifest", "text")
