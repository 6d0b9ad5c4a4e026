"""Exact search on a GPU: what :mod:`fade.bank` does on a CPU.

Its functions have the names that they have there, and take tensors that lie on the device.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fade import bank as cpu
from fade import faiss_index

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 8
"""Number of indexes, one a size, whose vectors stay on the device."""
_COPYING = threading.Lock()
"""Held while an index is copied: threads that need the same one would each copy it."""
QUERY_ROWS = 4096
BANK_COLUMNS = 1 << 15
"""Bank vectors of one matrix product: half a gigabyte of cosines at a time, enough for full speed."""


def to_device(vectors: np.ndarray, device: str) -> Tensor:
    """Float32 vectors on a device.

    Examples:
        >>> to_device(np.ones((2, 3), np.float32), "cpu").device.type
        'cpu'
    """
    import torch

    return torch.tensor(vectors, device=device)


@lru_cache(maxsize=KEPT)
def _kept(index: Any, device: str) -> Tensor:
    return to_device(faiss_index.index_vectors(index), device)


def index_vectors(index: Any, device: str) -> Tensor:
    """The (n, dim) float32 vectors of a flat index on a device; the last few are kept there.

    Examples:
        >>> from fade.faiss_index import build_index
        >>> index_vectors(build_index(np.eye(2, dtype=np.float32)), "cpu").tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    with _COPYING:
        return _kept(index, device)


def similarity_to_references(queries: Tensor, bank: Tensor, patches: int) -> np.ndarray:
    """Cosine of each query patch to its nearest patch in each reference image; exact.

    Args:
        queries: (q, dim) float32.
        bank: (references x patches, dim) float32, one reference after the other.
        patches: of one reference.

    Returns:
        (references, q) float32, in main memory.

    Raises:
        DataError: the bank holds no whole references.
    """
    import torch

    cpu.count_references(bank, patches)
    group = max(1, BANK_COLUMNS // patches) * patches
    with torch.inference_mode():
        best = [
            torch.cat(
                [
                    (block @ part.T).unflatten(1, (-1, patches)).amax(dim=2)
                    for block in queries.split(QUERY_ROWS)
                ]
            )
            for part in bank.split(group)
        ]
        return torch.cat(best, dim=1).T.contiguous().cpu().numpy()


def similarity_to_others(queries: Tensor) -> np.ndarray:
    """Cosine of each patch of an image to the nearest other patch, itself told by its position.

    Args:
        queries: (q, dim) float32.

    Returns:
        (q,) float32, in main memory.

    Raises:
        ParameterError: the image is a single patch.
    """
    import torch

    cpu.check_others(len(queries))
    best = []
    with torch.inference_mode():
        for start in range(0, len(queries), QUERY_ROWS):
            products = queries[start : start + QUERY_ROWS] @ queries.T
            products.diagonal(offset=start).fill_(-torch.inf)
            best.append(products.amax(dim=1))
        return torch.cat(best).cpu().numpy()
