"""Memory banks of normal patches: FAISS indexes, and exact distances of query patches to them.

Vectors are L2-normalised, so that inner products are cosines. The anomaly of a patch is
0.5 x (1 - cosine to its nearest normal patch): FADE (arXiv 2409.00556), section 3.3.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fade.errors import DataError, ParameterError, StoreError
from fade.files import atomic_write
from fade.flat_vectors import QUERY_ROWS, FlatVectors

if TYPE_CHECKING:
    import faiss

    from fade.views import Metric

FLAT = "flat"
SEAL = b"FADE bank"
"""Stands between an index and its checksum; FAISS reads no further than the index."""
DIGEST = 20
BANK_COLUMNS = 4096
WIDENED = 1 << 15
"""Values that are converted to float32 at a time: few enough to stay in the processor's cache."""
PROBED = 32
"""Least number of lists of an IVF index that a query searches; a long index searches one list in so many.
FAISS's own default, a single list, finds 6 or 7 of 10 neighbours (docs/performance.md)."""
MAX_LINKS = 1024
"""Largest number of HNSW links per vector (16 to 64 is usual); FAISS reserves memory for all of them."""
CANDIDATES = 128
"""Candidates of a search in an HNSW graph (``efSearch``). FAISS's 16 misses some neighbours."""


def normalized_float32(vectors: np.ndarray) -> np.ndarray:
    """Vectors of the last axis as float32; float16 ones are brought back to unit length."""
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


def build_index(vectors: np.ndarray, index: str = FLAT, metric: Metric = "cosine") -> faiss.Index:
    """An index over (n, dim) float32 vectors: of inner products, or of squared distances.

    Args:
        vectors: the patches; of unit length for ``cosine``.
        index: ``flat`` (exact) or a FAISS factory string such as ``IVF256,Flat``.
        metric: what nearness is.

    Raises:
        ParameterError: FAISS does not know the string or cannot train it on so few vectors.
    """
    import faiss

    if index == FLAT:
        flat = faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2
        built: faiss.Index = flat(vectors.shape[1])
        built.add(vectors)
    else:
        measured = _measured(metric)
        check_index(index, vectors.shape[1], len(vectors), metric)
        try:
            built = faiss.index_factory(vectors.shape[1], index, measured)
            built.train(vectors)
            built.add(vectors)
        except (RuntimeError, MemoryError) as error:
            raise ParameterError(
                f"vision.index {index!r} does not work on {len(vectors)} vectors of dimension "
                f"{vectors.shape[1]} ({_said(error)}): use 'flat' or another FAISS factory string"
            ) from None
        if built.metric_type != measured:
            kind = "inner products" if metric == "cosine" else "Euclidean distances"
            raise ParameterError(
                f"vision.index {index!r} does not measure {kind}: use 'flat' or another FAISS factory "
                "string"
            )
        if _changes_lengths(built):
            kind = "cosines" if metric == "cosine" else "distances between patches"
            raise ParameterError(
                f"vision.index {index!r} makes vectors shorter, so that what it measures are no "
                f"{kind}: leave PCA and other reductions out of the string"
            )
        _search_enough(built)
    return built


def check_index(
    index: str,
    dimension: int,
    vectors: int | None = None,
    metric: Metric = "cosine",
) -> None:
    """Refuse (ParameterError) a factory string that FAISS does not know; nothing is trained.

    Args:
        index, metric: see :func:`build_index`.
        dimension: of the vectors.
        vectors: how many there are to train it on; None: nothing is said of that.
    """
    import faiss

    if index == FLAT:
        return
    _check_numbers(index)
    try:
        built = faiss.index_factory(dimension, index, _measured(metric))
    except (RuntimeError, MemoryError) as error:
        raise ParameterError(
            f"vision.index {index!r} is no index of {dimension} dimensions that FAISS knows "
            f"({_said(error)}): use 'flat' or another FAISS factory string"
        ) from None
    if vectors is not None and (least := _least_vectors(built)) > vectors:
        raise ParameterError(
            f"vision.index {index!r} is trained on {least} vectors at least, and the bank holds "
            f"{vectors}: use 'flat', an index with fewer lists or centroids, or more references"
        )


def _said(error: Exception) -> str:
    """The end of what FAISS says of an error, in one line; of too little memory it says nothing."""
    return (str(error).strip().splitlines() or ["not enough memory"])[0][-160:]


def _measured(metric: Metric) -> int:
    """FAISS's number of a metric."""
    import faiss

    return int(faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2)


def _least_vectors(index: Any) -> int:
    """Fewest vectors that an index can be trained on: one for each of its lists and centroids."""
    import faiss

    if isinstance(index, faiss.IndexPreTransform | faiss.IndexRefine):
        inner = index.index if isinstance(index, faiss.IndexPreTransform) else index.base_index
        return _least_vectors(faiss.downcast_index(inner))
    lists = index.nlist if isinstance(index, faiss.IndexIVF) else 1
    return max(lists, index.pq.ksub if hasattr(index, "pq") else 1)


