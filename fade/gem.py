"""Grounding Everything: self-self attention beside an unchanged CLIP vision block.

Source: Bousselham et al., "Grounding Everything: Emerging Localization Properties in
Vision-Language Transformers", CVPR 2024, arXiv 2312.00878, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fade.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor


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

    batch = value.shape[0]
    # The three attentions do not depend on each other: one call over a batch three times as large.
    tokens = F.normalize(torch.cat([value, key, query]), dim=-1)
    scale = factor.to(value.dtype).repeat(3, 1, 1, 1)
    for _ in range(iterations):
        mixed = F.scaled_dot_product_attention(tokens * scale, tokens, tokens, scale=1.0)
        tokens = F.normalize(mixed, dim=-1)
    gathered = F.scaled_dot_product_attention(
        tokens * scale, tokens, value.repeat(3, 1, 1, 1), scale=1.0
    )
    return gathered.view(3, batch, *value.shape[1:]).mean(dim=0)
