"""Position embeddings of grids that a model was not made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.aspect import Shape

if TYPE_CHECKING:
    from torch import Tensor


def resample_positions(embedding: Tensor, native: int, grid: Shape) -> Tensor:
    """A tower's position embedding on a grid: bicubic, antialiased; the class token's stays.

    Args:
        embedding: (1 + native x native, width), the class token first.
        native: patches a side of the images that the tower was made for.
        grid: (rows, columns) of patches.

    Returns:
        (1 + rows x columns, width).

    Examples:
        >>> import torch
        >>> resample_positions(torch.zeros(1 + 7 * 7, 64), native=7, grid=(4, 10)).shape
        torch.Size([41, 64])
    """
    import torch
    from torch.nn import functional as F

    cls, patch = embedding.split([1, native * native])
    image = patch.T.reshape(1, -1, native, native)
    resized = F.interpolate(image, grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([cls, resized.flatten(2)[0].T])
