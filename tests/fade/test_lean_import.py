"""open_clip and timm come whole, without torch's compiler; networks are built without numbers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fade.encoders.checkpoint import is_filled_by_weights
from fade.unfilled import unfilled
from tests.imports import ROOT

pytest.importorskip("torch")
CODE = """
import sys, torch
from fade.lean_import import open_clip_library, timm_library
marking = torch.compiler.disable
assert timm_library().create_model("resnet10t", num_classes=0).num_features == 512
assert open_clip_library().timm_model.timm is not None
import torchvision.ops
boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
assert torchvision.ops.roi_align(torch.ones(1, 3, 8, 8), boxes, 2).shape == (1, 3, 2, 2)
assert not any(name.startswith("torch._dynamo") for name in sys.modules)
assert torch.compiler.disable is marking
from fade.unfilled import unfilled
with unfilled():
    for name in ("vit_small_patch14_dinov2", "vit_small_patch16_dinov3", "resnet10t"):
        timm_library().create_model(name, num_classes=0)
assert "torch._dynamo" not in sys.modules
assert "sympy" not in sys.modules
"""


def test_the_compiler_stays_out() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, cwd=ROOT)


def test_networks_are_built_without_numbers() -> None:
    import torch
    from torch import nn

    with unfilled():
        linear = nn.Linear(3, 4)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        linear.weight.data.normal_()
        known = torch.ones(2, device="cpu").mul_(3).clamp_(max=2)
        layers = nn.Sequential(linear, nn.Conv2d(3, 4, 3), nn.LayerNorm(4))
    assert all(value.is_meta for value in layers.state_dict().values())
    assert known.tolist() == [2, 2]


def test_networks_with_other_numbers_than_weights_are_known() -> None:
    import torch
    from torch import nn

    assert is_filled_by_weights(nn.BatchNorm2d(3))
    layer = nn.Linear(2, 2)
    layer.register_buffer("scale", torch.ones(2), persistent=False)
    assert not is_filled_by_weights(nn.Sequential(layer))
    layer = nn.Linear(2, 2)
    layer.held = torch.ones(2)  # type: ignore[assignment]
    assert not is_filled_by_weights(layer)
