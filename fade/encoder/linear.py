"""Linear layers whose weights were laid out once as the processor multiplies with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.device import has_avx512_bf16

if TYPE_CHECKING:
    from torch import Tensor


def laid_out(weight: Tensor) -> Tensor:
    """A weight (out, in) in oneDNN's blocks where it is bf16 on an x86 CPU, else as it is.

    Otherwise each product lays it out again, which takes up to 40 % of its time. What :func:`linear`
    returns is the same bit for bit where tokens are contiguous.

    Examples:
        >>> import torch
        >>> laid_out(torch.ones(2, 3)).is_mkldnn  # float32 stays as it is
        False
    """
    import torch

    ours = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
    if not (ours and torch.backends.mkldnn.is_available() and has_avx512_bf16()):
        return weight
    with torch.no_grad():
        blocks: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return blocks


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``tokens weight^T + bias`` for a weight of :func:`laid_out`.

    Examples:
        >>> import torch
        >>> weight = laid_out(torch.ones(2, 3, dtype=torch.bfloat16))
        >>> linear(torch.ones(1, 3, dtype=torch.bfloat16), weight, torch.zeros(2, dtype=torch.bfloat16))
        tensor([[3., 3.]], dtype=torch.bfloat16)
    """
    import torch
    from torch.nn import functional as F

    if not weight.is_mkldnn:
        return F.linear(tokens, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, "none", [], "")
    return product
