"""Networks for vision as ONNX: the graph's numbers are the network's, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from fade.encoders.load import load_vision_encoder
from fade.encoders.protocol import Output
from fade.errors import ModelError
from fade.portable.builder import WeightsFile
from fade.portable.network_graph import network_graph
from fade.portable.numbers import Numbers
from fade.portable.session import GraphSession
from tests.fade.encoders.models import SMALL, save_model

REGISTERS = "vit_small_patch14_reg4_dinov2"
LAYERS = [Output((1,)), Output((1, 3), norm=True), Output((3,), norm=True, token="cls")]


def loaded(folder: Path, architecture: str, **settings: Any) -> Any:
    save_model(folder, architecture, **settings)
    return load_vision_encoder(f"local-dir:{folder}")


def differences(encoder: Any, outputs: list[Output], numbers: Numbers = "fp32") -> list[float]:
    """Of each output the largest one, relative to the length of its vector."""
    cell = max(map(encoder.stride, outputs))
    shape = (1, 84 // cell * cell, 56 // cell * cell, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    store = WeightsFile()
    graph = network_graph(encoder, outputs, (shape[1], shape[2]), store, numbers)
    session = GraphSession(graph, store.joined())
    own = encoder.encode(pixels, outputs)
    found = session.run({"pixels": pixels}, [output.label for output in outputs])
    assert [one.shape for one in found] == [own[output].shape for output in outputs]
    return [
        float((np.abs(one - own[output]) / np.linalg.norm(own[output], axis=-1)[..., None]).max())
        for output, one in zip(outputs, found, strict=True)
    ]


@pytest.mark.parametrize(
    ("architecture", "settings", "outputs"),
    [
        (REGISTERS, {**SMALL, "img_size": 56, "qk_norm": True}, LAYERS),
        ("vit_small_patch16_dinov3", SMALL, LAYERS),  # rotary positions
        ("efficientnet_b0", {}, [Output((2,)), Output((1,)), Output((2,), token="cls")]),
        ("resnet10t", {"act_layer": "leaky_relu"}, [Output((1,)), Output((2,))]),
    ],
)
def test_a_graph_gives_the_networks_features(
    architecture: str, settings: dict[str, Any], outputs: list[Output], tmp_path: Path
) -> None:
    encoder = loaded(tmp_path, architecture, **settings)
    assert 0 < max(differences(encoder, outputs)) < 5e-6


def test_eight_bits_stay_near(tmp_path: Path) -> None:
    encoder = loaded(tmp_path, REGISTERS, **SMALL, img_size=56)
    assert 1e-5 < max(differences(encoder, LAYERS, "int8")) < 0.1


def test_an_unknown_operation_is_refused(tmp_path: Path) -> None:
    encoder = loaded(tmp_path, "resnet10t")
    encoder.network.act1 = nn.CELU()
    with pytest.raises(ModelError, match=r"the operation celu of local-dir:.* is not known here"):
        differences(encoder, [Output((1,))])


@pytest.mark.parametrize(
    ("architecture", "settings", "optimised"),
    [("vit_small_patch16_dinov3", SMALL, False), ("resnet10t", {}, True)],
)
def test_only_convolutional_networks_are_optimised(
    architecture: str, settings: dict[str, Any], optimised: bool, tmp_path: Path
) -> None:
    import onnxruntime

    encoder = loaded(tmp_path, architecture, **settings)
    store, pixels = WeightsFile(), (encoder.stride(Output((1,))) * 2,) * 2
    graph = network_graph(encoder, [Output((1,))], pixels, store)
    options = GraphSession(graph, store.joined())._session.get_session_options()
    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert (options.graph_optimization_level != level) == optimised
