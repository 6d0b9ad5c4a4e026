"""Prompts are embedded once, whoever asks for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cache.store import Store
from fade.encoder import Encoder
from fade.errors import DataError, StoreError
from pipeline.texts import TextIndex
from stages.text import embed
from tests.projects import GOLDEN, changed, golden_params, project, run_stages


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
