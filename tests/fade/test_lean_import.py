"""open_clip and timm are imported without torch's compiler, and whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
"""


def test_the_compiler_stays_out() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, cwd=ROOT)
