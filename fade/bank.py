"""Memory banks of normal patches: what goes into one, and exact distances of query patches to it.

Vectors are L2-normalised, so that inner products are cosines. The anomaly of a patch is
0.5 x (1 - cosine to its nearest normal patch): FADE (arXiv 2409.00556), section 3.3.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING

import numpy as np

from fade.errors import DataError, ParameterError
from fade.flat_vectors import QUERY_ROWS

if TYPE_CHECKING:
    import faiss

    from fade.views import Metric

WIDENED = 1 << 15
"""Values that are converted to float32 at a time: few enough to stay in the processor's cache."""


def normalized_float32(vectors: np.ndarray) -> np.ndarray:
    """Vectors of the last axis as float32; float16 ones are brought back to unit length.

    Examples:
        >>> normalized_float32(np.array([[0, 2]], np.float16)).tolist()
        [[0.0, 1.0]]
        >>> normalized_float32(np.array([[0, 2]], np.float32)).tolist()  # taken as it is
        [[0.0, 2.0]]
    """
    if vectors.dtype == np.float32:
        return np.ascontiguousarray(vectors)
    wide = (
        float16_to_float32(vectors) if vectors.dtype == np.float16 else vectors.astype(np.float32)
    )
    squares = np.einsum("...i,...i->...", wide, wide)  # no copy of squares
    if squares.max(initial=0) >= 2.0**32:  # infinity and NaN become such numbers: keep them
        wide = vectors.astype(np.float32)
        squares = np.einsum("...i,...i->...", wide, wide)
    wide /= np.sqrt(squares)[..., None]
    return wide


def float16_to_float32(halves: np.ndarray) -> np.ndarray:
    """Convert finite float16 to float32, to the bit, five times as fast as numpy's own conversion.

    Exponent and mantissa move by the 13 bits that the longer mantissa has more, which leaves the
    exponent 112 too small: a product with a power of two corrects that, subnormal numbers included. By
    pieces that stay in the cache.

    Examples:
        >>> float16_to_float32(np.array([0.5, -65504, 2**-24], np.float16)).tolist()
        [0.5, -65504.0, 5.960464477539063e-08]
    """
    out = np.empty(halves.shape, np.float32)
    source = np.ascontiguousarray(halves).view(np.int16).reshape(-1)
    numbers = out.reshape(-1)
    bits = numbers.view(np.int32)
    for start in range(0, len(source), WIDENED):
        piece = bits[start : start + WIDENED]
        piece[...] = source[start : start + WIDENED]
        piece <<= 13
        piece &= np.int32(-0x70000001)  # copies of the sign beside it
        numbers[start : start + WIDENED] *= np.float32(2.0**112)
    return out


def coreset(vectors: np.ndarray, fraction: float, metric: Metric = "cosine") -> np.ndarray:
    """Greedy k-centre choice of vectors that cover the rest (Roth et al., PatchCore, CVPR 2022).

    Starts from the vector nearest to the mean, so that it needs no random numbers.

    Args:
        vectors: (n, dim) float32, of unit length for ``cosine``.
        fraction: share to keep, over 0 and up to 1.
        metric: what nearness is.

    Returns:
        Ascending indices, at least one.

    Examples:
        >>> vectors = np.array([[0.0], [0.1], [0.2], [9.0]], np.float32)
        >>> coreset(vectors, fraction=0.5, metric="euclidean").tolist()
        [2, 3]
    """
    if not 0 < fraction <= 1:
        raise ParameterError(f"vision.coreset must be over 0 and at most 1, not {fraction}")
    count = max(1, round(fraction * len(vectors)))
    if count >= len(vectors):
        return np.arange(len(vectors))
    halves = np.float32(0)
    if metric == "euclidean":
        vectors = vectors - vectors.mean(axis=0)  # products of long vectors lose near ones
        halves = np.float32(0.5) * np.einsum("ij,ij->i", vectors, vectors)

    def nearness(centre: np.ndarray) -> np.ndarray:
        """Larger for nearer vectors: the cosine, or minus half of the squared distance."""
        products = vectors @ centre
        if metric == "euclidean":
            products -= halves + np.float32(0.5) * (centre @ centre)
        return np.asarray(products)

    chosen = [int(np.argmax(nearness(vectors.mean(axis=0))))]
    nearest = nearness(vectors[chosen[0]])
    while len(chosen) < count:
        chosen.append(int(np.argmin(nearest)))
        np.maximum(nearest, nearness(vectors[chosen[-1]]), out=nearest)
    return np.sort(np.array(chosen))


