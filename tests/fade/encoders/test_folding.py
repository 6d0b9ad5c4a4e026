"""Batch norms in convolutions: the same levels by fewer operations, the same weights in files."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import nn

from fade.encoders.folding import folded
from fade.encoders.timm_cnn import TimmCNN
from fade.lean_import import timm_library

HALF = (0.5, 0.5, 0.5)


def network(architecture: str) -> Any:
    """A network whose batch norms change each channel in another way."""
    torch.manual_seed(0)
    model = timm_library().create_model(architecture).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def levels(model: Any) -> list[torch.Tensor]:
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found: list[torch.Tensor] = model.forward_intermediates(images, intermediates_only=True)
    return found


@pytest.mark.parametrize(
    "architecture",
    [
        "resnet10t",
        "tf_efficientnet_lite0",
        "mobilenetv3_small_050",
        "resnetv2_50d_evos",
        "test_resnet",
    ],
)
def test_levels_are_the_same(architecture: str) -> None:
    model = network(architecture)
    quick = folded(model)
    for one, other in zip(levels(model), levels(quick), strict=True):
        torch.testing.assert_close(other, one, atol=1e-5 * float(one.abs().max()), rtol=0)


@pytest.mark.parametrize("architecture", ["resnet10t", "tf_efficientnet_lite0"])
def test_every_norm_is_folded(architecture: str) -> None:
    model = network(architecture)
    before = norms(model)
    assert before > 10
    assert norms(folded(model)) == 0
    assert norms(model) == before


def test_nothing_to_fold() -> None:
    model = network("test_convnext")
    assert folded(model) is model
    encoder = TimmCNN(model, name="small", mean=HALF, std=HALF)
    assert "norms" not in encoder.describe(encoder.output([1]), (64, 64))


def test_a_convolution_that_others_read_keeps_its_norm() -> None:
    model = network("test_resnet")

    class Reader(type(model)):  # type: ignore[misc]
        def forward_intermediates(self, x: torch.Tensor, **settings: Any) -> Any:
            raw = self.conv1(x)
            return [self.bn1(raw) + raw]

    model.__class__ = Reader
    assert folded(model) is model


def test_other_kinds_of_convolution_keep_theirs() -> None:
    model = network("test_resnet")
    model.conv1[0].__class__ = type("Scaled", (nn.Conv2d,), {})
    assert norms(folded(model)) == 1


def test_written_weights_are_as_they_were() -> None:
    model = network("test_resnet")
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    encoder = TimmCNN(model, name="small", mean=HALF, std=HALF)
    assert norms(encoder.network) == 0
    assert encoder.describe(encoder.output([1]), (64, 64))["norms"] == "folded"
    file = io.BytesIO()
    encoder.save_weights(file)
    written = load(file.getvalue())
    assert set(written) == set(expected)
    for name, value in expected.items():
        assert torch.equal(written[name], value), name


def test_only_folded_tensors_are_new() -> None:
    model = network("test_resnet")
    kept = {id(tensor) for tensor in model.parameters()}
    new = [name for name, tensor in folded(model).named_parameters() if id(tensor) not in kept]
    assert new
    assert all("conv" in name or "downsample" in name for name in new)
