"""Vision transformers against timm's own forward pass."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fade.encoders.load import load_vision_encoder
from fade.encoders.timm_vit import TimmViT
from fade.errors import ParameterError
from tests.fade.encoders.models import SMALL, save_model

ARCHITECTURES = {
    "vit_small_patch14_dinov2": {"img_size": 56, **SMALL},
    "vit_small_patch14_reg4_dinov2": {"img_size": 56, **SMALL},
    "vit_small_patch16_dinov3": {"img_size": 64, **SMALL},
    "vit_base_patch16_siglip_224": {"img_size": 64, **SMALL},
    "deit3_small_patch16_224": {"img_size": 64, **SMALL},
    "eva02_tiny_patch14_224": {"img_size": 56, **SMALL},
    "vit_base_patch16_clip_224": {"img_size": 64, **SMALL},
}


def batch(height: int, width: int, images: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (images, height, width, 3), np.uint8)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    return ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def dinov3(tmp_path_factory: pytest.TempPathFactory) -> TimmViT:
    folder = tmp_path_factory.mktemp("dinov3")
    save_model(folder, "vit_small_patch16_dinov3", **ARCHITECTURES["vit_small_patch16_dinov3"])
    encoder = load_vision_encoder(f"local-dir:{folder}")
    assert isinstance(encoder, TimmViT)
    return encoder


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blocks_are_those_of_timm(architecture: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = ARCHITECTURES[architecture]
    model = save_model(tmp_path, architecture, **settings)
    encoder = load_vision_encoder(f"local-dir:{tmp_path}")
    normed = architecture != "eva02_tiny_patch14_224"  # which has no norm that patches go through
    side = encoder.stride(encoder.output([0]))
    for height, width in ((4 * side, 4 * side), (3 * side, 5 * side), (3 * side, 5 * side)):
        outputs = [encoder.output([1]), encoder.output([-1], norm=normed), encoder.output([0, 2])]
        found = encoder.encode(batch(height, width), outputs)
        with torch.inference_mode():
            raw = [
                one.permute(0, 2, 3, 1).numpy()
                for one in model.forward_intermediates(
                    normalised(batch(height, width)), intermediates_only=True
                )
            ]
            last = model.forward_intermediates(
                normalised(batch(height, width)), indices=[3], norm=normed, intermediates_only=True
            )[0].permute(0, 2, 3, 1)
        expected = [raw[1], last.numpy(), (raw[0] + raw[2]) / 2]
        for output, one in zip(outputs, expected, strict=True):
            assert found[output].shape == (2, *encoder.grid((height, width), output), 32)
            np.testing.assert_allclose(found[output], one, atol=1e-4)


class Operations(TorchDispatchMode):
    """Counts the operations that are computed, views of tensors left out."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not operation.is_view:
            self.counts[operation.overloadpacket.__name__] += 1
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "architecture", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"]
)
def test_nothing_is_computed_that_timm_does_not(architecture: str, tmp_path: Path) -> None:
    """So that it is never slower, on any machine; times are in the benchmark networks."""
    model = save_model(tmp_path, architecture, **ARCHITECTURES[architecture])
    encoder = load_vision_encoder(f"local-dir:{tmp_path}")
    assert isinstance(encoder, TimmViT)
    images = normalised(batch(*(2 * [4 * encoder.patch_size])))
    last = encoder.output([2], norm=True)
    with torch.no_grad():
        encoder.tensors(images, [last])  # positions are resampled once for each grid
        with Operations() as ours:
            found = encoder.tensors(images, [last])[last]
        with Operations() as timms:
            (expected,) = model.forward_intermediates(
                images, indices=[2], norm=True, stop_early=True, intermediates_only=True
            )
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), atol=1e-4)
    assert ours.counts["addmm"] == timms.counts["addmm"] > 0
    assert ours.counts <= timms.counts


def test_the_class_token_and_what_stands_for_it(tmp_path: Path) -> None:
    for architecture in ("vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224"):
        folder = tmp_path / architecture
        model = save_model(folder, architecture, **ARCHITECTURES[architecture])
        encoder = load_vision_encoder(f"local-dir:{folder}")
        output = encoder.output([-1], norm=True, token="cls")
        found = encoder.encode(batch(56 if "14" in architecture else 64, 112), [output])[output]
        with torch.inference_mode():
            tokens = model.forward_features(
                normalised(batch(56 if "14" in architecture else 64, 112))
            )
        expected = tokens[:, 0] if "dinov2" in architecture else tokens.mean(dim=1)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_blocks_behind_the_last_one_are_not_computed(dinov3: TimmViT) -> None:
    calls: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, index=index: calls.append(index))
        for index, block in enumerate(dinov3._model.blocks)
    ]
    dinov3.encode(batch(32, 32), [dinov3.output([1]), dinov3.output([0])])
    for hook in hooks:
        hook.remove()
    assert calls == [0, 1]


