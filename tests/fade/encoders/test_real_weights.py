"""Real ImageNet weights from packages: they know what a photograph shows."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from fade.encoders.load import WEIGHT_PACKAGES, load_vision_encoder, weights_of_package
from fade.encoders.timm_cnn import TimmCNN

PALACE = 698
"""ImageNet's class of the photograph that scikit-learn brings along: a Chinese palace."""


@pytest.mark.parametrize("name", WEIGHT_PACKAGES)
def test_a_palace_is_a_palace(name: str) -> None:
    """Layers in another order, or pixels scaled otherwise, would show it as something else."""
    if find_spec(WEIGHT_PACKAGES[name].module) is None:
        assert not name.startswith("efficientnet-lite0"), "the extra dev brings it"
        pytest.skip(f"{name} is not installed")
    encoder = load_vision_encoder(f"package:{name}")
    assert isinstance(encoder, TimmCNN)
    square = Image.fromarray(load_sample_image("china.jpg")).crop((106, 0, 533, 427))
    pixels = np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC))[None]
    state = torch.load(weights_of_package(name), weights_only=True)
    with torch.inference_mode():
        pooled = encoder._model(encoder._images(pixels))
        classes = pooled @ state["_fc.weight"].T + state["_fc.bias"]
    assert int(classes.argmax()) == PALACE
    assert [encoder.strides[level] for level in (2, 3)] == [8, 16]
