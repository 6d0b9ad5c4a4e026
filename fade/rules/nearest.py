"""Distance of patches to the nearest normal ones: PatchCore, AnomalyDINO, SuperADD and FADE.

References stay apart, so that a sweep over shots and seeds compares each with each image once.
Sources: Roth et al., PatchCore, CVPR 2022, arXiv 2106.08265, equation 6; Damm et al., AnomalyDINO,
WACV 2025, arXiv 2405.14529, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fade.bank import count_references, similarity_to_references
from fade.errors import DataError, ParameterError
from fade.faiss_index import index_vectors, is_flat
from fade.flat_vectors import FlatVectors
from fade.views import Metric

PRODUCTS = 1 << 22
"""Distances that exist at a time: enough for full speed, 16 MB."""


def nearest_in_references(
    queries: np.ndarray, bank: np.ndarray, patches: int, *, k: int = 1, metric: Metric = "cosine"
) -> np.ndarray:
    """Distances of each patch to the ``k`` nearest patches of each reference; exact.

    Args:
        queries: (q, dim) float32; of unit length for ``cosine``.
        bank: (references x patches, dim) float32, one reference after the other.
        patches: of one reference, those of its transforms included.
        k: how many.
        metric: ``cosine`` is 1 - cosine, ``euclidean`` the length of the difference.

    Returns:
        (references, q, k) float32, ascending along the last axis.

    Raises:
        ParameterError: ``k`` is below 1 or over the patches of a reference.
        DataError: the bank holds no whole references.

    Examples:
        >>> bank = np.array([[0.0], [2.0], [10.0], [11.0]], np.float32)  # two references
        >>> queries = np.array([[3.0]], np.float32)
        >>> nearest_in_references(queries, bank, patches=2, k=2, metric="euclidean").tolist()
        [[[1.0, 3.0]], [[7.0, 8.0]]]
    """
    check_neighbours(k, patches)
    references = count_references(bank, patches)
    if metric == "cosine" and k == 1:
        similarity = similarity_to_references(queries, bank, patches)
        return np.maximum(1 - similarity, 0)[..., None]
    groups = bank.reshape(references, patches, bank.shape[1])
    middle = queries.mean(axis=0)
    return np.stack([_nearest(queries, _Group.of(one, middle, metric), k) for one in groups])


def check_neighbours(k: int, patches: int) -> None:
    """Refuse a number of neighbours that no reference has (ParameterError)."""
    if not 1 <= k <= patches:
        raise ParameterError(
            f"the nearest {k} of {patches} patches: choose 1 to {patches} neighbours"
        )


@dataclass(frozen=True)
class _Group:
    """Vectors to be found among, ready to be ranked.

    Attributes:
        vectors: (n, dim) as they are.
        middle: (dim,) what Euclidean ranks are taken from: products of long vectors lose near ones.
        near: (n, dim) the vectors from there; for ``cosine`` the vectors.
        halves: (n,) of the squares of their lengths; None for ``cosine``.
    """

    vectors: np.ndarray
    middle: np.ndarray
    near: np.ndarray
    halves: np.ndarray | None

    @classmethod
    def of(cls, vectors: np.ndarray, middle: np.ndarray, metric: Metric) -> _Group:
        if metric == "cosine":
            return cls(vectors, middle, vectors, None)
        near = vectors - middle
        return cls(vectors, middle, near, 0.5 * np.einsum("ij,ij->i", near, near))

    def ranks(self, queries: np.ndarray) -> np.ndarray:
        """(q, n) numbers that are higher for nearer vectors: the products, for ``cosine``."""
        if self.halves is None:
            return queries @ self.near.T
        ranks: np.ndarray = (queries - self.middle) @ self.near.T
        ranks -= self.halves
        return ranks

    def distances(self, queries: np.ndarray, ranks: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """(q, k) to the chosen vectors (q, k)."""
        if self.halves is None:
            return np.maximum(1 - np.take_along_axis(ranks, chosen, axis=1), 0)
        return _exact(queries, self.vectors, chosen)


def _nearest(queries: np.ndarray, group: _Group, k: int, *, others: bool = False) -> np.ndarray:
    """(q, k) ascending distances to one group; to the others of it where the queries are the group."""
    found = np.empty((len(queries), k), np.float32)
    rows = max(1, PRODUCTS // len(group.vectors))
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        ranks = group.ranks(block)
        if others:
            own = np.arange(len(block))
            ranks[own, start + own] = -np.inf
        best = ranks.argmax(axis=1)[:, None] if k == 1 else np.argpartition(ranks, -k)[:, -k:]
        found[start : start + rows] = np.sort(group.distances(block, ranks, best), axis=1)
    return found


def _exact(queries: np.ndarray, group: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Euclidean distances by the difference: a product of long vectors loses those of near ones."""
    found = np.empty(chosen.shape, np.float32)
    for column in range(chosen.shape[1]):
        difference = queries - group[chosen[:, column]]
        found[:, column] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return found


