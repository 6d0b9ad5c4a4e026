"""What the store holds, whether it can be read back, and how another store gets it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cache.files import Listed, Location, reason
from cache.index import Published
from cache.layout import Space
from cache.segment import DamagedSegmentError
from cache.store import Store
from fade.errors import StoreError

VERIFY_BYTES = 64 << 20
"""Bytes of rows that :func:`verify` reads at once."""


@dataclass(frozen=True)
class SpaceInfo:
    """One space of the store.

    Attributes:
        label: what its rows are.
        rows: published ones, each counted once.
        segments: those that serve the rows.
        bytes: in its files, what was never published included.
    """

    label: str
    fingerprint: str
    rows: int
    segments: int
    bytes: int


@dataclass(frozen=True)
class SpaceCheck:
    """One space, read back.

    Attributes:
        label: what its rows are.
        rows: distinct ones that were read and are sound.
        copies: sound rows beyond these, of other segments.
        damaged: a line on each segment that is published and damaged or gone, by its name.
        unpublished: segments without an index entry: left by a kill, or of a writer at work.
        unrecognized: files of the index that publish nothing: cut short, damaged, or no entries.

    Examples:
        >>> check = SpaceCheck("cls", "9f2c", 40, 0, {"segment": "it is cut short"}, (), ())
        >>> check.rows, list(check.damaged)
        (40, ['segment'])
    """

    label: str
    fingerprint: str
    rows: int
    copies: int
    damaged: Mapping[str, str]
    unpublished: tuple[str, ...]
    unrecognized: tuple[str, ...]


def open_store(root: Location) -> Store:
    """The store at a location where one must be.

    Raises:
        StoreError: there is none, it cannot be reached, or it is of another schema version.
        ParameterError: a URL that cannot be opened.

    Examples:
        >>> open_store("no/store")
        Traceback (most recent call last):
            ...
        fade.errors.StoreError: there is no store at no/store: make one with `fade run`, or name it
    """
    store = Store(root)
    with store.reading():
        if store.files.exists("store.json"):
            return store
    raise StoreError(f"there is no store at {root}: make one with `fade run`, or name it")


def list_files(store: Store, folder: str) -> list[Listed]:
    """All files of a store below a folder of it (StoreError: it cannot be read)."""
    with store.reading():
        return list(store.files.list(folder))


def describe(store: Store) -> list[SpaceInfo]:
    """All spaces, by label.

    Raises:
        StoreError: the store cannot be read.

    Examples:
        >>> store, space = Store("memory://describe"), Space("cls", {}, (2,), "float32")
        >>> store.register(space)
        >>> _ = store.write(space, ["a", "b"], np.eye(2))
        >>> [(info.label, info.rows, info.segments) for info in describe(store)]
        [('cls', 2, 1)]
    """
    found = []
    for space in store.spaces():
        locations = store.index(space).locations
        found.append(
            SpaceInfo(
                space.label,
                space.fingerprint,
                len(locations),
                len(np.unique(locations.segments)),
                sum(file.bytes for file in list_files(store, store.folder(space))),
            )
        )
    return sorted(found, key=lambda info: (info.label, info.fingerprint))


def verify(store: Store, space: Space) -> SpaceCheck:
    """Read every row that was ever published, and hold it against its checksum. Nothing is changed.

    Raises:
        StoreError: the store cannot be read.

    Examples:
        >>> store, space = Store("memory://verify"), Space("cls", {}, (2,), "float32")
        >>> store.register(space)
        >>> _ = store.write(space, ["a"], np.ones((1, 2))), store.write(space, ["a"], np.ones((1, 2)))
        >>> check = verify(store, space)
        >>> check.rows, check.copies, check.damaged
        (1, 1, {})
    """
    folder = store.folder(space)
    # segments before entries: what is published in between then counts as published
    segments = {file.name.split("/")[3] for file in list_files(store, f"{folder}/segments")} - {""}
    rows = Published.of(store.entries(space))
    published = set(rows.locations.names)
    index = {file.name.rpartition("/")[2] for file in list_files(store, f"{folder}/index")} - {""}
    sound = np.ones(len(rows.keys), bool)
    damaged: dict[str, str] = {}
    for name, segment in rows.segments():
        try:
            for piece in pieces(space, segment):
                store.read(space, rows.locations[piece])
        except DamagedSegmentError as error:
            damaged[name] = error.fault
            sound[segment] = False
    distinct = len(rows.keys.take(sound).distinct())
    return SpaceCheck(
        space.label,
        space.fingerprint,
        distinct,
        int(np.count_nonzero(sound)) - distinct,
        damaged,
        tuple(sorted(segments - published)),
        tuple(sorted(index - {f"{segment}.json" for segment in published})),
    )


def withdraw_damaged(store: Store, checks: Iterable[SpaceCheck]) -> None:
    """Remove the segments from the index that :func:`verify` found damaged.

    Raises:
        StoreError: the system refuses.

    Examples:
        >>> store, space = Store("memory://withdraw"), Space("cls", {}, (2,), "float32")
        >>> store.register(space)
        >>> [row] = store.write(space, ["a"], np.ones((1, 2)))
        >>> store.files.delete([f"{store.folder(space)}/segments/{row.segment}/zarr.json"])
        >>> withdraw_damaged(store, [verify(store, space)])
        >>> len(store.index(space))
        0
    """
    damaged = {check.fingerprint: check.damaged for check in checks}
    try:
        for space in store.spaces():
            for segment in damaged.get(space.fingerprint, ()):
                store.withdraw(space, segment)
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be deleted: {reason(error)}") from None


def pieces(space: Space, rows: slice) -> Iterator[slice]:
    """A segment's rows in pieces that are read at once."""
    step = max(1, VERIFY_BYTES // max(1, space.row_bytes))
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


@dataclass(frozen=True)
class Copied:
    """What :func:`copy` brought into a store.

    Attributes:
        rows: that the target lacked.
    """

    label: str
    fingerprint: str
    rows: int
    bytes: int


def copy(source: Store, target: Store) -> Iterator[Copied]:
    """Copy what a store lacks from another one, space by space; it may be ended and begun again.

    Rows are held against their checksums on the way; of a row that is damaged in one segment, a copy
    in another one is taken. Both stores may be in use. Nothing changes in the source.

    Raises:
        DamagedSegmentError: rows of the source cannot be read; all others of their space were copied.
        StoreError: one of them cannot be read, or the target takes nothing.

    Examples:
        >>> source, target = Store("memory://source"), Store("memory://target")
        >>> space = Space("cls", {}, (2,), "float32")
        >>> source.register(space)
        >>> _ = source.write(space, ["a", "b"], np.eye(2))
        >>> [(copied.rows, copied.bytes) for copied in copy(source, target)]
        [(2, 16)]
    """
    for space in source.spaces():
        rows = Published.of(source.entries(space))
        damaged: dict[str, DamagedSegmentError] = {}
        copied = 0
        have = target.repair(space)
        while True:
            sound = [name not in damaged for name in rows.locations.names]
            usable = np.array(sound, bool)[rows.locations.segments]
            lacking = np.flatnonzero(~have.has(rows.keys) & usable)
            if not len(lacking):
                break
            wanted = rows.take(lacking[rows.keys.take(lacking).first()])
            target.prepare({space: len(wanted.keys)})
            for name, segment in wanted.segments():
                try:
                    for piece in pieces(space, segment):
                        read = source.read(space, wanted.locations[piece])
                        target.write(space, wanted.keys[piece], read)
                        copied += len(read)
                except DamagedSegmentError as error:
                    damaged[name] = error
            have = target.index(space)
        if damaged and not have.has(rows.keys).all():
            raise next(iter(damaged.values()))
        yield Copied(space.label, space.fingerprint, copied, copied * space.row_bytes)


def undescribed(store: Store) -> list[str]:
    """Folders of spaces whose description is gone or damaged, so that nobody reads their rows.

    Raises:
        StoreError: the store cannot be read.

    Examples:
        >>> store, space = Store("memory://undescribed"), Space("cls", {}, (2,), "float32")
        >>> store.register(space)
        >>> store.files.write(f"{store.folder(space)}/space.json", b"{}")
        >>> undescribed(store) == [space.fingerprint]
        True
    """
    with store.reading():
        names = store.files.names("spaces").folders
    return sorted(set(names) - {space.fingerprint for space in store.spaces()})
