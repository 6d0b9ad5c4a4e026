"""Convolutional networks against timm's own forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fade.encoders.load import load_vision_encoder
from fade.encoders.protocol import VisionEncoder
from fade.encoders.timm_cnn import TimmCNN
from fade.errors import ModelError, ParameterError
from tests.fade.encoders.models import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cnn")
    save_model(folder, "test_efficientnet")
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> VisionEncoder:
    return load_vision_encoder(f"local-dir:{folder}")


def batch(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)


def test_levels_are_those_of_timm(encoder: VisionEncoder, folder: Path) -> None:
    model = save_model(folder, "test_efficientnet")
    outputs = [encoder.output([level]) for level in (3, 1)]
    found = encoder.encode(batch(64, 96), outputs)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    images = ((torch.from_numpy(batch(64, 96)) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        levels = model.forward_intermediates(images, intermediates_only=True)
    for output in outputs:
        expected = levels[output.layers[0]].permute(0, 2, 3, 1).numpy()
        assert found[output].shape[1:3] == encoder.grid((64, 96), output)
        assert found[output].shape[3] == encoder.dim(output)
        np.testing.assert_allclose(found[output], expected, atol=1e-5)
    whole = encoder.output([3], token="cls")
    np.testing.assert_allclose(
        encoder.encode(batch(64, 96), [whole])[whole],
        levels[3].mean(dim=(2, 3)).numpy(),
        atol=1e-5,
    )


def test_float32_on_a_gpu_is_no_tf32(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its convolutions would keep 10 of 23 bits, at the address of the CPU's features."""
    encoder = load_vision_encoder(f"local-dir:{folder}")
    assert isinstance(encoder, TimmCNN)
    seen = []
    convolution = next(m for m in encoder.network.modules() if isinstance(m, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    for before in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
        for device in ("cpu", "cuda"):  # the images stay where they are
            monkeypatch.setattr(encoder, "device", device)
            encoder.tensors(torch.zeros(1, 3, 64, 64), [encoder.output([1])])
            assert torch.backends.cudnn.allow_tf32 == before
    assert seen == [True, False, False, False]


def test_half_precision_stays_near(encoder: VisionEncoder, folder: Path) -> None:
    half = load_vision_encoder(f"local-dir:{folder}", precision="bf16")
    output = encoder.output([2])
    expected, found = (one.encode(batch(64, 64), [output])[output] for one in (encoder, half))
    assert found.dtype == np.float32
    assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.999


def test_what_levels_cannot_do(encoder: VisionEncoder) -> None:
    with pytest.raises(ParameterError, match="cannot be averaged"):
        encoder.output([1, 2])
    with pytest.raises(ParameterError, match="no final layer norm"):
        encoder.output([1], norm=True)
    with pytest.raises(ParameterError, match=r"level 5 is not in .* has 5 levels"):
        encoder.output([5])
    with pytest.raises(ParameterError, match="no multiple of 16"):
        encoder.encode(batch(64, 72), [encoder.output([3])])
    assert encoder.encode(batch(64, 72), [encoder.output([2])])


@pytest.mark.parametrize("architecture", ["crossvit_9_240", "swin_tiny_patch4_window7_224"])
def test_networks_without_plain_patches(architecture: str) -> None:
    with pytest.raises(ModelError, match="choose"):
        load_vision_encoder(architecture)
