"""What an encoder for vision alone refuses to hand on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fade.encoders.load import load_vision_encoder
from fade.errors import ModelError, ParameterError
from pipeline.config.load import parse_params
from pipeline.features.patch_encoder import PatchEncoder
from tests.projects import GOLDEN, changed, golden_params

TINY = f"local-dir:{GOLDEN / 'vision' / 'tiny-dinov2'}"
SIZE = 56


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.nan, ModelError, r"are NaN or infinite: check its weights \(vision\.encoder_weights\)"),
        (
            -np.inf,
            ModelError,
            r"are NaN or infinite: check its weights \(vision\.encoder_weights\)",
        ),
        (7e4, ParameterError, r"reach 7e\+04, which it cannot hold: set it to float32"),
    ],
)
def test_float16_is_blamed_for_what_float32_would_hold(
    value: float, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = golden_params("fewshot1_both_seed0", GOLDEN / "no-clip-is-loaded.pt")
    vision = parse_params(
        changed(
            given, vision__encoder=TINY, vision__layers=[0], features__segmentation_sizes=[SIZE]
        ),
        "test",
    ).vision
    network = load_vision_encoder(TINY)
    encode = network.encode

    def damaged(pixels: np.ndarray, outputs: Any) -> Any:
        found = encode(pixels, outputs)
        for rows in found.values():
            rows[0, ..., 0] = value
        return found

    monkeypatch.setattr(network, "encode", damaged)
    encoder, features = PatchEncoder(network, vision, "cpu"), vision.features([SIZE])
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    with pytest.raises(error, match=message):
        encoder.encode(images, features, "float16")
