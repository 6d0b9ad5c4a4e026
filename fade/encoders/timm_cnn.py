"""Convolutional networks of timm: feature levels, each with a grid of its own.

Source: Roth et al., PatchCore, CVPR 2022, arXiv 2106.08265, section 3.1.
"""

from __future__ import annotations

from collections.abc import Collection
from inspect import signature
from typing import TYPE_CHECKING, Any

from fade.device import whole_float32
from fade.encoders.folding import folded
from fade.encoders.protocol import Output, checked_layers
from fade.encoders.tower import Tower
from fade.errors import ModelError, ParameterError
from fade.types import Token

if TYPE_CHECKING:
    from torch import Tensor, nn


class TimmCNN(Tower):
    """A network of timm with ``forward_intermediates``: ResNet, EfficientNet, ConvNeXt and others.

    Level 0 is the finest; for most networks level n has cells of ``2 ** (n + 1)`` pixels.

    Attributes:
        depth: number of levels.
        strides: pixels a side of one cell of each level.

    Examples:
        >>> import numpy as np
        >>> import timm
        >>> network, half = timm.create_model("test_resnet"), (0.5, 0.5, 0.5)
        >>> encoder = TimmCNN(network, name="small", mean=half, std=half)
        >>> level, images = encoder.output([2]), np.zeros((1, 64, 32, 3), np.uint8)
        >>> encoder.stride(level), encoder.encode(images, [level])[level].shape
        (8, (1, 8, 4, 48))
    """

    kind = "timm-cnn"
    cpu_pixels = 2 << 16  # two images of 256

    def _adopt(self) -> None:
        import torch

        levels = _levels(self._model, self.name)
        self.strides = tuple(int(level["reduction"]) for level in levels)
        self._widths = tuple(int(level["num_chs"]) for level in levels)
        self.depth = len(levels)
        quick: Any = folded(self._model)
        self._folds = quick is not self._model
        self._model = self._model.to(self._dtype, memory_format=torch.channels_last)
        self._quick = quick.to(self._dtype, memory_format=torch.channels_last)

    @staticmethod
    def check(model: nn.Module, name: str) -> None:
        """Refuse models that give no feature levels (ModelError)."""
        _levels(model, name)

    def output(
        self, layers: Collection[int], *, norm: bool = False, token: Token = "patch"
    ) -> Output:
        """The output of one level.

        Raises:
            ParameterError: there is no such level, several are to be averaged, or a norm is asked for.
        """
        found = checked_layers(layers, self.depth, self.name, "level")
        if len(found) > 1:
            raise ParameterError(
                f"levels {list(found)} of {self.name} have grids of their own and cannot be averaged: "
                "set vision.layer_fusion to concat or apart"
            )
        if norm:
            raise ParameterError(f"{self.name} has no final layer norm: take levels without it")
        return Output(found, norm, token)

    def stride(self, output: Output) -> int:
        """Pixels a side of one cell of a level."""
        return self.strides[output.layers[0]]

    def dim(self, output: Output) -> int:
        """Channels of a level."""
        return self._widths[output.layers[0]]

    def _layers_of(self, output: Output) -> dict[str, Any]:
        folds = {"norms": "folded"} if self._folds else {}  # rounds otherwise
        return {"level": output.layers[0], **folds}

    @property
    def network(self) -> nn.Module:
        """What encodes: the model of timm with its batch norms folded into its convolutions."""
        found: nn.Module = self._quick
        return found

    def tensors(self, images: Tensor, outputs: Collection[Output]) -> dict[Output, Tensor]:
        """See :class:`Tower`; ``cls`` is the mean of the patches."""
        import torch

        levels = sorted({output.layers[0] for output in outputs})
        images = images.to(self._dtype, memory_format=torch.channels_last)
        with whole_float32(self.device):
            maps = self._quick.forward_intermediates(
                images, indices=levels, intermediates_only=True, stop_early=True
            )
        found = {}
        for output in outputs:
            level = maps[levels.index(output.layers[0])].float().permute(0, 2, 3, 1)
            whole = output.token == "cls"
            found[output] = level.mean(dim=(1, 2)) if whole else level.contiguous()
        return found


def _levels(model: Any, name: str) -> list[dict[str, Any]]:
    """What timm says of each level of a network, the finest first."""
    forward = getattr(model, "forward_intermediates", None)
    if forward is None or "stop_early" not in signature(forward).parameters:
        raise ModelError(
            f"vision.encoder: {name} ({type(model).__name__}) gives no feature levels: choose a "
            "network such as wide_resnet50_2.tv_in1k or tf_efficientnet_lite0.in1k"
        )
    info = model.feature_info
    return list(info.info if hasattr(info, "info") else info)
