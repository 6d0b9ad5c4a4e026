"""Embeddings on their way from the device that computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fade.types import Stream, Token

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Encoding:
    """Embeddings of a batch that a GPU may still be computing, on their way to main memory.

    Attributes:
        tensors: by (stream, token), in main memory.
        arrival: of the last of them; None if they are there.
    """

    tensors: dict[tuple[Stream, Token], Tensor]
    arrival: torch.cuda.Event | None

    def arrays(self) -> dict[tuple[Stream, Token], np.ndarray]:
        """The embeddings, once they are there; other threads go on meanwhile."""
        if self.arrival is not None:
            self.arrival.synchronize()
        return {output: tensor.numpy() for output, tensor in self.tensors.items()}
