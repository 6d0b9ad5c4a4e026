"""What the store holds and how work on it is cut into segments: pure planning, no reading or writing."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

K = TypeVar("K", bound=Hashable)

DTYPES = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
"""Types that rows may have; none that could hold references to objects."""
LABEL_LENGTH = 200
DIMENSIONS = 8
ROW_BYTES = 1 << 30
"""What a space's description from a file may ask for at most."""


def content_key(data: bytes) -> str:
    """What an image is known by: the hash of its file's bytes, 40 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def fingerprint(content: Any) -> str:
    """Hash of JSON-like content, the same for equal content whatever the order of its keys.

    Returns:
        40 hexadecimal digits.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


@dataclass(frozen=True, eq=False)
class Space:
    """A set of rows that may be compared: same shape, same type, computed in the same way.

    Attributes:
        label: a short readable name; not part of the address.
        description: JSON-like; everything that the numbers of a row depend on besides its key.
        shape: of one row.
        dtype: numpy name of the rows' type.
    """

    label: str
    description: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: str

    @cached_property
    def fingerprint(self) -> str:
        """The space's address: no code path reads a row of another one."""
        return fingerprint(
            {"description": self.description, "shape": self.shape, "dtype": self.dtype}
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def to_json(self) -> dict[str, Any]:
        """The space as it is written into stores and receipts."""
        return {
            "label": self.label,
            "description": dict(self.description),
            "shape": list(self.shape),
            "dtype": self.dtype,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Space:
        """Inverse of :meth:`to_json`; the content may come from anyone.

        Raises:
            KeyError, TypeError, ValueError: it describes no space.
        """
        label, description, shape, dtype = (
            content[name] for name in ("label", "description", "shape", "dtype")
        )
        if not isinstance(label, str) or not label.isprintable() or len(label) > LABEL_LENGTH:
            raise ValueError("the label is no short text")
        if not isinstance(description, dict) or dtype not in DTYPES:
            raise ValueError("no description, or of a type that is not stored")
        if len(shape) > DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("the shape is no list of numbers")
        space = cls(label, description, tuple(shape), dtype)
        if space.row_bytes > ROW_BYTES or max(shape, default=0) > ROW_BYTES:
            raise ValueError("rows are too large")
        return space


@dataclass(frozen=True, slots=True)
class Location:
    """Where a row lies: a segment of its space, the row in it, and the row's checksum."""

    segment: str
    row: int
    crc: int


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """Rows that one task computes: for each key, a row in every one of the spaces."""

    keys: tuple[str, ...]
    spaces: tuple[str, ...]


def plan_segments(
    needs: Mapping[str, Collection[str]],
    present: Mapping[str, Collection[str]],
    row_bytes: Mapping[str, int],
    target_bytes: int,
    max_rows: int,
) -> list[SegmentTask]:
    """Cut the rows that the store lacks into segments.

    The cut is made over all needed keys, present or not, so that a run that goes on after a kill
    computes the same batches as an undisturbed one; what is present is then left out.

    Args:
        needs: for each key, in the order of the work, the fingerprints of the spaces it needs.
        present: for each space the keys that the store has.
        row_bytes: bytes of a row of each space.
        target_bytes: a segment task writes about so many bytes at most, one key at least.
        max_rows: and at most so many keys.

    Returns:
        Tasks whose keys all lack the same spaces, each (key, space) that is missing exactly once.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for key, spaces in needs.items():
        groups.setdefault(tuple(sorted(set(spaces))), []).append(key)
    tasks: list[SegmentTask] = []
    for spaces, keys in groups.items():
        if not spaces:
            continue
        size = max(1, min(max_rows, target_bytes // max(1, sum(row_bytes[s] for s in spaces))))
        for start in range(0, len(keys), size):
            lacking: dict[tuple[str, ...], list[str]] = {}
            for key in keys[start : start + size]:
                missing = tuple(s for s in spaces if key not in present[s])
                if missing:
                    lacking.setdefault(missing, []).append(key)
            tasks += [SegmentTask(tuple(ks), missing) for missing, ks in lacking.items()]
    return tasks


def plan_reads(
    locations: Sequence[Location], row_bytes: int, at_once: int
) -> list[tuple[int, int]]:
    """Cut a list of places into pieces that are read in one call each.

    Args:
        locations: in the order in which rows are wanted.
        row_bytes: bytes of a row.
        at_once: a piece has about so many bytes at most, one row at least.

    Returns:
        (start, stop) positions in the list, in order: each piece lies in one segment.
    """
    most = max(1, at_once // max(1, row_bytes))
    pieces = []
    start = 0
    while start < len(locations):
        segment = locations[start].segment
        stop = start + 1
        while stop < min(len(locations), start + most) and locations[stop].segment == segment:
            stop += 1
        pieces.append((start, stop))
        start = stop
    return pieces


def cut(items: Sequence[K], size: int) -> list[tuple[K, ...]]:
    """Consecutive pieces of at most ``size`` items."""
    if size < 1:
        raise ValueError(f"pieces need at least one item, not {size}")
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def unique(items: Iterable[K]) -> list[K]:
    """Items without repetition, in the order of their first appearance."""
    return list(dict.fromkeys(items))
