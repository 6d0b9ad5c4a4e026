"""Weights without training: for tests, and to see a pipeline run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

SEEDED = "seeded"
"""``pretrained`` value for weights made from parameter names alone: for tests, means nothing."""


def seeded_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Float32 values that depend on a parameter's name and shape alone.

    For tests and for the demo without a trained model: features are well spread, no more.
    """
    import torch

    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    noise = torch.empty(shape)
    np.random.default_rng(seed).standard_normal(shape, dtype=np.float32, out=noise.numpy())
    is_norm_scale = name.endswith("weight") and any(
        part.startswith("ln_") for part in name.split(".")
    )
    if name == "logit_scale":
        noise.fill_(float(np.log(100.0)))
    elif is_norm_scale:
        noise = 1.0 + 0.05 * noise
    elif "positional_embedding" in name:
        noise *= 0.3 if name.startswith("visual") else 0.02
    elif len(shape) >= 2:
        fan_in = shape[0] if name.endswith("proj") else noise[0].numel()
        noise *= 0.05 if "token_embedding" in name else 0.9 * fan_in**-0.5
    else:
        noise *= 0.02
    return noise


def fill_seeded(model: nn.Module) -> None:
    """Give every floating-point entry of a model the values of :func:`seeded_weight`, in place."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(seeded_weight(name, tuple(tensor.shape)))


class SeededWeights(Mapping[str, "Tensor"]):
    """:func:`seeded_weight` of names and shapes, made anew each time that it is asked for."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes

    def __getitem__(self, name: str) -> Tensor:
        return seeded_weight(name, self._shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)
