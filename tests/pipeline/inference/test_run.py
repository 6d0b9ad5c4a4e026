"""A finished run that is opened from another folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.load import parse_params
from pipeline.inference.run import _anchored
from tests.stages.test_vision_encoder import vision_params


def test_files_of_models_lie_where_the_project_is(tmp_path: Path) -> None:
    """What names no file, as a model's name or a tag of its weights, stays as it is."""
    (tmp_path / "clip.pt").touch()
    given = parse_params(
        vision_params(
            model__name="own.json", model__pretrained="clip.pt",
            vision__encoder="local-dir:network", vision__encoder_weights="network/w.safetensors",
        )
    )  # fmt: skip
    found = _anchored(given, tmp_path)
    assert found.model.name == str(tmp_path / "own.json")
    assert found.model.pretrained == str(tmp_path / "clip.pt")
    assert found.vision.encoder == f"local-dir:{tmp_path / 'network'}"
    assert found.vision.encoder_weights == str(tmp_path / "network/w.safetensors")
    named = parse_params(vision_params(model__name="ViT-B-32", model__pretrained="openai"))
    assert _anchored(named, tmp_path) == named
