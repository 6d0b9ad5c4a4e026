"""What the store holds and how work on it is cut into segments: pure planning, no reading or writing."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cache.keys import Keys

T = TypeVar("T")

DTYPES = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
"""Types that rows may have; none that could hold references to objects."""
LABEL_LENGTH = 200
KEY_LENGTH = 200
"""Largest length of a row's key, which has one hash or two: in arrays all take the longest one's room."""
DIMENSIONS = 8
ROW_BYTES = 1 << 30
"""Largest size of a row, in bytes, that a space's description may ask for."""


def content_key(data: bytes) -> str:
    """What an image is known by: the hash of its file's bytes, 40 hexadecimal digits.

    Examples:
        >>> content_key(b"an image's bytes")
        '2ef50458e014eccc00902132ad686f7fa39d1546'
    """
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def fingerprint(content: Any) -> str:
    """Hash of JSON-like content, the same for equal content whatever the order of its keys.

    Returns:
        40 hexadecimal digits.

    Examples:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


@dataclass(frozen=True, eq=False)
class Space:
    """A set of rows that may be compared: same shape, same type, computed in the same way.

    Attributes:
        label: a short readable name; not part of the address.
        description: JSON-like; everything that the numbers of a row depend on besides its key.
        dtype: numpy name of the rows' type.

    Examples:
        >>> space = Space("cls", {"model": "ViT-B-16"}, (512,), "float16")
        >>> space.row_bytes, Space.from_json(space.to_json()) == space
        (1024, True)
        >>> space == Space("cls", {"model": "ViT-L-14"}, (512,), "float16")
        False
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
        fingerprint(description)  # which NaN and infinity have none of: ValueError
        if len(shape) > DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("the shape is no list of numbers")
        space = cls(label, description, tuple(shape), dtype)
        if space.row_bytes > ROW_BYTES or max(shape, default=0) > ROW_BYTES:
            raise ValueError("rows are too large")
        return space