def _check_numbers(index: str) -> None:
    """Refuse lists and links with which FAISS finds nothing, ends the process or fills the memory."""
    for kind, number in re.findall(r"(IVF|HNSW)(\d+)", index):
        least, most, what = (2, MAX_LINKS, "links") if kind == "HNSW" else (1, 10**9, "lists")
        if not least <= int(number) <= most:
            raise ParameterError(
                f"vision.index {index!r} asks for {kind}{number}: {kind} takes {least} to {most:,} {what}"
            )


def _changes_lengths(index: faiss.Index) -> bool:
    """Whether vectors go through a transform that does not keep inner products."""
    import faiss

    if not isinstance(index, faiss.IndexPreTransform):
        return False
    steps: Any = index.chain
    chain = [faiss.downcast_VectorTransform(steps.at(i)) for i in range(steps.size())]
    return any(isinstance(step, faiss.PCAMatrix) or step.d_out < step.d_in for step in chain)


def _search_enough(index: faiss.Index) -> None:
    """Let an IVF index or a graph find nearly all neighbours; its file keeps the setting."""
    import faiss

    inverted = faiss.try_extract_index_ivf(index)
    if inverted is not None:
        inverted.nprobe = min(inverted.nlist, max(PROBED, inverted.nlist // PROBED))
    elif isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = CANDIDATES


def write_index(index: faiss.Index, path: Path) -> None:
    """Write a FAISS index file, its checksum behind it; nobody sees it half written.

    Raises:
        StoreError: there is no room for it.
    """
    import faiss

    try:
        with atomic_write(path) as part:
            faiss.write_index(index, str(part))
            with part.open("rb+") as file:
                digest = _digest(file, part.stat().st_size)
                file.seek(0, os.SEEK_END)
                file.write(SEAL + digest)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-160:]
        raise StoreError(f"the memory bank {path} cannot be written ({reason})") from None


def stored_digest(path: Path) -> bytes:
    """The checksum at the end of a file of :func:`write_index`; nothing if it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(-DIGEST, os.SEEK_END)
            return file.read()
    except OSError:
        return b""


def read_index(path: Path) -> faiss.Index:
    """Read what :func:`write_index` wrote.

    FAISS itself believes what a file says: a damaged one can take all memory, hang, or hold other
    numbers. So it sees only files whose checksum is right.

    Raises:
        StoreError: it is missing or damaged.
    """
    import faiss

    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size - len(SEAL) - DIGEST
            digest = _digest(file, size)
            if size < 0 or file.read() != SEAL + digest:
                raise ValueError("its checksum is another")
        return faiss.read_index(str(path))
    except (OSError, ValueError, RuntimeError, MemoryError):
        raise StoreError(
            f"the memory bank {path} is missing or damaged: run `fade run --force bank`"
        ) from None


def _digest(file: BinaryIO, size: int) -> bytes:
    """BLAKE2b of the next ``size`` bytes of a file."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.digest()


def index_vectors(index: faiss.Index | FlatVectors) -> np.ndarray:
    """The (n, dim) float32 vectors of a flat index, without a copy; valid while it lives."""
    if isinstance(index, FlatVectors):
        return index.vectors
    import faiss

    flat: Any = faiss.downcast_index(index)
    return faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)


def coreset(vectors: np.ndarray, fraction: float, metric: Metric = "cosine") -> np.ndarray:
    """Greedy k-centre choice of vectors that cover the rest (Roth et al., PatchCore, CVPR 2022).

    Starts from the vector nearest to the mean, so that it needs no random numbers.

    Args:
        vectors: (n, dim) float32, of unit length for ``cosine``.
        fraction: share to keep, over 0 and up to 1.
        metric: what nearness is.

    Returns:
        Ascending indices, at least one.
    """
    if not 0 < fraction <= 1:
        raise ParameterError(f"vision.coreset must be over 0 and at most 1, not {fraction}")
    count = max(1, round(fraction * len(vectors)))
    if count >= len(vectors):
        return np.arange(len(vectors))
    halves = (
        np.float32(0)
        if metric == "cosine"
        else np.float32(0.5) * np.einsum("ij,ij->i", vectors, vectors)
    )

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
    """
    references = count_references(bank, patches)
    best = np.empty((references, len(queries)), np.float32)
    group = max(1, BANK_COLUMNS // patches)
    columns = min(group, references) * patches
    buffer = np.empty((min(QUERY_ROWS, len(queries)), columns), np.float32)
    for first in range(0, references, group):
        last = min(first + group, references)
        part = bank[first * patches : last * patches].T
        for start in range(0, len(queries), QUERY_ROWS):
            block = queries[start : start + QUERY_ROWS]
            products = buffer.reshape(-1)[: len(block) * part.shape[1]].reshape(len(block), -1)
            np.matmul(block, part, out=products)
            nearest = products.reshape(len(block), last - first, patches).max(axis=2)
            best[first:last, start : start + len(block)] = nearest.T
    return best


def count_references(bank: Sized, patches: int) -> int:
    """How many references of so many patches a bank of vectors holds.

    Raises:
        DataError: none, or a part of one.
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
    """
    found, labels = index.search(queries, 1)
    return np.where(labels[:, 0] < 0, np.float32(-1), found[:, 0])


def anomaly(similarity: np.ndarray) -> np.ndarray:
    """0.5 x (1 - cosine), not below 0, where rounding would put equal vectors."""
    return np.maximum(0.5 * (1 - similarity), 0).astype(np.float32)
