"""Grounding Everything: self-self attention beside an unchanged CLIP vision block.

Source: Bousselham et al., "Grounding Everything: Emerging Localization Properties in
Vision-Language Transformers", CVPR 2024, arXiv 2312.00878, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fade.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

PANEL_ROWS = 256
"""Rows of an attention matrix that exist at a time, where attention is computed by panels."""
LARGEST_FACTOR = 60.0
"""Up to here ``exp(t)`` times any number of tokens is finite."""


@dataclass(frozen=True, slots=True)
class GemConfig:
    """How the GEM stream is computed.

    Attributes:
        depth: the stream runs through the last ``depth - 1`` blocks.
        iterations: how often tokens are replaced by their self-self attention before the values
            are gathered.
        temperature: the factor inside the softmax; None takes it from each image and block.
    """

    depth: int = 7
    iterations: int = 1
    temperature: float | None = None

    def first_block(self, layers: int) -> int:
        """Index of the block whose input the stream starts from, in a tower of ``layers``."""
        if not 2 <= self.depth <= layers + 1:
            raise ParameterError(
                f"model.gem.depth is {self.depth}, but this model's vision tower has {layers} "
                f"blocks: choose 2 to {layers + 1}"
            )
        return layers - (self.depth - 1)


def inverse_temperature(tokens: Tensor, head_dim: int) -> Tensor:
    """Softmax factor of each image: mean norm of its tokens over the root of the head's width.

    Args:
        tokens: (B, N, C), the layer-normed input of the block, cls included.
        head_dim: width of one attention head.

    Returns:
        (B, 1, 1, 1), float32.
    """
    norms = tokens.float().norm(dim=-1).mean(dim=1)
    return (norms * head_dim**-0.5)[:, None, None, None]


def self_self_attention(
    query: Tensor, key: Tensor, value: Tensor, factor: Tensor, iterations: int
) -> Tensor:
    """Mean over p in {value, key, query} of ``softmax(t p p^T) value``, p refined and unit length.

    Args:
        query: (B, H, N, d), as are ``key`` and ``value``: the projections of the block's
            layer-normed input.
        factor: (B, 1, 1, 1), the ``t`` of the formula.
        iterations: refinements ``p <- normalize(softmax(t p p^T) p)``.

    Returns:
        (B, H, N, d), to go through the block's output projection.
    """
    import torch
    from torch.nn import functional as F

    scale = factor.to(value.dtype)
    if not _by_panels(value) or float(factor.max()) > LARGEST_FACTOR:
        total = torch.zeros_like(value)
        for part in (value, key, query):
            tokens = F.normalize(part, dim=-1)
            for _ in range(iterations):
                mixed = F.scaled_dot_product_attention(tokens * scale, tokens, tokens, scale=1.0)
                tokens = F.normalize(mixed.contiguous(), dim=-1)
            total += F.scaled_dot_product_attention(tokens * scale, tokens, value, scale=1.0)
        return total.div_(3)
    gathered = torch.empty_like(value, memory_format=torch.contiguous_format)
    scales = scale.expand(*value.shape[:2], 1, 1).flatten(0, 1)
    for heads in _groups(value):
        parts = []
        for part in (value, key, query):
            tokens = F.normalize(part.flatten(0, 1)[heads].float(), dim=-1).to(value.dtype)
            for _ in range(iterations):
                tokens = _refine(tokens, tokens * scales[heads])
            parts.append((tokens * scales[heads], tokens))
        gathered.flatten(0, 1)[heads] = _gather(parts, value.flatten(0, 1)[heads]).div_(3)
    return gathered


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of (B, H, N, d) query, key and value; the attention matrix never exists."""
    import torch
    from torch.nn import functional as F

    if not _by_panels(value):
        return F.scaled_dot_product_attention(query, key, value)
    scaled = (query * query.shape[-1] ** -0.5).flatten(0, 1)
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    gathered = torch.empty_like(query, memory_format=torch.contiguous_format)
    for heads in _groups(value):
        gathered.flatten(0, 1)[heads] = _gather([(scaled[heads], keys[heads])], values[heads])
    return gathered


def _by_panels(value: Tensor) -> bool:
    """Whether to attend by panels of rows: torch's fused attention gains nothing from bf16 on CPU.

    It multiplies no faster there than in float32; plain products are more than twice as fast.
    """
    import torch

    return value.dtype == torch.bfloat16 and value.device.type == "cpu"


def _groups(value: Tensor) -> list[slice]:
    """The heads of all images in groups of one for each thread, so that panels stay in caches."""
    import torch

    heads, size = value.shape[0] * value.shape[1], torch.get_num_threads()
    return [slice(first, first + size) for first in range(0, heads, size)]


def _gather(parts: Sequence[tuple[Tensor, Tensor]], value: Tensor) -> Tensor:
    """``sum over (q, k) of softmax(q k^T) value`` of (G, N, d): one product with the values for all."""
    import torch

    rows = parts[0][0].shape[1]
    out = value.new_empty((len(value), rows, value.shape[-1]))
    for first in range(0, rows, PANEL_ROWS):
        panel = slice(first, first + PANEL_ROWS)
        weights: Tensor | None = None
        for query, key in parts:
            here = torch.bmm(query[:, panel], key.mT).softmax(dim=-1)
            weights = here if weights is None else weights.add_(here)
        if weights is not None:
            out[:, panel] = torch.bmm(weights, value)
    return out


def _refine(tokens: Tensor, scaled: Tensor) -> Tensor:
    """``normalize(exp(s s^T) tokens)`` of (G, N, d) unit tokens; ``scaled`` is t times tokens.

    The softmax's denominator is a factor of each row, which normalizing takes out, and the matrix
    is symmetric: only its upper half is computed.
    """
    import torch
    from torch.nn import functional as F

    rows = tokens.shape[1]
    out = torch.zeros(tokens.shape, dtype=torch.float32, device=tokens.device)
    for first in range(0, rows, PANEL_ROWS):
        last = min(first + PANEL_ROWS, rows)
        weights = torch.bmm(scaled[:, first:last], tokens[:, first:].mT).exp_()
        out[:, first:last] += torch.bmm(weights, tokens[:, first:])
        if last < rows:
            below = weights[:, :, last - first :].mT
            out[:, last:] += torch.bmm(below, tokens[:, first:last])
    return F.normalize(out, dim=-1).to(tokens.dtype)
