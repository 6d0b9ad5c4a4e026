"""The example of docs/library.md runs as it stands, and a detector agrees with the official numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fade.bank import anomaly
from fade.encoder import Encoder
from fade.errors import DataError, ParameterError
from fade.preprocess import decode_rgb
from fade.scoring import Detector, Settings, embed, language_map, text_classifier
from fade.types import Feature
from fade.vision import patch_map, vision_map
from tests.projects import GOLDEN, ROOT

OFFICIAL = [f"prompts/chatgpt3.5_prompt{n}.json" for n in range(1, 6)]
WINCLIP = str(GOLDEN / "prompts" / "winclip_prompt.json")


def example() -> str:
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    return str(blocks[0])


def test_example_runs_without_the_pipeline() -> None:
    report = (
        "\nimport json, sys\n"
        "print(json.dumps({'modules': sorted({m.partition('.')[0] for m in sys.modules}), "
        "'score': found.score, 'place': [int(row), int(column)], 'grid': found.levels.shape[0]}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", example() + report],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *_, line, told = done.stdout.splitlines()
    assert line.startswith("score ")
    found = json.loads(told)
    assert not {"dvc", "zarr", "dask", "typer", "pipeline", "cache", "stages"} & set(
        found["modules"]
    )
    assert 0 < found["score"] <= 1
    row, column = (place / found["grid"] for place in found["place"])
    assert 100 / 160 - 0.1 < row < 140 / 160 + 0.1
    assert 20 / 160 - 0.1 < column < 60 / 160 + 0.1


def test_example_is_short() -> None:
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= 15


@pytest.fixture(scope="module")
def encoder(golden_checkpoint: Path) -> Encoder:
    return Encoder.load(str(GOLDEN / "fade-golden.json"), str(golden_checkpoint))


def read(name: str) -> np.ndarray:
    file = GOLDEN / "images" / f"{name}.png"
    return np.asarray(decode_rgb(file.read_bytes(), file.name))


@pytest.mark.parametrize(
    ("run", "settings"),
    [
        ("fewshot1_both_seed0", {}),
        ("fewshot2_vision_seed3", {"mode": "vision"}),
        ("zeroshot_language", {"mode": "language"}),
        (
            "zeroshot_both",
            {
                "query_in_bank": True, "vision_stream": "gem",
                "vision_multiplier": 8.0, "vision_weight": 0.5,
            },
        ),
    ],
)  # fmt: skip
def test_official_numbers(run: str, settings: dict[str, object], encoder: Encoder) -> None:
    shots = {"fewshot1_both_seed0": 1, "fewshot2_vision_seed3": 2}.get(run, 0)
    seed = 3 if run.endswith("seed3") else 0
    picked = json.loads((GOLDEN / "reference_indices.json").read_text())[f"n=8 seed={seed}"]
    detector = Detector.prepare(
        encoder,
        "plate",
        [read(f"plate/train/good/{number:03d}") for number in picked[:shots]],
        Settings(
            classification_size=96,
            segmentation_sizes=(96, 160, 320),
            score_prompts=(WINCLIP,),
            map_prompts=(WINCLIP, *(str(GOLDEN / name) for name in OFFICIAL)),
            **settings,  # type: ignore[arg-type]
        ),
    )
    scores = pd.read_csv(GOLDEN / "runs" / run / "image_scores.csv")
    maps = np.load(GOLDEN / "runs" / run / "maps_uint8.npz")["maps"].astype(int)
    for name in ("plate/test/good/000", "plate/test/hole/002"):
        row = scores.index[scores["image_name"] == name][0]
        found = detector.inspect(read(name))
        assert found.score == pytest.approx(scores["image_anomaly_score"][row], abs=1e-3)
        assert (np.abs(found.levels.astype(int) - maps[row]) <= 1).mean() >= 0.995


def unit_rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.standard_normal(shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_vision_map_is_the_distance_to_the_nearest_normal_patch() -> None:
    rng = np.random.default_rng(0)
    query, bank = unit_rows(rng, 9, 8), unit_rows(rng, 2, 9, 8)
    found = vision_map({48: query}, [{48: part} for part in bank])
    expected = 0.5 * (1 - (query @ bank.reshape(-1, 8).T).max(axis=1)).reshape(3, 3)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    others = query @ query.T - 4 * np.eye(9, dtype=np.float32)
    alone = vision_map({48: query}, [], query_in_bank=True)
    np.testing.assert_allclose(alone, anomaly(others.max(axis=1)).reshape(3, 3), atol=1e-6)
    both = vision_map({48: query}, [{48: part} for part in bank], query_in_bank=True)
    np.testing.assert_array_equal(both, np.minimum(found, alone))


def test_a_reference_of_itself_is_normal() -> None:
    query = unit_rows(np.random.default_rng(1), 16, 8)
    np.testing.assert_allclose(vision_map({64: query}, [{64: query}]), 0, atol=1e-6)


def test_bad_input_is_refused() -> None:
    query = unit_rows(np.random.default_rng(2), 9, 8)
    with pytest.raises(DataError, match="nothing to compare"):
        patch_map([])
    with pytest.raises(DataError, match="no square map"):
        patch_map([np.zeros(8, np.float32)])
    with pytest.raises(DataError, match="patches at the sizes"):
        vision_map({48: query}, [{64: query}])


def test_detector_refuses_what_finds_nothing(encoder: Encoder) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ParameterError, match="nothing to compare with"):
        Detector.prepare(encoder, "plate")
    with pytest.raises(ParameterError, match="'none'"):
        Detector.prepare(encoder, "plate", [image], Settings(mode="none"))
    with pytest.raises(ParameterError, match="at least one size"):
        Detector.prepare(encoder, "plate", [image], Settings(segmentation_sizes=()))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32, 3), np.float32),
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((0, 32, 3), np.uint8),
    ],
)
def test_only_rgb_images(encoder: Encoder, image: np.ndarray) -> None:
    with pytest.raises(DataError, match="cannot be encoded"):
        embed(encoder, image, [Feature(96, "clip", "cls")])


def test_features_of_one_image(encoder: Encoder) -> None:
    image = read("plate/test/good/000")
    wanted = [Feature(96, "clip", "cls"), Feature(96, "gem", "patch"), Feature(160, "gem", "patch")]
    found = embed(encoder, image, wanted)
    assert list(found) == wanted
    assert found[wanted[0]].shape == (encoder.dim,)
    assert found[wanted[2]].shape == (encoder.grid(160) ** 2, encoder.dim)
    classifier = text_classifier(encoder, [WINCLIP], "plate")
    probabilities = language_map(classifier, [found[wanted[1]]])
    assert probabilities.shape == (encoder.grid(96),) * 2
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"vision_weight": 2}, "vision_weight is 2: give a number from 0 to 1"),
        ({"vision_weight": float("nan")}, "vision_weight is nan"),
        ({"vision_weight": "0.5"}, "vision_weight is '0.5'"),
        ({"vision_multiplier": 0}, "vision_multiplier is 0: give a number above 0"),
        ({"vision_multiplier": float("inf")}, "vision_multiplier is inf"),
        ({"vision_stream": "vision"}, "vision_stream is 'vision': choose clip or gem"),
        ({"segmentation_sizes": 64}, "segmentation_sizes is one 64: give several"),
        ({"map_prompts": "winclip"}, "map_prompts is one 'winclip': give several"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    changed: dict[str, Any], says: str, encoder: Encoder
) -> None:
    with pytest.raises(ParameterError, match=re.escape(says)):
        Detector.prepare(encoder, "plate", (), Settings(**{"query_in_bank": True, **changed}))


def test_images_are_arrays_and_references_any_number_of_them(encoder: Encoder) -> None:
    settings = Settings(mode="vision", segmentation_sizes=(96,))
    images = np.stack([read(f"plate/train/good/{number:03d}") for number in range(2)])
    expected = Detector.prepare(encoder, "plate", list(images), settings).inspect(images[0])
    for given in (images, iter(images)):
        found = Detector.prepare(encoder, "plate", given, settings).inspect(images[0])
        assert (found.score, found.levels.tolist()) == (expected.score, expected.levels.tolist())
    detector = Detector.prepare(encoder, "plate", images, settings)
    for image in (Image.fromarray(images[0]), "000.png", images[0].tolist(), None):
        with pytest.raises(
            DataError, match=f"type {type(image).__name__} cannot be encoded: give uint8"
        ):
            detector.inspect(image)  # type: ignore[arg-type]
