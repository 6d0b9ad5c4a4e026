"""What transformers and convolutional networks of timm share: pixels in, precision, address."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np

from fade.aspect import Shape
from fade.device import torch_dtype
from fade.encoders.protocol import Output, checked_grid, checked_pixels
from fade.types import Precision
from fade.weights import digest_state, write_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

VERSION = 1
"""Raised by hand when the code of this package gives other numbers; part of every address."""


class Tower(ABC):
    """A timm model on a device, in float32, with what its images need.

    Attributes:
        name: what people chose it by.
        mean, std: of the channels, after pixels are divided by 255.
        digest: hash of weights, architecture, mean and standard deviation.
        precision: of matrix products or convolutions; the rest stays in float32.
        config: what timm builds the network from, as its config.json has it.
        cpu_pixels: see :class:`~fade.encoders.protocol.VisionEncoder`.
    """

    kind: ClassVar[str]
    cpu_pixels: int

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        precision: Precision = "fp32",
        device: str = "cpu",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        import torch

        model.eval().requires_grad_(False)
        self.name, self.mean, self.std = name, mean, std
        self.precision, self.device = precision, device
        self.config = dict(config or {})
        text = f"{digest_state(model.state_dict().items())} {_architecture(model)} {mean} {std}"
        self.digest = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
        self._dtype = torch_dtype(precision)
        self._model: Any = model.to(device)
        self._mean, self._std = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std)
        )
        self._adopt()

    @abstractmethod
    def _adopt(self) -> None:
        """Take from the model what its kind needs, and prepare it; the end of every construction."""

    @abstractmethod
    def stride(self, output: Output) -> int:
        """Pixels a side of one cell of an output's grid."""

    @abstractmethod
    def tensors(self, images: Tensor, outputs: Collection[Output]) -> dict[Output, Tensor]:
        """The outputs of normalized images, (B, 3, H, W) float32; see :meth:`encode`."""

    @abstractmethod
    def _layers_of(self, output: Output) -> dict[str, Any]:
        """What an address says of an output's layers."""

    def describe(self, output: Output, pixels: Shape) -> dict[str, Any]:
        """All that an output's numbers depend on, besides the image."""
        return {
            "kind": self.kind,
            "version": VERSION,
            "weights": self.digest,
            "precision": self.precision,
            "grid": list(self.grid(pixels, output)),
            **self._layers_of(output),
            "token": output.token,
        }

    def encode(self, pixels: np.ndarray, outputs: Collection[Output]) -> dict[Output, np.ndarray]:
        """Raw features of a batch; class and register tokens are left out of the patches.

        Args:
            pixels: (B, H, W, 3) uint8 RGB, H and W multiples of the strides asked for.
            outputs: what is wanted; layers behind the last one are not computed.

        Returns:
            For each output float32, (B, rows, columns, dim) for patches, (B, dim) for ``cls``.

        Raises:
            ParameterError: other shapes or types of pixels.
        """
        import torch

        with torch.inference_mode():
            images = self._images(pixels)
            for output in outputs:
                self.grid((images.shape[2], images.shape[3]), output)
            found = self.tensors(images, outputs)
            return {output: tensor.cpu().numpy() for output, tensor in found.items()}

    def grid(self, pixels: Shape, output: Output) -> Shape:
        """(rows, columns) of an output for images of (height, width) pixels.

        Raises:
            ParameterError: a side is no multiple of the output's stride.
        """
        return checked_grid(pixels, self.stride(output), self.name)

    @property
    def network(self) -> nn.Module:
        """What encodes: the model of timm."""
        found: nn.Module = self._model
        return found

    def save_weights(self, file: BinaryIO) -> None:
        """Write the weights as the bytes of a safetensors file, as they are in ``precision``."""
        write_weights(self._model.state_dict(), file)

    def _images(self, pixels: np.ndarray) -> Tensor:
        """(B, 3, H, W) float32 on the device, normalized by mean and standard deviation."""
        import torch

        images = torch.from_numpy(checked_pixels(pixels)).to(self.device)
        images = images.permute(0, 3, 1, 2).float().div_(255)
        return images.sub_(self._mean).div_(self._std)


def _architecture(model: nn.Module) -> list[str]:
    """Kinds and settings of all modules: weights alone do not say how many heads there are."""
    return [
        f"{name} {type(module).__name__} {module.extra_repr()} {getattr(module, 'num_heads', '')}"
        for name, module in model.named_modules()
    ]
