"""The sentences nearest to an image's patches, against plain sorting."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fade.errors import StoreError
from fade.prompts import ensemble_digest
from pipeline.config.load import parse_params
from pipeline.scoring.sentences import EmbeddedSentences, Sentences, read_sentences
from pipeline.scoring.texts import ensembles
from tests.projects import changed
from tests.stages.test_vision_encoder import vision_params


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_the_nearest_of_each_side_to_the_mean_patch(count: int) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[1::2] = vectors[::2]  # equal cosines: the first comes first
    texts = [f"sentence {n}" for n in range(40)]
    abnormal = (rng.random(40) < 0.4).tolist()
    patches = 3 * rng.normal(size=(5, 6)) + 1

    mean = [sum(patch[i] for patch in patches) / 5 for i in range(6)]
    length = sum(value**2 for value in mean) ** 0.5
    cosines = [sum(v * m for v, m in zip(row, mean, strict=True)) / length for row in vectors]
    found = EmbeddedSentences(texts, abnormal, vectors).similar(patches, count)
    for side, wanted in zip(found, (True, False), strict=True):
        rows = [n for n in range(40) if abnormal[n] == wanted]
        best = sorted(rows, key=lambda n: -round(cosines[n], 9))[:count]
        assert [text for text, _ in side] == [texts[n] for n in best]
        assert [cosine for _, cosine in side] == pytest.approx([cosines[n] for n in best])


def test_prompts_that_changed_since_the_run_are_refused(tmp_path: Path) -> None:
    leaves = {"text__segmentation__prompts": ["own.json"], "text__template": "a {prompt} nut"}
    params = parse_params(changed(vision_params(), **leaves))
    file = tmp_path / "own.json"
    sides = {
        "normal": {"prompts": ["fine {classname}"]},
        "abnormal": {"prompts": ["bent {classname}", "torn {classname}"]},
    }
    file.write_text(json.dumps(sides))
    digest = ensemble_digest(ensembles(params, "segmentation", "nut", tmp_path))
    index: Any = SimpleNamespace(prompts={"segmentation": {"nut": digest}})
    found = read_sentences(params, "segmentation", "nut", index, tmp_path)
    assert len(found.texts) == 3
    assert sorted(found.abnormal) == [False, True, True]
    file.write_text(json.dumps(sides | {"normal": {"prompts": ["whole {classname}"]}}))
    with pytest.raises(StoreError, match=r"text\.segmentation\.prompts changed since the run"):
        read_sentences(params, "segmentation", "nut", index, tmp_path)


def test_a_sentence_that_comes_twice_is_embedded_once() -> None:
    asked: list[list[str]] = []

    def embed(texts: list[str]) -> np.ndarray:
        asked.append(texts)
        return np.eye(len(texts))

    given = Sentences(("fine", "bent", "fine", "torn"), (False, True, False, True))
    found = EmbeddedSentences.of(given, embed)
    assert asked == [["fine", "bent", "torn"]]
    assert found.similar(np.array([[0.0, 1.0, 0.0]]), 1) == ((("bent", 1.0),), (("fine", 0.0),))
