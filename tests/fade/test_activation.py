"""Weights are loaded into models with the activation that they were trained with, where that is known."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest

from fade.encoder import Encoder
from fade.encoder.activation import check_activation, trained_with
from fade.errors import ModelError
from fade.gem import GemConfig
from fade.lean_import import open_clip_library
from tests.fade.test_encoder import write_config


@pytest.mark.parametrize(
    ("file", "name", "expected"),
    [
        # OpenAI's weights, under names that people give them
        ("clip-ViT-B-32-openai.safetensors", "ViT-B-32", True),
        ("openai_vit_l14.pt", "ViT-L-14", True),
        ("openai.pt", "own.json", True),
        # open_clip's own names
        ("vit_b_32-quickgelu-laion400m_e32-46683a32.pt", "ViT-B-32", True),
        ("vit_b_32-laion2b_e16-af8dbd0c.pth", "ViT-B-32-quickgelu", False),
        ("b32_400m.pt", "own.json", True),
        # one tag, two activations: the architecture tells
        ("laion400m_e32.pt", "ViT-B-32", True),
        ("laion400m_e32.pt", "ViT-L-14", False),
        ("laion400m_e32.pt", "own.json", None),
        ("ViT-B-32_laion2b-s34b-b79k_finetuned.pt", "ViT-B-32-quickgelu", False),
        # folders of the hub's cache
        (
            "models--timm--vit_base_patch32_clip_224.openai/snapshots/a/w.safetensors",
            "ViT-B-32",
            True,
        ),
        ("models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K/snapshots/a/w.bin", "ViT-B-32", False),
        ("models--someone--else/snapshots/a/w.bin", "ViT-B-32", None),
        # names that tell nothing
        ("ViT-B-32.pt", "ViT-B-32", None),
        ("epoch_12.pt", "ViT-B-32", None),
        ("myopenaiish.pt", "ViT-B-32", None),
        ("meta.pt", "own.json", None),
    ],
)
def test_names_tell(tmp_path: Path, file: str, name: str, expected: bool | None) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    found = trained_with(str(path), name)
    assert (found and found[0]) == expected


@pytest.mark.parametrize("quick", [True, False])
def test_hashes_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    path = tmp_path / "renamed.pt"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    for url in (f"https://a/{digest}/ViT-B-32.pt", f"https://a/vit-tag-{digest[:8]}.pt"):
        known = {"url": url, "hf_hub": "", "quick_gelu": quick}
        registry = open_clip_library().pretrained._PRETRAINED
        monkeypatch.setitem(registry["ViT-B-32"], "laion2b_e16", known)
        assert trained_with(str(path), "ViT-B-32") == (
            quick, "by its hash it is open_clip's laion2b_e16"
        )  # fmt: skip
        path.write_bytes(b"weights")
    path.write_bytes(b"others")
    assert trained_with(str(path), "ViT-B-32") is None


def test_repositories_and_a_config_beside_tell(tmp_path: Path) -> None:
    found = trained_with("hf-hub:timm/vit_base_patch32_clip_224.openai", "ViT-B-32")
    assert found is not None
    assert found[0]
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"weights")
    for content, expected in (
        ({"model_cfg": {"quick_gelu": True}}, True),
        ({"model_cfg": {}}, False),
        ({"model_cfg": 3}, None),
        ([], None),
    ):
        (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
        told = trained_with(str(path), "ViT-B-32")
        assert (told and told[0]) == expected


def test_the_way_out() -> None:
    with pytest.raises(
        ModelError, match=r"trained with QuickGELU .* set model.name to ViT-B-32-quick"
    ):
        check_activation("hf-hub:timm/vit_base_patch32_clip_224.openai", "ViT-B-32", False)
    with pytest.raises(
        ModelError, match=r"trained without QuickGELU .* set model.name to ViT-B-32$"
    ):
        check_activation(
            "hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32-quickgelu", True
        )  # fmt: skip


def test_a_checkpoint_file_is_held_against_its_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = write_config(tmp_path, {})
    gem = GemConfig(2)
    model = Encoder.load(config, "seeded", gem=gem)
    for file in (
        "openai.safetensors",
        "mine.safetensors",
        Path(config).with_suffix(".safetensors").name,
    ):
        with (tmp_path / file).open("wb") as written:
            model.save_weights(written)
    with pytest.raises(ModelError, match='give a config file with "quick_gelu": true'):
        Encoder.load(config, str(tmp_path / "openai.safetensors"), gem=gem)
    with caplog.at_level(logging.INFO, "fade"):
        Encoder.load(config, str(Path(config).with_suffix(".safetensors")), gem=gem)
        assert "QuickGELU" not in caplog.text
        Encoder.load(config, str(tmp_path / "mine.safetensors"), gem=gem)
    assert "whether" in caplog.text
    assert "computes without it" in caplog.text
