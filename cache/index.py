"""Where rows of a space lie, in arrays: some thirty bytes a row, where Python objects take hundreds."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cache.entries import Entry
from cache.keys import Keys, SortedMapping
from cache.layout import RowLocation

Preference = Callable[[Keys, NDArray[np.uint32]], NDArray[np.bool_]]
"""A function that tells, by key and checksum, which rows are preferred to others of the same key."""


class Checksums(SortedMapping[int]):
    """Checksum by key of n rows of a space, keys sorted.

    Args:
        keys: sorted.
        crcs: (n,) uint32.

    Examples:
        >>> checksums = Checksums(Keys.of(["a", "b"]), np.array([7, 9], np.uint32))
        >>> checksums["b"], len(checksums)
        (9, 2)
    """

    def __init__(self, keys: Keys, crcs: NDArray[np.uint32]) -> None:
        super().__init__(keys)
        self.crcs = crcs

    def _at(self, position: int) -> int:
        return int(self.crcs[position])


@dataclass(frozen=True, eq=False)
class RowLocations(Sequence[RowLocation]):
    """Locations of n rows, in an order.

    Attributes:
        segments: (n,) int32, which of the names.
        rows: (n,) int32, in their segments.
        crcs: (n,) uint32, the rows' checksums.

    Examples:
        >>> numbers = np.array([0, 1])
        >>> rows = RowLocations(("one", "two"), numbers, numbers + 4, numbers.astype(np.uint32))
        >>> rows[1]
        RowLocation(segment='two', row=5, crc=1)
    """

    names: tuple[str, ...]
    segments: NDArray[np.int32]
    rows: NDArray[np.int32]
    crcs: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, position: int) -> RowLocation: ...
    @overload
    def __getitem__(self, position: slice) -> RowLocations: ...
    def __getitem__(self, position: int | slice) -> RowLocation | RowLocations:
        if isinstance(position, slice):
            return self.take(position)
        return RowLocation(
            self.names[self.segments[position]], int(self.rows[position]), int(self.crcs[position])
        )

    def take(self, positions: NDArray[np.integer] | NDArray[np.bool_] | slice) -> RowLocations:
        """Some of them, by position, mask or slice; still with the names of all segments."""
        return RowLocations(
            self.names, self.segments[positions], self.rows[positions], self.crcs[positions]
        )

    def narrowed(self) -> RowLocations:
        """The same with the names of their own segments alone, to be sent to a worker."""
        used, segments = np.unique(self.segments, return_inverse=True)
        names = tuple(self.names[number] for number in used)
        return RowLocations(names, segments.astype(np.int32), self.rows, self.crcs)


@dataclass(frozen=True, eq=False)
class Published:
    """All rows of some index entries, in the entries' order; what is there twice comes twice.

    Attributes:
        keys: of n rows.
        locations: of these rows, segment after segment.
    """

    keys: Keys
    locations: RowLocations

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Published:
        """Rows of entries, of which one is held at a time."""
        names: list[str] = []
        segments, rows, crcs = array("i"), array("i"), array("I")

        def noted() -> Iterator[Keys]:
            for number, entry in enumerate(entries):
                names.append(entry.segment)
                segments.extend([number] * len(entry.keys))
                rows.extend(range(len(entry.keys)))
                crcs.frombytes(entry.crcs.tobytes())
                yield entry.keys

        keys = Keys.concat_iter(noted())
        locations = RowLocations(
            tuple(names),
            np.frombuffer(segments, np.int32),
            np.frombuffer(rows, np.int32),
            np.frombuffer(crcs, np.uint32),
        )
        return cls(keys, locations)

    def take(self, positions: NDArray[np.integer]) -> Published:
        """Some of the rows, by position, in this order; still with the names of all segments."""
        return Published(self.keys.take(positions), self.locations.take(positions))

    def segments(self) -> Iterator[tuple[str, slice]]:
        """Each segment's name, and where its rows are among these."""
        ends = np.searchsorted(
            self.locations.segments, np.arange(len(self.locations.names) + 1)
        ).tolist()
        for name, start, stop in zip(self.locations.names, ends, ends[1:], strict=False):
            yield name, slice(start, stop)


class Index(SortedMapping[RowLocation]):
    """All published rows of a space by key, keys sorted, with their locations; see :meth:`build`.

    Examples:
        >>> entries = [Entry("one", Keys.of(["a", "b"]), np.array([7, 9], np.uint32))]
        >>> index = Index.build(entries)
        >>> index["b"], index.has(["a", "c"]).tolist()
        (RowLocation(segment='one', row=1, crc=9), [True, False])
    """

    def __init__(self, keys: Keys, locations: RowLocations) -> None:
        super().__init__(keys)
        self.locations = locations

    @classmethod
    def build(cls, entries: Iterable[Entry], prefer: Preference | None = None) -> Index:
        """The index of all rows of some entries.

        Of duplicates the first one serves that is preferred, or else the first; ``prefer`` is asked
        only about those.
        """
        published = Published.of(entries)
        keys, locations = published.keys, published.locations
        del published  # each array goes as soon as its rows are in order
        order = np.argsort(keys.data, kind="stable")
        keys = keys.take(order)
        repeated = keys.duplicated()
        if repeated.any() and prefer is not None:
            alike = repeated.copy()
            alike[:-1] |= repeated[1:]
            at = np.flatnonzero(alike)
            liked = prefer(keys.take(at), locations.crcs[order[at]])
            order[at] = order[at[np.lexsort((~liked, np.cumsum(~repeated)[at]))]]
        if repeated.any():
            keys, order = keys.take(~repeated), order[~repeated]
        return cls(keys, locations.take(order))

    def _at(self, position: int) -> RowLocation:
        return self.locations[position]

    def has(self, keys: Iterable[str]) -> NDArray[np.bool_]:
        """For each key whether it has a row."""
        return np.asarray(self.sorted_keys.get_indexer(keys) >= 0)

    def find(self, keys: Iterable[str]) -> tuple[RowLocations, NDArray[np.bool_]]:
        """Where the rows of some keys lie, and which of them are there; other locations mean nothing."""
        at = self.sorted_keys.get_indexer(keys)
        found = at >= 0
        if not len(self):
            none = np.zeros(len(at), np.int32)
            return RowLocations((), none, none, none.view(np.uint32)), found
        return self.locations.take(at), found
