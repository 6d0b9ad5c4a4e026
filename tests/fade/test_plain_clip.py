"""Models built without open_clip give the numbers of open_clip's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fade.encoder import Encoder, plain_clip
from fade.encoder.checkpoint import create_model
from fade.encoder.clip import Clip
from fade.errors import ModelError
from fade.gem import GemConfig
from fade.types import Feature
from tests.fade.test_encoder import ALL, VARIANTS, save, small, write_config

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("top", [{}, {"quick_gelu": True}])
def test_the_numbers_are_open_clip_s(
    top: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config, weights = write_config(tmp_path, **top), tmp_path / "small.safetensors"
    save(small(tmp_path, **top), weights)
    theirs = Encoder(Clip.of(*create_model(config, str(weights)), "small"), gem=GemConfig(depth=3))
    with monkeypatch.context() as without:
        without.setattr(plain_clip, "open_clip_library", None)
        ours = Encoder.load(config, str(weights), gem=GemConfig(depth=3))
        pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 40, 3), np.uint8)
        expected, found = (one.encode_images(pixels, ALL) for one in (theirs, ours))
    for pair in ALL:
        np.testing.assert_array_equal(found[pair], expected[pair])
    feature = Feature(32, "gem", "patch")
    assert ours.describe(feature) == theirs.describe(feature)
    # the text tower comes when it is asked for, though the config is gone
    Path(config).unlink()
    assert ours.text_digest == theirs.text_digest
    np.testing.assert_array_equal(ours.encode_texts(["a b"]), theirs.encode_texts(["a b"]))
    # open_clip says of each model that it starts with random weights: so does ours, and then gets them
    assert not caplog.records


def test_preprocessing_of_a_config_counts(tmp_path: Path) -> None:
    config, weights = Path(write_config(tmp_path)), tmp_path / "small.safetensors"
    save(small(tmp_path), weights)
    model = json.loads(config.read_text("utf-8"))
    whole = {"model_cfg": model, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}
    config.write_text(json.dumps(whole), "utf-8")
    found = plain_clip.plain_clip(str(config), str(weights), None)
    assert found is not None
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert Clip.of(*create_model(str(config), str(weights)), "small").mean == found.mean


@pytest.mark.parametrize("given", [None, {}, {"mean": None}, {"std": None, "size": 32}])
def test_what_a_config_leaves_open_is_open_clip_s(given: Any, tmp_path: Path) -> None:
    config, weights = Path(write_config(tmp_path)), tmp_path / "small.safetensors"
    save(small(tmp_path), weights)
    whole = {"model_cfg": json.loads(config.read_text("utf-8")), "preprocess_cfg": given}
    config.write_text(json.dumps(whole), "utf-8")
    found = Encoder.load(str(config), str(weights), gem=GemConfig(depth=3))
    theirs = Clip.of(*create_model(str(config), str(weights)), "small")
    assert (found.mean, found.std) == (theirs.mean, theirs.std)


@pytest.mark.parametrize("top", [{}, {"custom_text": True}])
@pytest.mark.parametrize(
    "pixels",
    [{"std": [1, 0, 1]}, {"mean": ["a", "b", "c"]}, {"mean": [0.5]}, {"std": [1, 1, 1e999]}],
)
def test_pixels_that_cannot_be_normalised(
    pixels: dict[str, Any], top: dict[str, Any], tmp_path: Path
) -> None:
    config = Path(write_config(tmp_path, **top))
    whole = {"model_cfg": json.loads(config.read_text("utf-8")), "preprocess_cfg": pixels}
    config.write_text(json.dumps(whole), "utf-8")
    with pytest.raises(
        ModelError, match=r"model.name: .*small.json has mean .* three finite numbers"
    ):
        Encoder.load(str(config), "seeded", gem=GemConfig(depth=3))


def test_a_name_is_no_file_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="open_clip has no model 'small'"):
        Encoder.load("small", "seeded", gem=GemConfig(depth=3))


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"plain", "narrow heads"}))
def test_other_models_are_left_to_open_clip(name: str, tmp_path: Path) -> None:
    state = small(tmp_path, VARIANTS[name])._model.state_dict()
    assert plain_clip.plain_clip(str(tmp_path / "small.json"), "", state) is None


def test_weights_that_do_not_fit_are_left_to_open_clip(tmp_path: Path) -> None:
    config, state = write_config(tmp_path), small(tmp_path)._model.state_dict()
    assert plain_clip.plain_clip(config, "", state) is not None
    name = "ln_final.weight"
    for wrong in (
        {key: value for key, value in state.items() if key != name},
        {**state, "more": state[name]},
        {**state, name: state[name][:-1]},
        {**state, name: state[name].to(torch.int8)},
    ):
        assert plain_clip.plain_clip(config, "", wrong) is None
    assert plain_clip.plain_clip(config, str(tmp_path / "none.safetensors"), None) is None


def test_names_of_open_clip_and_seeded_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "ViT-S-32-alt"
    theirs = Encoder(Clip.of(*create_model(name, "seeded"), name), gem=GemConfig(depth=3))
    with monkeypatch.context() as without:
        without.setattr(plain_clip, "open_clip_library", None)
        ours = Encoder.load(name, "seeded", gem=GemConfig(depth=3))
    feature = Feature(64, "gem", "patch")
    assert ours.describe(feature) == theirs.describe(feature)
    expected = theirs.encode_texts(["a b", "a longer text"])
    weights = tmp_path / "weights.safetensors"
    with weights.open("wb") as file:
        theirs.save_weights(file)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    images = theirs.encode_images(pixels, ALL)
    for one in (ours, Encoder.load(name, str(weights), gem=GemConfig(depth=3))):
        for pair, found in one.encode_images(pixels, ALL).items():
            np.testing.assert_array_equal(found, images[pair])
        assert one.vision_digest == theirs.vision_digest
        texts = one.without_vision()
        assert texts.text_digest == one.text_digest == theirs.text_digest
        np.testing.assert_array_equal(texts.encode_texts(["a b", "a longer text"]), expected)
        kept = {key.partition(".")[0] for key in texts._model.state_dict()}
        assert "visual" not in kept


@pytest.mark.parametrize("tower", ["vision_cfg", "text_cfg"])
def test_a_config_that_would_fill_the_memory_is_refused(tower: str, tmp_path: Path) -> None:
    config = Path(write_config(tmp_path))
    wide = json.loads(config.read_text(encoding="utf-8"))
    wide[tower]["width"] = 640_000
    config.write_text(json.dumps(wide), encoding="utf-8")
    with pytest.raises(ModelError, match="are built: correct layers, width"):
        Encoder.load(str(config), "seeded")


def test_a_model_larger_than_its_weights_is_not_built(tmp_path: Path) -> None:
    """As a damaged config in a bundle asks for, which holds the weights."""
    state = small(tmp_path)._model.state_dict()
    config = Path(write_config(tmp_path))
    deep = json.loads(config.read_text(encoding="utf-8"))
    width = deep["vision_cfg"]["width"]
    held = sum(tensor.numel() for tensor in state.values())
    deep["vision_cfg"]["layers"] = held // (4 * width**2) + 1
    config.write_text(json.dumps(deep), encoding="utf-8")
    with pytest.raises(ModelError, match=f"or more, and the weights are {held:,}: give the arch"):
        Encoder.load(str(config), "", gem=GemConfig(depth=3), state=state)
    deep["vision_cfg"]["layers"] = 5  # which are built, and do not fit
    config.write_text(json.dumps(deep), encoding="utf-8")
    with pytest.raises(ModelError, match="the weights do not fit"):
        Encoder.load(str(config), "", gem=GemConfig(depth=3), state=state)


def test_all_weights_lie_in_memory_once(tmp_path: Path) -> None:
    config, weights = write_config(tmp_path), tmp_path / "small.safetensors"
    save(small(tmp_path), weights)
    model = Encoder.load(config, str(weights), gem=GemConfig(depth=3))
    own, whole = model.tower[0].state_dict(), model._model.state_dict()
    assert {key: tensor.data_ptr() for key, tensor in own.items()} == {
        key.removeprefix("visual."): tensor.data_ptr()
        for key, tensor in whole.items()
        if key.startswith("visual.")
    }