@dataclass(frozen=True, slots=True)
class RowLocation:
    """Where a row lies: a segment of its space, the row in it, and the row's checksum.

    Examples:
        >>> RowLocation("9f2c", row=3, crc=1811703361).row
        3
    """

    segment: str
    row: int
    crc: int


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """Rows that one task computes: for each key, a row in every one of the spaces.

    Examples:
        >>> task = SegmentTask(keys=("a", "b"), spaces=("clip", "gem"))
        >>> len(task.keys) * len(task.spaces)  # rows that it computes
        4
    """

    keys: tuple[str, ...]
    spaces: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Distinct keys, in the order of the work, that need rows in the same spaces.

    Examples:
        >>> group = Group(Keys.of(["a", "b"]), spaces=("clip",))
        >>> list(group.keys), group.spaces
        (['a', 'b'], ('clip',))
    """

    keys: Keys
    spaces: tuple[str, ...]


def group_needs(needs: Sequence[tuple[Keys, Collection[str]]]) -> list[Group]:
    """Which keys need rows in the same spaces.

    Args:
        needs: some keys, and fingerprints of spaces that each of them needs; keys may come again.

    Returns:
        Groups, and the keys in each, by first appearance; each key is in one, once.

    Examples:
        >>> groups = group_needs([(Keys.of(["a", "b"]), ["s"]), (Keys.of(["b"]), ["t"])])
        >>> [(list(group.keys), group.spaces) for group in groups]
        [(['a'], ('s',)), (['b'], ('s', 't'))]
    """
    needs = [(keys, frozenset(spaces)) for keys, spaces in needs]
    keys = Keys.join([part for part, _ in needs])
    if len({spaces for part, spaces in needs if len(part)}) == 1:
        same = next(spaces for part, spaces in needs if len(part))
        return [Group(keys.take(keys.first()), tuple(sorted(same)))]
    number, first = keys.factorize()
    sets: list[frozenset[str]] = [frozenset()]
    known = {sets[0]: 0}
    chosen = np.zeros(len(first), np.int32)
    start = 0
    for part, spaces in needs:
        mine = number[start : start + len(part)]
        start += len(part)
        before = chosen[mine]
        for one in np.unique(before):
            union = sets[one] | frozenset(spaces)
            if union not in known:
                known[union] = len(sets)
                sets.append(union)
            chosen[mine[before == one]] = known[union]
    positions = [np.sort(first[chosen == one]) for one in range(len(sets))]
    order = sorted((int(found[0]), one) for one, found in enumerate(positions) if len(found))
    return [Group(keys.take(positions[one]), tuple(sorted(sets[one]))) for _, one in order]


def segment_tasks(
    groups: Iterable[Group],
    missing: Iterable[NDArray[np.bool_]],
    row_bytes: Mapping[str, int],
    target_bytes: int,
    max_rows: int,
) -> Iterator[SegmentTask]:
    """Cut the rows that the store lacks into even segments, one after the other as asked for.

    The cut is made over all needed keys, present or not, so that a run that goes on after a kill
    computes the same batches as an undisturbed one; what is present is then left out.

    Args:
        groups: of keys; no key is in two.
        missing: for each group (keys, spaces), whether the store lacks the row.
        row_bytes: bytes of a row of each space.
        target_bytes: a segment task writes about so many bytes at most, one key at least.
        max_rows: and at most so many keys.

    Yields:
        Tasks whose keys all lack the same spaces, each (key, space) that is missing exactly once.

    Examples:
        >>> group = Group(Keys.of(["a", "b", "c", "d"]), ("s",))
        >>> lacking = np.array([[True], [False], [True], [True]])
        >>> [task.keys for task in segment_tasks([group], [lacking], {"s": 8}, 1000, max_rows=2)]
        [('a',), ('c', 'd')]
    """
    for group, lacks in zip(groups, missing, strict=True):
        if not group.spaces:
            continue
        size = max(
            1, min(max_rows, target_bytes // max(1, sum(row_bytes[s] for s in group.spaces)))
        )
        count = len(group.keys)
        # all about as long, so that no worker waits for a short one's neighbour
        pieces = -(-count // size)
        for piece in range(pieces):
            start, stop = (count * n // pieces for n in (piece, piece + 1))
            lacking: dict[bytes, list[int]] = {}
            for row, of_key in enumerate(lacks[start:stop]):
                if of_key.any():
                    lacking.setdefault(of_key.tobytes(), []).append(row)
            for rows in lacking.values():
                spaces = tuple(
                    space for space, is_missing in zip(group.spaces, lacks[start + rows[0]], strict=True)
                    if is_missing
                )  # fmt: skip
                yield SegmentTask(tuple(group.keys[start:stop].take(rows)), spaces)


def plan_reads(
    locations: Sequence[RowLocation], row_bytes: int, at_once: int
) -> list[tuple[int, int]]:
    """Cut a list of locations into pieces that are read in one call each.

    Args:
        locations: in the order in which rows are wanted.
        row_bytes: bytes of a row.
        at_once: a piece has about so many bytes at most, one row at least.

    Returns:
        (start, stop) positions in the list, in order: each piece lies in one segment.

    Examples:
        >>> rows = [RowLocation("one", 0, 0), RowLocation("one", 7, 0), RowLocation("two", 0, 0)]
        >>> plan_reads(rows, row_bytes=8, at_once=1000)
        [(0, 2), (2, 3)]
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


def adjacent_rows(locations: Sequence[RowLocation]) -> Iterator[tuple[int, int]]:
    """(start, stop) positions of rows of one segment that lie one after the other.

    Examples:
        >>> list(adjacent_rows([RowLocation("one", row, 0) for row in (3, 4, 9)]))
        [(0, 2), (2, 3)]
    """
    start = 0
    while start < len(locations):
        stop = start + 1
        while stop < len(locations) and locations[stop].row == locations[stop - 1].row + 1:
            stop += 1
        yield start, stop
        start = stop


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Consecutive pieces of at most ``size`` items, as ``itertools.batched`` of Python 3.12.

    Examples:
        >>> list(batched([1, 2, 3, 4, 5], 2))
        [(1, 2), (3, 4), (5,)]
    """
    if size < 1:
        raise ValueError(f"pieces need at least one item, not {size}")
    walk = iter(items)
    while piece := tuple(islice(walk, size)):
        yield piece
