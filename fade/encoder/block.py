"""The blocks of a vision tower, with weights in the precision that they compute in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fade.encoder.linear import laid_out, linear

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


MLP_TOKENS = {"cpu": 1 << 10, "cuda": 1 << 16}
"""Tokens that go through an MLP at a time: enough for full speed, few enough to stay in a CPU's cache
or to leave room in a GPU's memory."""


@dataclass(frozen=True, slots=True)
class TransformerBlock:
    """The weights of one residual attention block, the large ones in the compute precision.

    Examples:
        >>> import torch
        >>> from open_clip.transformer import ResidualAttentionBlock
        >>> block = TransformerBlock.of(ResidualAttentionBlock(d_model=8, n_head=2), torch.float32)
        >>> query, key, value = block.project(torch.zeros(1, 5, 8))
        >>> query.shape, block.join(value).shape
        (torch.Size([1, 2, 5, 4]), torch.Size([1, 5, 8]))
    """

    ln_1: nn.Module
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    scale_1: nn.Module
    ln_2: nn.Module
    up: tuple[Tensor, Tensor]
    activation: nn.Module
    down: tuple[Tensor, Tensor]
    scale_2: nn.Module
    heads: int

    @classmethod
    def of(cls, block: Any, dtype: torch.dtype) -> TransformerBlock:
        """The weights of open_clip's residual attention block."""

        def pair(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            return laid_out(weight.detach().to(dtype)), bias.detach().to(dtype)

        attn, mlp = block.attn, block.mlp
        return cls(
            ln_1=block.ln_1,
            qkv=pair(attn.in_proj_weight, attn.in_proj_bias),
            out=pair(attn.out_proj.weight, attn.out_proj.bias),
            scale_1=block.ls_1,
            ln_2=block.ln_2,
            up=pair(mlp.c_fc.weight, mlp.c_fc.bias),
            activation=mlp.gelu,
            down=pair(mlp.c_proj.weight, mlp.c_proj.bias),
            scale_2=block.ls_2,
            heads=attn.num_heads,
        )

    def project(self, normed: Tensor) -> list[Tensor]:
        """Query, key and value of (B, N, C) tokens, each (B, heads, N, d)."""
        joint = linear(normed, *self.qkv)
        split = joint.unflatten(-1, (3, self.heads, normed.shape[-1] // self.heads))
        # attention is up to a tenth faster where the tokens of a head lie side by side
        return list(split.permute(2, 0, 3, 1, 4).contiguous())

    def join(self, heads: Tensor) -> Tensor:
        """Output projection of (B, heads, N, d), as a float32 update of the residual stream."""
        merged = heads.transpose(1, 2).flatten(2)
        return self.scale_1(linear(merged, *self.out).float())

    def feed_forward(self, stream: Tensor) -> Tensor:
        """The residual stream after the MLP, in place; its hidden layer exists for some tokens only."""
        tokens = stream.view(-1, stream.shape[-1])
        for part in tokens.split(MLP_TOKENS.get(tokens.device.type, MLP_TOKENS["cuda"])):
            hidden = self.activation(linear(self.ln_2(part).to(self.up[0].dtype), *self.up))
            part += self.scale_2(linear(hidden, *self.down).float())
        return stream
