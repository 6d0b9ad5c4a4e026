"""Many keys in one array: twenty bytes for each hash, where a Python string takes ninety."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

V = TypeVar("V")

HASH_BYTES = 20
"""Bytes of a content key, see :func:`cache.layout.content_key`."""
AT_ONCE = 1 << 14
"""Keys that are Python strings at the same time."""
_HASH, _JOINED = 2 * HASH_BYTES, 2 * HASH_BYTES + 1
_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_LETTERS = np.frombuffer(b"0123456789abcdef", np.uint8)


@dataclass(frozen=True, eq=False)
class Keys(Sequence[str]):
    """Keys in an order; see :meth:`of`.

    Attributes:
        data: (n,) bytes of fixed width: of hashes (one, or several joined by colons, as many in each
            key) the hashes themselves; of other keys their UTF-8. Both sort as the strings do.
        hashes: which of the two.

    Examples:
        >>> keys = Keys.of(["b", "a", "b"])
        >>> list(keys.distinct()), list(keys.take([1, 0])), keys.data.nbytes
        (['a', 'b'], ['a', 'b'], 3)
    """

    data: NDArray[np.bytes_]
    hashes: bool

    @classmethod
    def of(cls, keys: Iterable[str]) -> Keys:
        """Keys from strings, of which only :data:`AT_ONCE` are held at a time."""
        if isinstance(keys, Keys):
            return keys
        walk = iter(keys)
        parts = []
        while part := list(islice(walk, AT_ONCE)):
            parts.append(_pack(np.array([key.encode() for key in part], np.bytes_)))
        return cls.join(parts)

    @classmethod
    def join(cls, parts: Sequence[Keys]) -> Keys:
        """Several one after the other."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls(np.zeros(0, f"S{HASH_BYTES}"), True)
        if len(parts) == 1:
            return parts[0]
        if len({(part.hashes, part.data.dtype) for part in parts}) > 1:
            parts = [part.as_utf8() for part in parts]
        return cls(np.concatenate([part.data for part in parts]), parts[0].hashes)

    @classmethod
    def concat_iter(cls, parts: Iterable[Keys]) -> Keys:
        """Several one after the other, of which one is held at a time beside the result."""
        room, kind = bytearray(), cls.of(())
        walk = iter(parts)
        for part in walk:
            if not len(part):
                continue
            if not room:
                kind = part
            if (part.hashes, part.data.dtype) != (kind.hashes, kind.data.dtype):
                before = cls(np.frombuffer(room, kind.data.dtype), kind.hashes)
                return cls.join([before, part, *walk])
            room += part.data.tobytes()
        return cls(np.frombuffer(room, kind.data.dtype), kind.hashes) if room else kind

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> Keys: ...
    def __getitem__(self, position: int | slice) -> str | Keys:
        if isinstance(position, slice):
            return Keys(self.data[position], self.hashes)
        return next(iter(self.take([range(len(self))[position]])))

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), AT_ONCE):
            part = self.data[start : start + AT_ONCE]
            for text in (_unpack(part) if self.hashes else part).tolist():
                yield text.decode()

    def take(self, positions: NDArray[np.integer] | NDArray[np.bool_] | Sequence[int]) -> Keys:
        """The keys at some positions, by position or by a mask."""
        return Keys(self.data[np.asarray(positions)], self.hashes)

    def as_utf8(self) -> Keys:
        """The same keys as UTF-8."""
        return Keys(_unpack(self.data), False) if self.hashes else self

    def with_suffix(self, digest: str) -> Keys:
        """Each key followed by a colon and a digest."""
        end = _pack(np.array([digest.encode()], np.bytes_))
        if not (self.hashes and end.hashes):
            return Keys.of(f"{key}:{digest}" for key in self)
        width = self.data.dtype.itemsize
        rows = np.empty((len(self), width + HASH_BYTES), np.uint8)
        rows[:, :width] = _bytes(self.data)
        rows[:, width:] = _bytes(end.data)
        return Keys(rows.view(f"S{rows.shape[1]}").reshape(-1), True)

    def distinct(self) -> Keys:
        """Each key once, sorted."""
        found = Keys(np.sort(self.data), self.hashes)
        repeated = found.duplicated()
        return found.take(~repeated) if repeated.any() else found

    def duplicated(self) -> NDArray[np.bool_]:
        """For each of the keys, which are sorted, whether the one before is the same."""
        found = np.zeros(len(self), bool)
        for start in range(1, len(self), AT_ONCE):  # few keys are copied at once
            stop = min(start + AT_ONCE, len(self))
            found[start:stop] = self.data[start:stop] == self.data[start - 1 : stop - 1]
        return found

    def first(self) -> NDArray[np.intp]:
        """Positions of the keys' first appearances, in order."""
        return np.sort(self.factorize()[1])

    def factorize(self) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Distinct keys as codes, counted in their sorted order.

        Returns:
            For each key its code; and for each code the position of its key's first appearance.
        """
        order = np.argsort(self.data, kind="stable")
        repeated = np.zeros(len(self), bool)
        for start in range(1, len(self), AT_ONCE):  # few keys are copied at once
            part = self.data[order[start - 1 : start + AT_ONCE]]
            repeated[start : start + AT_ONCE] = part[1:] == part[:-1]
        codes = np.empty(len(self), np.int32)
        codes[order] = np.cumsum(~repeated, dtype=np.int32) - 1
        return codes, order[~repeated]

    def get_indexer(self, target: Iterable[str]) -> NDArray[np.intp]:
        """For each key of a target its position among these keys, which are distinct and sorted.

        Args:
            target: n keys, in any order.

        Returns:
            (n,) positions; -1 for a key that is not here.
        """
        wanted, held = Keys.of(target), self
        if not len(held) or not len(wanted):  # of none, no form to change others to
            return np.full(len(wanted), -1)
        if (wanted.hashes, wanted.data.dtype) != (held.hashes, held.data.dtype):
            wanted, held = wanted.as_utf8(), held.as_utf8()
        positions = np.searchsorted(held.data, wanted.data)
        positions[positions == len(held)] = 0
        for start in range(0, len(wanted), AT_ONCE):  # few keys are copied at once
            part = positions[start : start + AT_ONCE]
            part[held.data[part] != wanted.data[start : start + AT_ONCE]] = -1
        return positions


class SortedMapping(Mapping[str, V]):
    """Values by key in the order of the keys, each made when it is asked for.

    Args:
        sorted_keys: distinct.

    Examples:
        >>> class Lengths(SortedMapping[int]):
        ...     def _at(self, position: int) -> int:
        ...         return len(self.sorted_keys[position])
        >>> dict(Lengths(Keys.of(["a", "bcd"])))
        {'a': 1, 'bcd': 3}
    """

    def __init__(self, sorted_keys: Keys) -> None:
        self.sorted_keys = sorted_keys

    @abstractmethod
    def _at(self, position: int) -> V:
        """The value of the key at a position."""

    def __getitem__(self, key: str) -> V:
        position = int(self.sorted_keys.get_indexer([key])[0])
        if position < 0:
            raise KeyError(key)
        return self._at(position)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sorted_keys)

    def __len__(self) -> int:
        return len(self.sorted_keys)


def _bytes(data: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    """Fixed-width bytes as (n, width) numbers."""
    return np.ascontiguousarray(data).view(np.uint8).reshape(len(data), data.dtype.itemsize)


def _pack(texts: NDArray[np.bytes_]) -> Keys:
    """Hashes in half their digits where all are that, in the same form."""
    width = texts.dtype.itemsize
    if (width + 1) % _JOINED:
        return Keys(texts, False)
    letters = _bytes(texts)
    parts = (width + 1) // _JOINED
    digits = np.empty((len(texts), parts, HASH_BYTES), np.uint8)
    for part in range(parts):
        start = part * _JOINED
        values = _DIGITS[letters[:, start : start + _HASH]]
        colon = letters[:, start + _HASH : start + _JOINED]
        if (values == 255).any() or (colon != ord(":")).any():
            return Keys(texts, False)
        digits[:, part] = values[:, ::2] << 4 | values[:, 1::2]
    return Keys(digits.reshape(-1).view(f"S{parts * HASH_BYTES}"), True)


def _unpack(data: NDArray[np.bytes_]) -> NDArray[np.bytes_]:
    """Inverse of :func:`_pack`."""
    values = _bytes(data)
    parts = values.shape[1] // HASH_BYTES
    texts = np.full((len(data), parts, _JOINED), ord(":"), np.uint8)
    pairs = values.reshape(len(data), parts, HASH_BYTES)
    texts[:, :, :_HASH:2] = _LETTERS[pairs >> 4]
    texts[:, :, 1:_HASH:2] = _LETTERS[pairs & 15]
    width = parts * _JOINED - 1
    flat = texts.reshape(len(data), parts * _JOINED)[:, :width]
    return np.ascontiguousarray(flat).reshape(-1).view(f"S{width}")
