"""Sets of names in little memory: a million would fill it as strings."""

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np


class HashedNames:
    """A set of names, each kept as the 64 bits of its :func:`short_hash`.

    Examples:
        >>> names = HashedNames(["a.png"])
        >>> names.add("b.png")
        >>> ["b.png" in names, "c.png" in names]
        [True, False]
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._new = array("Q", map(short_hash, names))
        self._sorted = np.zeros(0, np.uint64)

    def add(self, name: str) -> None:
        """Take in a name."""
        self._new.append(short_hash(name))

    def __contains__(self, name: str) -> bool:
        if self._new:
            self._sorted = np.union1d(self._sorted, np.frombuffer(self._new, np.uint64))
            self._new = array("Q")
        key = np.uint64(short_hash(name))
        position = int(np.searchsorted(self._sorted, key))
        return position < len(self._sorted) and bool(self._sorted[position] == key)


def short_hash(text: str) -> int:
    """Return 64 bits of a text's hash."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
