"""Batch norms folded into the convolutions before them: one pass over each map less.

At inference a batch norm is one factor and one summand for each channel, which its convolution can take
over (Jacob et al., CVPR 2018, arXiv 1712.05877, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fade.device import whole_float32

if TYPE_CHECKING:
    from torch import nn

PIXELS = 64
"""Size of the image of noise on which a folded network must agree."""
AGREE = 1e-4
"""Largest difference of a level, as a share of its largest value."""


def folded(model: nn.Module) -> nn.Module:
    """The network with its batch norms folded, where that gives the same feature levels.

    That a batch norm stands behind a convolution does not say that it alone reads it. Therefore both
    networks are compared on an image of noise, and the given one is returned where they differ.

    Args:
        model: a network of timm in float32 with ``forward_intermediates``, in evaluation mode.

    Returns:
        A copy that shares all tensors but the folded ones, or ``model`` itself: also where there is
        nothing to fold, and for networks of one fixed size.

    Examples:
        >>> import timm
        >>> network = timm.create_model("test_resnet").eval()
        >>> type(network.bn1).__name__, type(folded(network).bn1).__name__
        ('BatchNorm2d', 'Identity')
    """
    fixed = (getattr(model, "pretrained_cfg", None) or {}).get("fixed_input_size", False)
    if fixed or not any(True for _ in _pairs(model)):
        return model
    shared = [*model.parameters(), *model.buffers()]
    found = deepcopy(model, {id(tensor): tensor for tensor in shared})
    for conv, parent, norm in list(_pairs(found)):
        _fold(conv, parent, norm)
    return found if _agree(model, found) else model


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module, str]]:
    """Neighbours: a convolution, the parent of a batch norm of its channels, and the norm's name."""
    from timm.layers import BatchNormAct2d, Conv2dSame
    from torch import nn

    for parent in model.modules():
        for (_, first), (name, norm) in pairwise(parent.named_children()):
            conv: Any = first
            while isinstance(conv, nn.Sequential) and len(conv):
                conv = conv[-1]
            if (
                type(conv) in (nn.Conv2d, Conv2dSame)
                and type(norm) in (nn.BatchNorm2d, BatchNormAct2d)
                and norm.track_running_stats
                and norm.num_features == conv.out_channels
            ):
                yield conv, parent, name


def _fold(conv: Any, parent: nn.Module, name: str) -> None:
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    norm: Any = getattr(parent, name)
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    conv.requires_grad_(False)
    activated = hasattr(norm, "act")
    setattr(parent, name, nn.Sequential(norm.drop, norm.act) if activated else nn.Identity())


def _agree(model: Any, other: Any) -> bool:
    """Whether all feature levels of an image of noise are the same, but for rounding."""
    import torch

    device = next(model.parameters()).device
    noise = torch.rand(1, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), whole_float32(device.type):
        levels = [
            network.forward_intermediates((2 * noise - 1).to(device), intermediates_only=True)
            for network in (model, other)
        ]
    return all(
        bool((one - two).abs().max() <= AGREE * one.abs().max())
        for one, two in zip(*levels, strict=True)
    )
