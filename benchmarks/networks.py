"""Networks of timm as encoders for vision, beside timm's own forward pass on the same threads."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import Machine
from benchmarks.process import process
from benchmarks.table import Row, alternate
from fade.encoder import Precision
from fade.encoders.timm_cnn import TimmCNN
from fade.encoders.timm_vit import TimmViT

TRANSFORMERS = ("vit_small_patch14_dinov2", "vit_base_patch14_dinov2")
SIZE, QUICK, CNN, CNN_SIZE, LEVELS = 518, 112, "tf_efficientnet_lite0", 256, (2, 3)
ENOUGH = 30.0
"""Seconds after which no further round is begun."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AGREE = {"fp32": 1e-4, "bf16": 0.1}
"""Largest difference beside timm's float32, as a share of the largest value."""
LARGE = (4096, 2048)
"""Pixels a side of images that are encoded in tiles."""
TILES = """
import numpy as np
from benchmarks.networks import vit
from pipeline.config.vision import VisionParams
from pipeline.features.patch_encoder import PatchEncoder
name = "vit_small_patch16_224"
about = {{"feature": "clip", "shots": [1], "seeds": [0]}}
vision = VisionParams(encoder=name, layers=[0], tile=28, overlap=1, **about)
encoder = PatchEncoder(vit(name, "fp32")[0], vision, "cpu")
pixels = np.random.default_rng(0).integers(0, 256, (1, {size}, {size}, 3), np.uint8)
found = encoder.encode(pixels, vision.features([{size}]))
print("held", pixels.nbytes + sum(array.nbytes for array in found.values()))
"""


def operations(encoder: TimmViT, size: int) -> float:
    """Multiply-adds x 2 of all blocks on one image."""
    width, tokens = encoder.dim(encoder.output([0])), (size // encoder.patch_size) ** 2 + 1
    return float(encoder.depth * (24 * tokens * width**2 + 4 * tokens**2 * width))


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    size = QUICK if quick else SIZE
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    rows = []
    for name in TRANSFORMERS[:1] if quick else TRANSFORMERS:
        expected: np.ndarray | None = None
        kinds: list[tuple[Precision, float, float]] = [("fp32", machine.matmul, 0.88)]
        if machine.has_bf16:
            kinds.append(("bf16", machine.matmul_bf16, 0.62))
        for precision, rate, least in kinds:
            encoder, plain = vit(name, precision)
            last = encoder.output([-1], norm=True)
            pair = alternate(
                lambda encoder=encoder, last=last: encoder.encode(pixels, [last])[last],  # type: ignore[misc]
                lambda plain=plain: plain(pixels),  # type: ignore[misc]
                2 if quick else 5,
                ENOUGH,
            )
            if expected is None:
                expected = pair.plain_output
            off = np.abs(pair.our_output - expected).max() / np.abs(expected).max()
            assert off < AGREE[precision], (name, precision, off)
            share = operations(encoder, size) / pair.ours / rate
            timms = share / pair.ratio
            rows.append(
                Row(
                    f"{name} at {size} in {precision}, beside timm", pair.ours, pair.plain,
                    f"{least:.0%} of matmul, not slower", share >= least and pair.ratio >= 1,
                    (share, f"{precision} matmul at {rate / 1e9:.0f} GFLOP/s, timm {timms:.0%}"),
                )
            )  # fmt: skip
    return [*rows, levels(quick), tiles(quick)]


def vit(name: str, precision: Precision) -> tuple[TimmViT, Callable[[np.ndarray], np.ndarray]]:
    """A transformer with seeded weights, and timm's own way from the same pixels to its last block."""
    import timm
    import torch

    torch.manual_seed(0)
    model: Any = timm.create_model(name, dynamic_img_size=True).eval()
    own = deepcopy(model)
    if precision == "bf16":
        own = own.bfloat16()

    def forward(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            images = _normalized(pixels).to(next(own.parameters()).dtype)
            found = own.forward_intermediates(
                images, indices=[len(own.blocks) - 1], norm=True, intermediates_only=True
            )
            return np.asarray(found[0].permute(0, 2, 3, 1).float().numpy())

    return TimmViT(model, name=name, mean=MEAN, std=STD, precision=precision), forward


def levels(quick: bool) -> Row:
    """Two levels of a convolutional network."""
    import timm
    import torch

    torch.manual_seed(0)
    model: Any = timm.create_model(CNN).eval()
    own = deepcopy(model)
    encoder = TimmCNN(model, name=CNN, mean=MEAN, std=STD)
    outputs = [encoder.output([level]) for level in LEVELS]
    shape = (2 if quick else 8, CNN_SIZE, CNN_SIZE, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def ours() -> list[np.ndarray]:
        found = encoder.encode(pixels, outputs)
        return [found[output] for output in outputs]

    def plain() -> list[np.ndarray]:
        with torch.inference_mode():
            found = own.forward_intermediates(
                _normalized(pixels), indices=list(LEVELS), intermediates_only=True, stop_early=True
            )
            return [level.permute(0, 2, 3, 1).numpy() for level in found]

    pair = alternate(ours, plain, 2 if quick else 9)
    for one, other in zip(pair.our_output, pair.plain_output, strict=True):
        assert np.abs(one - other).max() < 1e-4 * np.abs(other).max()
    named = " and ".join(map(str, LEVELS))
    return Row(
        f"{CNN} at {CNN_SIZE}, levels {named} of {len(pixels)} images, beside timm", pair.ours,
        pair.plain, "not slower", pair.ratio >= 1,
    )  # fmt: skip


def tiles(quick: bool) -> Row:
    """Memory of an image in tiles, besides its pixels and features, beside one of a quarter."""
    found = []
    for size in (896, 448) if quick else LARGE:
        said, run = process(Path(), TILES.format(size=size))
        held = int(said.partition("held ")[2].split()[0])
        found.append((size, (run.peak - held) / (1 << 20)))
    (large, ours), (small, plain) = found
    return Row(
        f"tiles, memory besides image and features, {large:,} pixels beside {small:,}", ours, plain,
        "1.1 x", ours <= 1.1 * plain, unit="MB",
    )  # fmt: skip


def _normalized(pixels: np.ndarray) -> Any:
    import torch

    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std
