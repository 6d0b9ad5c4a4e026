"""FAISS indexes of normal patches: built, checked, written and read back."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fade.errors import ParameterError, StoreError
from fade.files import atomic_write, open_plain
from fade.flat_vectors import FlatVectors

if TYPE_CHECKING:
    import faiss

    from fade.views import Metric

FLAT = "flat"
SEAL = b"FADE bank"
"""Stands between an index and its checksum; FAISS reads no further than the index."""
DIGEST = 20
PROBED = 32
"""Least number of lists of an IVF index that a query searches; a long index searches one list in so many.
FAISS's own default, a single list, finds 6 or 7 of 10 neighbours (docs/performance.md)."""
MAX_LINKS = 1024
"""Largest number of HNSW links per vector (16 to 64 is usual); FAISS reserves memory for all of them."""
_OPQ_CENTROIDS = 256
"""Centroids with which FAISS trains the rotation of OPQ, whatever the index behind it has."""
CANDIDATES = 128
"""Candidates of a search in an HNSW graph (``efSearch``). FAISS's 16 misses some neighbours."""


def build_index(vectors: np.ndarray, index: str = FLAT, metric: Metric = "cosine") -> faiss.Index:
    """An index over (n, dim) float32 vectors: of inner products, or of squared distances.

    Args:
        vectors: the patches; of unit length for ``cosine``.
        index: ``flat`` (exact) or a FAISS factory string such as ``IVF256,Flat``.
        metric: what nearness is.

    Raises:
        ParameterError: FAISS does not know the string or cannot train it on so few vectors.

    Examples:
        >>> index = build_index(np.eye(3, dtype=np.float32))
        >>> products, positions = index.search(np.array([[0, 0.75, 0.5]], np.float32), 2)
        >>> products.tolist(), positions.tolist()
        ([[0.75, 0.5]], [[1, 2]])
    """
    import faiss

    if index == FLAT:
        flat = faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2
        built: faiss.Index = flat(vectors.shape[1])
        built.add(vectors)
    else:
        measured = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
        width = vectors.shape[1]
        check_index(index, width, len(vectors), metric)
        try:
            built = inner = faiss.index_factory(width, index, measured)
            if metric == "euclidean" and not _normalizes(inner):
                # lists are told apart by products, and those of long vectors lose near ones
                built = faiss.IndexPreTransform(faiss.CenteringTransform(width), inner)
            built.train(vectors)
            built.add(vectors)
        except (RuntimeError, MemoryError) as error:
            raise ParameterError(
                f"vision.index {index!r} does not work on {len(vectors)} vectors of dimension "
                f"{width} ({_said(error)}): use 'flat' or another FAISS factory string"
            ) from None
        _search_enough(inner)
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

    Examples:
        >>> check_index("IVF256,Flat", dimension=512)
        >>> check_index("IVF256,Flat", dimension=512, vectors=100)
        Traceback (most recent call last):
            ...
        fade.errors.ParameterError: ... is trained on ... vectors at least, and the bank holds 100: ...
    """
    import faiss

    if index == FLAT:
        return
    _check_numbers(index)
    try:
        measured = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
        built = faiss.index_factory(dimension, index, measured)
    except (RuntimeError, MemoryError) as error:
        raise ParameterError(
            f"vision.index {index!r} is no index of {dimension} dimensions that FAISS knows "
            f"({_said(error)}): use 'flat' or another FAISS factory string"
        ) from None
    _check_kind(built, index, metric)
    if vectors is not None and (least := _least_vectors(built)) > vectors:
        raise ParameterError(
            f"vision.index {index!r} is trained on {least} vectors at least, and the bank holds "
            f"{vectors}: use 'flat', an index with fewer lists or centroids, or more references"
        )


def _check_kind(built: Any, index: str, metric: Metric) -> None:
    """Refuse an index that measures something else, or that takes no vectors by their order."""
    import faiss

    measured = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    if built.metric_type != measured:
        kind = "inner products" if metric == "cosine" else "Euclidean distances"
        raise ParameterError(
            f"vision.index {index!r} does not measure {kind}: use 'flat' or another FAISS factory string"
        )
    if _changes_lengths(built):
        kind = "cosines" if metric == "cosine" else "distances between patches"
        raise ParameterError(
            f"vision.index {index!r} makes vectors shorter, so that what it measures are no {kind}: "
            "leave PCA and other reductions out of the string"
        )
    if isinstance(built, faiss.IndexIDMap):
        raise ParameterError(
            f"vision.index {index!r} wants a number with each vector, and patches count by their order: "
            "leave IDMap out of the string"
        )


def _said(error: Exception) -> str:
    """What FAISS says of an error, without the place in its code; of too little memory, nothing."""
    said = (str(error).strip().splitlines() or ["not enough memory"])[0]
    return re.sub(r"^Error in .* at \S+:\d+: (Error: '.*?' failed: )?", "", said)[-160:]


def _least_vectors(index: Any) -> int:
    """Fewest vectors that an index can be trained on: one for each of its lists and centroids."""
    import faiss

    if isinstance(index, faiss.IndexPreTransform | faiss.IndexRefine):
        inner = index.index if isinstance(index, faiss.IndexPreTransform) else index.base_index
        turned = any(isinstance(step, faiss.OPQMatrix) for step in _transforms(index))
        return max(_OPQ_CENTROIDS if turned else 1, _least_vectors(faiss.downcast_index(inner)))
    if isinstance(index, faiss.IndexHNSWPQ):
        return _least_vectors(faiss.downcast_index(index.storage))
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


def _transforms(index: faiss.Index) -> list[Any]:
    """What vectors go through before they are compared."""
    import faiss

    if not isinstance(index, faiss.IndexPreTransform):
        return []
    steps: Any = index.chain
    return [faiss.downcast_VectorTransform(steps.at(i)) for i in range(steps.size())]


def _changes_lengths(index: faiss.Index) -> bool:
    """Whether vectors go through a transform that does not keep inner products."""
    import faiss

    steps = _transforms(index)
    return any(isinstance(step, faiss.PCAMatrix) or step.d_out < step.d_in for step in steps)


def _normalizes(index: faiss.Index) -> bool:
    """Whether vectors get unit length, which is not to be that from another origin."""
    import faiss

    return any(isinstance(step, faiss.NormalizationTransform) for step in _transforms(index))


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

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_index(build_index(np.eye(3, dtype=np.float32)), Path(place, "nut.faiss"))
        ...     os.listdir(place), len(stored_digest(Path(place, "nut.faiss")))
        (['nut.faiss'], 20)
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
        raise StoreError(
            f"the memory bank {path} cannot be written ({_said(error)}): make room, or see that its "
            "folder can be written to, and run again"
        ) from None


def stored_digest(path: Path) -> bytes:
    """The checksum at the end of a file of :func:`write_index`; nothing if it cannot be read.

    Examples:
        >>> stored_digest(Path("there is none.faiss"))
        b''
    """
    try:
        with open_plain(path) as file:
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

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_index(build_index(np.eye(3, dtype=np.float32)), Path(place, "nut.faiss"))
        ...     read_index(Path(place, "nut.faiss")).ntotal
        3
    """
    import faiss

    try:
        with open_plain(path) as file:
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


def is_flat(index: faiss.Index | FlatVectors) -> bool:
    """Whether a search compares all vectors, and the index holds them as they are.

    Examples:
        >>> vectors = np.eye(2, dtype=np.float32)
        >>> is_flat(build_index(vectors)), is_flat(build_index(vectors, "HNSW4,Flat"))
        (True, False)
    """
    if isinstance(index, FlatVectors):
        return True
    import faiss

    return isinstance(faiss.downcast_index(index), faiss.IndexFlat)


def index_vectors(index: faiss.Index | FlatVectors) -> np.ndarray:
    """The (n, dim) float32 vectors of a flat index, without a copy; valid while it lives.

    Examples:
        >>> index = build_index(np.eye(2, dtype=np.float32))
        >>> index_vectors(index).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if isinstance(index, FlatVectors):
        return index.vectors
    import faiss

    flat: Any = faiss.downcast_index(index)
    return faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
