"""An exact index without FAISS, for where only numpy is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fade.views import Metric

QUERY_ROWS = 1024
"""Query patches in one matrix product: enough for full speed, few enough to stay in the cache."""


class FlatVectors:
    """Nearest vectors by comparing all of them, with the search of a FAISS index.

    Args:
        vectors: (n, dim) float32, of unit length for ``cosine``.
        metric: what nearness is.

    Attributes:
        ntotal, d: their number, and their width.

    Examples:
        >>> flat = FlatVectors(np.eye(3, dtype=np.float32))
        >>> products, positions = flat.search(np.array([[0.0, 0.75, 0.5]], np.float32), k=2)
        >>> products.tolist(), positions.tolist()
        ([[0.75, 0.5]], [[1, 2]])
    """

    def __init__(self, vectors: np.ndarray, metric: Metric = "cosine") -> None:
        self.vectors, self._metric = vectors, metric
        self.ntotal, self.d = vectors.shape
        self._halves = np.float32(0.5) * np.einsum("ij,ij->i", vectors, vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Inner products, or squared distances, and positions of the nearest vectors.

        Args:
            queries: (q, dim) float32.
            k: how many; at most as many as there are.

        Returns:
            (q, k) float32 and (q, k) integers, the nearest first.
        """
        found = np.empty((len(queries), k), np.float32)
        labels = np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), QUERY_ROWS):
            block = queries[start : start + QUERY_ROWS]
            rows = slice(start, start + len(block))
            nearness = block @ self.vectors.T
            if self._metric == "euclidean":
                nearness -= self._halves
            best = np.argpartition(-nearness, k - 1, axis=1)[:, :k]
            values = np.take_along_axis(nearness, best, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            labels[rows] = np.take_along_axis(best, order, axis=1)
            found[rows] = np.take_along_axis(values, order, axis=1)
            if self._metric == "euclidean":
                # of the few themselves: a difference of large numbers has few digits
                near = self.vectors[labels[rows]] - block[:, None]
                found[rows] = np.einsum("qkd,qkd->qk", near, near)
        return found, labels
