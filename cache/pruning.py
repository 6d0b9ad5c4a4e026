"""What of a store may go: copies, damaged and unpublished files, and rows that nobody needs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cache.files import Listed, reason
from cache.index import Checksums, Published, RowLocations
from cache.layout import Space
from cache.maintenance import list_files, pieces
from cache.store import DamagedSegmentError, Store
from fade.errors import StoreError

DAY = 24 * 60 * 60
"""Seconds after which files that nothing names are no longer taken for a running writer's."""
RemovalReason = Literal["unpublished", "duplicate", "damaged", "unused"]
Needed = Mapping[str, Sequence[Checksums]]
"""Keys and checksums of rows, by the fingerprint of their space; in parts."""


@dataclass(frozen=True)
class Removal:
    """Something of a store that may go.

    Attributes:
        reason: ``unpublished``: a segment, entry or part of a file that a killed writer left;
            ``duplicate``: all rows of the segment are served by others; ``damaged``: the same of a
            segment whose rows differ from their checksums; ``unused``: no row of it is needed.
        names: of the files to delete, in this order, so that a kill leaves an unpublished segment at
            worst.
    """

    label: str
    reason: RemovalReason
    names: tuple[str, ...]
    bytes: int


def find_removable(
    store: Store,
    *,
    needed: Needed | None = None,
    everything: bool = False,
    now: float | None = None,
) -> list[Removal]:
    """What may be deleted from a store, by space; nothing is touched yet.

    Rows that are there more than once are read and held against their checksums: a copy goes only
    where a sound one stays.

    Args:
        store: that may be written to meanwhile.
        needed: the rows to keep; None keeps all. Text embeddings are kept in any case: nobody
            names them, and they are small.
        everything: take files younger than a day too; only safe while nothing runs.
        now: seconds since the epoch; default: the present.

    Raises:
        StoreError: the store cannot be read.

    Examples:
        >>> store, space = Store("memory://removable"), Space("cls", {}, (2,), "float32")
        >>> store.register(space)
        >>> _ = store.write(space, ["a"], np.ones((1, 2))), store.write(space, ["a"], np.ones((1, 2)))
        >>> [removal.reason for removal in find_removable(store, everything=True)]
        ['duplicate']
    """
    newest = float("inf") if everything else (time.time() if now is None else now) - DAY
    # files before entries: what is published in between then counts as published
    files = list_files(store, "")
    by_space: dict[str, list[Listed]] = {}
    for file in files:
        parts = file.name.split("/")
        by_space.setdefault(parts[1] if parts[0] == "spaces" else "", []).append(file)
    found: list[Removal] = []
    for space in store.spaces():
        part = by_space.get(space.fingerprint, [])
        for label, why, group in _find_removable(store, space, part, needed):
            found += _removals(label, why, group, newest)
    for file in by_space.get("", []):
        if file.name.endswith(".part"):
            found += _removals("store", "unpublished", [file], newest)
    return found


def _find_removable(
    store: Store, space: Space, files: Iterable[Listed], needed: Needed | None
) -> Iterator[tuple[str, RemovalReason, list[Listed]]]:
    """Label, reason and files of what nobody reads, whatever its age."""
    segments: dict[str, list[Listed]] = {}
    index: dict[str, list[Listed]] = {}
    for file in files:
        _, _, kind, *rest = file.name.split("/")
        if kind == "segments" and rest[0]:
            segments.setdefault(rest[0], []).append(file)
        elif kind.endswith(".part") or (kind == "index" and rest[0]):
            index[file.name] = [file]
    rows = Published.of(store.entries(space))
    text = space.description.get("kind") == "text"
    keep = None if needed is None or text else needed.get(space.fingerprint, ())
    number, wanted = _factorize(rows, keep)
    repeated = wanted & (np.bincount(number, minlength=len(wanted)) > 1)
    served = np.zeros(len(wanted), bool)
    damaged: list[tuple[NDArray[np.intp], list[Listed]]] = []
    for segment, part in rows.segments():
        entry_file = f"{store.folder(space)}/index/{segment}.json"
        data = segments.pop(segment, [])
        group = [*index.pop(entry_file, ()), *data]
        if not _is_whole(space, data, part.stop - part.start):
            yield space.label, "unpublished", group  # its rows cannot be read: others serve
            continue
        mine = number[part]
        new = mine[~served[mine]]
        if not wanted[new].any():
            yield space.label, "unused" if len(new) else "duplicate", group
        elif _is_sound(store, space, rows.locations[part].take(repeated[mine] & ~served[mine])):
            served[mine] = True
        else:
            damaged.append((mine, group))
    for mine, group in damaged:
        if served[mine[wanted[mine]]].all():  # else its other rows may be the only ones
            yield space.label, "damaged", group
    for group in (*segments.values(), *index.values()):
        yield space.label, "unpublished", group


def _is_whole(space: Space, files: Iterable[Listed], rows: int) -> bool:
    """Whether a segment's files are there and hold so many rows."""
    sizes = {file.name.split("/", 4)[4]: file.bytes for file in files if file.bytes}
    described = sizes.pop("zarr.json", 0)
    return described > 0 and max(sizes.values(), default=0) >= rows * space.row_bytes


def _is_sound(store: Store, space: Space, locations: RowLocations) -> bool:
    """Whether rows of one segment have their checksums."""
    try:
        for piece in pieces(space, slice(0, len(locations))):
            store.read(space, locations[piece])
    except DamagedSegmentError:
        return False
    return True


def _factorize(
    rows: Published, needed: Sequence[Checksums] | None
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """A number for each row, the same for equal ones, and for each number whether it is needed.

    Rows of other machines may differ in their last bits: only those of the same checksum are equal.
    """
    key_numbers, first = rows.keys.factorize()
    pairs, numbers = np.unique(_as_numbers(key_numbers, rows.locations.crcs), return_inverse=True)
    if needed is None:
        return numbers, np.ones(len(pairs), bool)
    keys = rows.keys.take(first)
    wanted = np.zeros(len(pairs), bool)
    for part in needed:
        at = keys.get_indexer(part.sorted_keys)
        wanted |= np.isin(pairs, _as_numbers(at[at >= 0], part.crcs[at >= 0]))
    return numbers, wanted


def _as_numbers(key_numbers: NDArray[np.integer], crcs: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Number of a key and checksum in one."""
    return key_numbers.astype(np.int64) << 32 | crcs


def _removals(
    label: str, why: RemovalReason, files: Sequence[Listed], newest: float
) -> Iterator[Removal]:
    """The removal of some files, unless one of them is too young."""
    if files and max(file.changed for file in files) <= newest:
        names = tuple(file.name for file in files)
        yield Removal(label, why, names, sum(file.bytes for file in files))


def remove(store: Store, removals: Iterable[Removal]) -> None:
    """Delete what :func:`find_removable` found.

    Raises:
        StoreError: the system refuses.

    Examples:
        >>> store, space = Store("memory://remove"), Space("cls", {}, (2,), "float32")
        >>> store.register(space)
        >>> _ = store.write(space, ["a"], np.ones((1, 2))), store.write(space, ["a"], np.ones((1, 2)))
        >>> remove(store, find_removable(store, everything=True))
        >>> len(list(store.entries(space)))
        1
    """
    try:
        # entries first and in one go, since an object store takes many names at once
        names = [removal.names for removal in removals]
        store.files.delete([part[0] for part in names])
        store.files.delete([name for part in names for name in part[1:]])
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be deleted: {reason(error)}") from None
