"""A segment on disk: a zarr array of one uncompressed chunk, whose file is its rows in a row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from cache.files import Files
from cache.layout import KEY_LENGTH, Space
from fade.errors import StoreError, counted

TEXT_BYTES = 1 << 20
"""Largest size of store.json, space.json and zarr.json."""
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Errors that reading JSON of another form raises."""
FINITE_VALUES = 1 << 17
"""Values that are looked at for NaN and infinity at once: so many stay in the processor's cache."""
PAGE = 4096
"""Bytes of a page of memory."""


class NotFiniteError(StoreError):
    """Rows that were to be written hold NaN or infinite values.

    Examples:
        >>> isinstance(NotFiniteError("cls: NaN in 1 row"), StoreError)
        True
    """


class DamagedSegmentError(StoreError):
    """Rows that were published cannot be read back.

    Attributes:
        space, segment: whose they are, as long as the segment is in the index; else None.
        fault, advice: the two halves of the message.

    Examples:
        >>> raise DamagedSegmentError("segment 9f2c of cls is damaged", "run again")
        Traceback (most recent call last):
            ...
        cache.segment.DamagedSegmentError: segment 9f2c of cls is damaged: run again
    """

    def __init__(
        self, fault: str, advice: str, space: Space | None = None, segment: str | None = None
    ) -> None:
        super().__init__(fault, advice, space, segment)  # another process makes it from these
        self.fault, self.advice = fault, advice
        self.space, self.segment = space, segment

    def __str__(self) -> str:
        return f"{self.fault}: {self.advice}"


def checksum(row: np.ndarray) -> int:
    """CRC-32C of a contiguous row's bytes."""
    import google_crc32c

    return int(google_crc32c.value(np.ascontiguousarray(row)))


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that begins with a page of memory, as rows in the system's cache do.

    Copies between places that lie differently in their pages take up to half as long again.
    """
    count = dtype.itemsize * math.prod(shape)
    memory = np.empty(count + PAGE, np.uint8)
    start = -memory.ctypes.data % PAGE
    return memory[start : start + count].view(dtype).reshape(shape)


def as_bytes(rows: np.ndarray) -> memoryview:
    """The memory of contiguous rows."""
    return rows.reshape(-1).view(np.uint8).data


def data_name(dimensions: int) -> str:
    """The file of an array's only chunk."""
    return "/".join(["c", *["0"] * dimensions])


@cache
def metadata_of(shape: tuple[int, ...], dtype: str) -> bytes:
    """The zarr.json of an array of one uncompressed chunk."""
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    zarr.create_array(
        store=MemoryStore(files),
        shape=shape,
        dtype=dtype,
        chunks=shape,
        compressors=None,
        filters=None,
        fill_value=np.nan if np.dtype(dtype).kind == "f" else 0,
        zarr_format=3,
    )
    return bytes(files["zarr.json"].to_bytes())


def check_metadata(text: bytes, space: Space, rows: int) -> None:
    """Refuse a segment that is no plain array of at least so many of the space's rows.

    Read here and not by zarr, whose import and asynchronous machinery cost more than the rows.
    """
    meta = json.loads(text)
    shape = tuple(meta["shape"])
    if shape[1:] != space.shape or shape[0] < rows:
        raise ValueError(f"it holds {shape}")
    if meta["data_type"] != space.dtype:
        raise ValueError(f"it holds {meta['data_type']}")
    codecs = [codec["name"] for codec in meta["codecs"]]
    if codecs != ["bytes"] or tuple(meta["chunk_grid"]["configuration"]["chunk_shape"]) != shape:
        raise ValueError("it is laid out in another way")


def truncated_segments(
    files: Files, folder: str, space: Space, rows: Mapping[str, int]
) -> set[str]:
    """Segments that are gone, too small for their rows, or (in a folder) not described.

    Args:
        folder: that the segments lie in.
        rows: how many each segment should hold.

    Raises:
        OSError: the files cannot be reached.
    """

    def is_described(segment: str, count: int) -> bool:
        try:
            text = files.read(f"{folder}/{segment}/zarr.json", TEXT_BYTES)
            check_metadata(text, space, count)
        except (FileNotFoundError, *MALFORMED):
            return False
        return True

    parts = ("zarr.json", data_name(1 + len(space.shape)))
    sizes = iter(files.sizes(folder, [f"{segment}/{part}" for segment in rows for part in parts]))
    return {
        segment
        for (segment, count), metadata, data in zip(rows.items(), sizes, sizes, strict=True)
        if metadata < 0
        or data < count * space.row_bytes
        # an object is never cut short, and reading all of these would take long
        or not (files.remote or is_described(segment, count))
    }


def checked_rows(space: Space, keys: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Rows as a segment of a space holds them: contiguous, of the space's type.

    Args:
        space: that they are written to.
        keys: one for each row.
        rows: (len(keys), *space.shape).

    Raises:
        StoreError: shape or type mismatch, or a key that no reader would take.
        NotFiniteError: values that are not finite.
    """
    if long := next((key for key in keys if len(key) > KEY_LENGTH), None):
        raise StoreError(
            f"{space.label}: a key has {len(long):,} characters, at most {KEY_LENGTH} are stored: hash it"
        )
    if rows.shape != (len(keys), *space.shape):
        raise StoreError(
            f"{space.label}: rows of shape {rows.shape} for {len(keys)} keys of shape {space.shape}"
        )
    # floats may be rounded, but integers would wrap around without a word
    floats = np.dtype(space.dtype).kind == "f"
    if len(keys) and not np.can_cast(rows.dtype, space.dtype, "same_kind" if floats else "safe"):
        raise StoreError(
            f"{space.label}: rows of type {rows.dtype} cannot be stored as {space.dtype}"
        )
    with np.errstate(over="ignore"):
        data = np.ascontiguousarray(rows, dtype=space.dtype)
    if not all_finite(data):
        bad = [k for k, row in zip(keys, data, strict=True) if not all_finite(row)]
        halves = "; with features.dtype float16 try float32" if space.dtype == "float16" else ""
        raise NotFiniteError(
            f"{space.label}: NaN or infinite values in {len(bad)} of {counted(len(keys), 'row')} (first: "
            f"{bad[0]}): check the weights and the precision{halves}"
        )
    return data


def all_finite(values: np.ndarray) -> bool:
    """Whether no number of an array is NaN or infinite."""
    flat = values.reshape(-1)
    pieces = (flat[start : start + FINITE_VALUES] for start in range(0, flat.size, FINITE_VALUES))
    if values.dtype == np.float16:  # numpy's own test is an order of magnitude slower here
        # infinity and NaN have the largest bits, of the numbers above zero and of those below
        return all(
            p.view(np.int16).max() < 0x7C00 and p.view(np.uint16).max() < 0xFC00 for p in pieces
        )
    return all(bool(np.isfinite(piece).all()) for piece in pieces)
