"""An exact index without FAISS, for where only numpy is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fade.views import Metric

QUERY_ROWS = 1024
"""Query patches in one matrix product: enough for full speed, few enough to stay in the cache."""
BANK_ROWS = 4096
"""Vectors that are held around another origin at a time."""


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

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Inner products, or squared distances, and positions of the nearest vectors.

        Args:
            queries: (q, dim) float32.
            k: how many; at most as many as there are.

        Returns:
            (q, k) float32 and (q, k) integers, the nearest first.
        """
        if self._metric == "euclidean":
            return self._nearest_by_length(queries, k)
        found = np.empty((len(queries), k), np.float32)
        labels = np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), QUERY_ROWS):
            rows = slice(start, start + QUERY_ROWS)
            labels[rows], found[rows] = _highest(queries[rows] @ self.vectors.T, k)
        return found, labels

    def _nearest_by_length(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances and positions: of the differences, as products of long vectors lose near
        ones. Products around the queries' mean tell which are near.
        """
        middle = queries.mean(axis=0)
        centred = queries - middle
        ranks = np.full((len(queries), k), -np.inf, np.float32)
        labels = np.zeros((len(queries), k), np.int64)
        for first in range(0, self.ntotal, BANK_ROWS):
            near = self.vectors[first : first + BANK_ROWS] - middle
            halves = np.float32(0.5) * np.einsum("ij,ij->i", near, near)
            for start in range(0, len(queries), QUERY_ROWS):
                rows = slice(start, start + QUERY_ROWS)
                products = centred[rows] @ near.T
                products -= halves
                places, values = _highest(products, min(k, len(near)))
                both = np.concatenate([ranks[rows], values], axis=1)
                which = np.concatenate([labels[rows], first + places], axis=1)
                best, ranks[rows] = _highest(both, k)
                labels[rows] = np.take_along_axis(which, best, axis=1)
        squares = np.empty((len(queries), k), np.float32)
        for start in range(0, len(queries), QUERY_ROWS):
            rows = slice(start, start + QUERY_ROWS)
            for column, chosen in enumerate(labels[rows].T):
                difference = queries[rows] - self.vectors[chosen]
                squares[rows, column] = np.einsum("ij,ij->i", difference, difference)
        order = np.argsort(squares, axis=1, kind="stable")
        return np.take_along_axis(squares, order, 1), np.take_along_axis(labels, order, 1)


def _highest(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and values, each (q, k), of the highest ones of each row, the highest first."""
    if k == 1:
        best = values.argmax(axis=1)[:, None]
        return best, np.take_along_axis(values, best, axis=1)
    best = np.argpartition(values, -k, axis=1)[:, -k:]
    found = np.take_along_axis(values, best, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(found, order, axis=1)
