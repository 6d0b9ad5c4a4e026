"""What exported models have in common: images as they come, and layers in the numbers asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fade.portable.builder import GraphBuilder
from fade.portable.check import SEVEN_BITS
from fade.portable.numbers import Numbers

SHORTEST = 1e-12
"""Least length that vectors are divided by, as torch's ``normalize`` does."""


def array(tensor: Any) -> np.ndarray:
    """A tensor's numbers in float32."""
    return np.asarray(tensor.detach().float().cpu().numpy())


def normalized_images(graph: GraphBuilder, mean: Sequence[float], std: Sequence[float]) -> str:
    """(B, 3, H, W) float32 of the input ``pixels``, (B, H, W, 3) uint8."""
    images = graph.op("Transpose", graph.op("Cast", "pixels", to=1), perm=[0, 3, 1, 2])
    images = graph.op("Div", images, graph.constant(np.float32(255)))
    for kind, values in (("Sub", mean), ("Div", std)):
        channels = np.array(values, np.float32).reshape(3, 1, 1)
        images = graph.op(kind, images, graph.constant(channels))
    return str(images)


def linear(graph: GraphBuilder, tokens: str, weight: Any, bias: Any, numbers: Numbers) -> str:
    """A linear layer; ``weight`` is (out, in), ``bias`` may be None.

    With ``int8`` tokens are rounded to 0..255 and weights to -64..64, seven bits, with a scale for each
    output: so products are the same on every processor (:data:`fade.portable.check.SEVEN_BITS`).
    """
    matrix = np.ascontiguousarray(array(weight).T)
    if numbers == "fp32":
        product = graph.op("MatMul", tokens, graph.constant(matrix))
    else:
        scale = np.maximum(np.abs(matrix).max(axis=0), SHORTEST) / np.float32(SEVEN_BITS)
        whole = np.rint(matrix / scale).clip(-SEVEN_BITS, SEVEN_BITS).astype(np.int8)
        short, step, zero = graph.op("DynamicQuantizeLinear", tokens, outputs=3)
        product = graph.op("MatMulInteger", short, graph.constant(whole), zero)
        step = graph.op("Mul", step, graph.constant(scale.astype(np.float32)))
        product = graph.op("Mul", graph.op("Cast", product, to=1), step)
    return product if bias is None else str(graph.op("Add", product, graph.constant(array(bias))))