def test_positions_are_computed_once_for_each_grid(
    dinov3: TimmViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    dinov3.encode(batch(48, 80), [dinov3.output([0])])
    monkeypatch.setattr(dinov3._model.rope, "get_embed", None)
    dinov3.encode(batch(48, 80), [dinov3.output([0])])


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "eva02_tiny_patch14_224"]
)
def test_half_precision_stays_near(name: str, tmp_path: Path) -> None:
    save_model(tmp_path, name, **ARCHITECTURES[name])
    whole = load_vision_encoder(f"local-dir:{tmp_path}")
    half = load_vision_encoder(f"local-dir:{tmp_path}", precision="bf16")
    output = whole.output([-1], norm=not name.startswith("eva"))  # which has none
    pixels = batch(*([5 * whole.stride(output)] * 2))
    expected, found = (one.encode(pixels, [output])[output] for one in (whole, half))
    assert found.dtype == np.float32
    cosine = (expected * found).sum(-1) / np.linalg.norm(expected, axis=-1)
    cosine /= np.linalg.norm(found, axis=-1)
    assert cosine.min() > 0.99
    assert (found != expected).any()
    assert whole.digest == half.digest
    size = pixels.shape[1:3]
    assert whole.describe(output, size) != half.describe(output, size)


def test_tokens_that_fill_up_have_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    save_model(tmp_path, name, **ARCHITECTURES[name])
    half = load_vision_encoder(f"local-dir:{tmp_path}", precision="bf16")
    outputs = [half.output([-1], norm=True), half.output([1], token="cls")]
    pixels = batch(*([5 * half.stride(outputs[0])] * 2))
    filled = half.encode(pixels, outputs)
    monkeypatch.setattr("fade.encoders.timm_vit.FULL", 1)
    for output, expected in half.encode(pixels, outputs).items():
        assert filled[output].shape == expected.shape
        assert np.abs(filled[output] - expected).max() < 0.02 * np.abs(expected).max()


def test_addresses_tell_outputs_apart(dinov3: TimmViT) -> None:
    outputs = [
        dinov3.output([1]),
        dinov3.output([2]),
        dinov3.output([1, 2]),
        dinov3.output([2], norm=True),
        dinov3.output([2], token="cls"),
    ]
    addresses = {str(dinov3.describe(output, (64, 64))) for output in outputs}
    addresses |= {str(dinov3.describe(outputs[0], (64, 32)))}
    assert len(addresses) == 6 == len({output.label for output in outputs}) + 1


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([4], "block 4 is not in .* which has 4 blocks: choose 0 to 3"),
        ([-5], "block -5 is not"),
        ([], "at least one"),
        ([3, -1], "each once"),
    ],
)
def test_blocks_that_are_not_there(layers: list[int], reason: str, dinov3: TimmViT) -> None:
    with pytest.raises(ParameterError, match=reason):
        dinov3.output(layers)


def test_a_norm_that_is_not_there(tmp_path: Path) -> None:
    save_model(tmp_path, "eva02_tiny_patch14_224", **ARCHITECTURES["eva02_tiny_patch14_224"])
    encoder = load_vision_encoder(f"local-dir:{tmp_path}")
    with pytest.raises(ParameterError, match="no layer norm"):
        encoder.output([-1], norm=True)


@pytest.mark.parametrize(("height", "width"), [(40, 48), (48, 40), (8, 8)])
def test_sizes_that_are_no_whole_patches(height: int, width: int, dinov3: TimmViT) -> None:
    with pytest.raises(ParameterError, match="no multiple of 16"):
        dinov3.encode(batch(height, width), [dinov3.output([0])])


@pytest.mark.parametrize("pixels", [np.zeros((32, 32, 3), np.uint8), np.zeros((1, 32, 32, 3))])
def test_pixels_that_are_no_batch(pixels: np.ndarray, dinov3: TimmViT) -> None:
    with pytest.raises(ParameterError, match="images must be"):
        dinov3.encode(pixels, [dinov3.output([0])])
