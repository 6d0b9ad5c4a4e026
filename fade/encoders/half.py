"""Linear layers that compute in half precision inside a network that stays in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.encoder.linear import laid_out, linear

if TYPE_CHECKING:
    import torch
    from torch import nn


def halve_linear_layers(module: nn.Module, dtype: torch.dtype) -> None:
    """Let each linear layer of a module take its input and weights in ``dtype``, in place.

    What it returns is of ``dtype``, too: attention and activations follow, while sums with a float32
    residual stream and layer norms of it stay in float32.
    """
    from torch import nn

    class Half(nn.Linear):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return linear(tokens.to(dtype), self.weight, self.bias)

    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.to(dtype)
            layer.weight = nn.Parameter(laid_out(layer.weight.detach()), requires_grad=False)
            layer.__class__ = Half