def similarity_to_references(queries: np.ndarray, bank: np.ndarray, patches: int) -> np.ndarray:
    """Cosine of each query patch to its nearest patch in each reference image; exact.

    Products are taken block by block, so that the whole similarity matrix never exists.

    Args:
        queries: (q, dim) float32.
        bank: (references x patches, dim) float32, one reference after the other.
        patches: of one reference.

    Returns:
        (references, q) float32.

    Raises:
        DataError: the bank holds no whole references.

    Examples:
        >>> bank = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float32)  # two references
        >>> similarity_to_references(np.array([[0, 1]], np.float32), bank, patches=2).tolist()
        [[1.0], [0.0]]
    """
    references = count_references(bank, patches)
    best = np.empty((references, len(queries)), np.float32)
    buffer = np.empty((min(QUERY_ROWS, len(queries)), patches), np.float32)
    # one reference at a time: the last digits of a product of several depend on which these are
    for number, reference in enumerate(bank.reshape(references, patches, -1)):
        for start in range(0, len(queries), QUERY_ROWS):
            block = queries[start : start + QUERY_ROWS]
            products = np.matmul(block, reference.T, out=buffer[: len(block)])
            products.max(axis=1, out=best[number, start : start + len(block)])
    return best


def count_references(bank: Sized, patches: int) -> int:
    """How many references of so many patches a bank of vectors holds.

    Raises:
        DataError: none, or a part of one.

    Examples:
        >>> count_references(np.zeros((6, 2)), patches=3)
        2
    """
    if not patches or len(bank) % patches or not len(bank):
        raise DataError(f"a bank of {len(bank)} vectors holds no references of {patches} patches")
    return len(bank) // patches


def similarity_to_others(queries: np.ndarray) -> np.ndarray:
    """Cosine of each patch of an image to the nearest other patch of that image.

    The patch itself is left out by its position, so that an equal patch elsewhere still counts.

    Args:
        queries: (q, dim) float32.

    Returns:
        (q,) float32.

    Raises:
        ParameterError: the image is a single patch, so that there is no other.
    """
    check_others(len(queries))
    best = np.empty(len(queries), np.float32)
    for start in range(0, len(queries), QUERY_ROWS):
        block = queries[start : start + QUERY_ROWS]
        products = block @ queries.T
        rows = np.arange(len(block))
        products[rows, start + rows] = -np.inf
        products.max(axis=1, out=best[start : start + len(block)])
    return best


def check_others(patches: int) -> None:
    """Refuse an image without other patches.

    Raises:
        ParameterError: it is a single patch.
    """
    if patches < 2:
        raise ParameterError(
            "an image of a single patch has no other patches to compare with: use larger "
            "features.segmentation_sizes or set vision.query_in_bank to false"
        )


def similarity_by_index(queries: np.ndarray, index: faiss.Index) -> np.ndarray:
    """Cosine of each query patch to the nearest patch that an index finds: (q,) float32.

    An approximate index may find none for a patch: that counts as cosine -1, the farthest.

    Examples:
        >>> from fade.faiss_index import build_index
        >>> index = build_index(np.eye(2, dtype=np.float32))
        >>> similarity_by_index(np.array([[0.5, 0.75]], np.float32), index).tolist()
        [0.75]
    """
    found, labels = index.search(queries, 1)
    return np.where(labels[:, 0] < 0, np.float32(-1), found[:, 0])


def anomaly(similarity: np.ndarray) -> np.ndarray:
    """0.5 x (1 - cosine), not below 0, where rounding would put equal vectors.

    Examples:
        >>> anomaly(np.array([1.0, 0.0, -1.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    return np.maximum(0.5 * (1 - similarity), 0).astype(np.float32)