def nearest_others(queries: np.ndarray, *, k: int = 1, metric: Metric = "cosine") -> np.ndarray:
    """Distances of each patch of an image to the ``k`` nearest other patches of that image.

    The patch itself is left out by its position, so that an equal patch elsewhere still counts.

    Args:
        queries, k, metric: as in :func:`nearest_in_references`.

    Returns:
        (q, k) float32, ascending along the last axis.

    Raises:
        ParameterError: the image has fewer other patches.

    Examples:
        >>> import numpy as np
        >>> line = np.array([[0.0], [1.0], [3.0]], np.float32)
        >>> nearest_others(line, metric="euclidean").ravel().tolist()
        [1.0, 1.0, 2.0]
    """
    check_neighbours(k, len(queries) - 1)
    group = _Group.of(queries, queries.mean(axis=0), metric)
    return _nearest(queries, group, k, others=True)


def nearest_by_index(
    queries: np.ndarray, index: Any, *, k: int = 1, metric: Metric = "cosine"
) -> np.ndarray:
    """Distances of each patch to the ``k`` nearest vectors that a FAISS index finds.

    Args:
        queries, k, metric: as in :func:`nearest_in_references`; the metric is the index's.
        index: of :func:`fade.faiss_index.build_index`.

    Returns:
        (q, k) float32, ascending; neighbours that an approximate index does not find are infinitely
        far by ``euclidean`` and opposite by ``cosine``.

    Raises:
        ParameterError: the index holds fewer vectors.

    Examples:
        >>> from fade.faiss_index import build_index
        >>> index = build_index(np.eye(2, dtype=np.float32))
        >>> nearest_by_index(np.array([[0.0, 1.0]], np.float32), index, k=2).tolist()
        [[0.0, 1.0]]
    """
    check_neighbours(k, index.ntotal)
    if metric == "euclidean" and is_flat(index):  # FAISS takes products of the vectors as they are
        index = FlatVectors(index_vectors(index), metric)
    found, labels = index.search(queries, k)
    if metric == "cosine":
        distances = np.where(labels < 0, np.float32(2), np.maximum(1 - found, 0))
    else:
        squares = np.where(labels < 0, np.float32(np.inf), np.maximum(found, 0))
        distances = np.sqrt(squares)
    return np.sort(distances, axis=1).astype(np.float32)


def mean_of_nearest(distances: np.ndarray) -> np.ndarray:
    """The mean of the ``k`` smallest distances over all references: the score of each patch.

    Args:
        distances: (references, q, k) of :func:`nearest_in_references`, of a trial's references.

    Returns:
        (q,) float32.

    Examples:
        >>> mean_of_nearest(np.array([[[1.0, 3.0]], [[7.0, 8.0]]])).tolist()  # of 1, 3, 7 and 8
        [2.0]
    """
    k = distances.shape[2]
    together = distances.transpose(1, 0, 2).reshape(distances.shape[1], -1)
    if k == 1:
        return together.min(axis=1)
    return np.partition(together, k - 1, axis=1)[:, :k].mean(axis=1)


def nearest_in_place(
    queries: np.ndarray, bank: np.ndarray, radius: int, *, metric: Metric = "cosine"
) -> np.ndarray:
    """Distances to the nearest patch at about the same place: for objects that always lie alike.

    Args:
        queries: (rows, columns, dim) float32; of unit length for ``cosine``.
        bank: (references, copies, rows, columns, dim), copies being transforms of a reference.
        radius: patches may differ by so many rows and columns.
        metric: as in :func:`nearest_in_references`.

    Returns:
        (references, rows x columns) float32.

    Raises:
        ParameterError: a negative radius.
        DataError: grids differ, as those of turned rectangles do.

    Examples:
        >>> queries = np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32)  # one row of two patches
        >>> bank = np.ascontiguousarray(queries[None, None, :, ::-1])  # one reference, mirrored
        >>> nearest_in_place(queries, bank, radius=0).tolist()
        [[1.0, 1.0]]
        >>> nearest_in_place(queries, bank, radius=1).tolist()
        [[0.0, 0.0]]
    """
    if radius < 0:
        raise ParameterError(f"patches within {radius} cells: a radius is 0 or more")
    rows, columns, dim = queries.shape
    references, copies = bank.shape[:2]
    if bank.shape[2:] != queries.shape:
        raise DataError(
            f"patches of {rows} x {columns} are compared by place with {bank.shape[2]} x "
            f"{bank.shape[3]}: all grids must be the same"
        )
    found = np.empty((references, rows, columns), np.float32)
    column, middle = np.arange(columns), queries.mean(axis=(0, 1))
    apart = np.abs(column[:, None] - column[None]) > radius
    for row in range(rows):
        near = bank[:, :, max(0, row - radius) : row + radius + 1]
        height = near.shape[2]
        for number, vectors in enumerate(near):
            group = _Group.of(vectors.reshape(-1, dim), middle, metric)
            ranks = group.ranks(queries[row])
            ranks.reshape(columns, copies * height, columns)[
                np.broadcast_to(apart[:, None], (columns, copies * height, columns))
            ] = -np.inf
            chosen = ranks.argmax(axis=1)[:, None]
            found[number, row] = group.distances(queries[row], ranks, chosen)[:, 0]
    return found.reshape(references, -1)
