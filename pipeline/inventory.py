"""What the store holds, whether it can be read back, and what may go."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cache.files import Listed, Place, reason
from cache.layout import Location, Space, cut
from cache.store import DamagedSegmentError, Store
from fade.errors import StoreError
from pipeline.paths import ARTEFACTS
from pipeline.receipts import Receipt, read_receipt

DAY = 24 * 60 * 60
"""Seconds after which files that nothing names are no longer taken for a running writer's."""
VERIFY_BYTES = 64 << 20
"""Read at once by :func:`verify`."""

Reason = Literal["unpublished", "duplicate", "unused"]
Rows = Mapping[str, Collection[tuple[str, int]]]
"""Keys and checksums of rows, by the fingerprint of their space."""


@dataclass(frozen=True)
class SpaceInfo:
    """One space of the store.

    Attributes:
        label: what its rows are.
        fingerprint: its address.
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
        fingerprint: its address.
        rows: distinct ones that were read and are sound.
        copies: sound rows beyond these, of other segments.
        damaged: a line for each segment that is published and damaged or gone.
        unpublished: segments without an index entry: left by a kill, or of a writer at work.
        strange: files of the index that publish nothing: cut short, damaged, or no entries.
    """

    label: str
    fingerprint: str
    rows: int
    copies: int
    damaged: tuple[str, ...]
    unpublished: tuple[str, ...]
    strange: tuple[str, ...]


def open_store(root: Place) -> Store:
    """The store at a place where one must be.

    Raises:
        StoreError: there is none, it cannot be reached, or it is of another schema version.
        ParameterError: a URL that cannot be opened.
    """
    store = Store(root)
    try:
        if store.files.exists("store.json"):
            return store
    except OSError as error:
        raise StoreError(f"the store at {root} cannot be read: {reason(error)}") from None
    raise StoreError(f"there is no store at {root}: make one with `fade run`, or name it")


def _list(store: Store, folder: str) -> list[Listed]:
    try:
        return list(store.files.list(folder))
    except OSError as error:
        raise StoreError(f"the store at {store.root} cannot be read: {reason(error)}") from None


def describe(store: Store) -> list[SpaceInfo]:
    """All spaces, by label.

    Raises:
        StoreError: the store cannot be read.
    """
    found = []
    for space in store.spaces():
        places = store.index(space).places
        found.append(
            SpaceInfo(
                space.label,
                space.fingerprint,
                len(places),
                len(np.unique(places.segments)),
                sum(file.bytes for file in _list(store, store.folder(space))),
            )
        )
    return sorted(found, key=lambda info: (info.label, info.fingerprint))


def verify(store: Store, space: Space) -> SpaceCheck:
    """Read every row that was ever published, and hold it against its checksum.

    The store takes damaged segments out of its index.

    Raises:
        StoreError: the store cannot be read.
    """
    folder = store.folder(space)
    # segments before entries: what is published in between then counts as published
    segments = {file.name.split("/")[3] for file in _list(store, f"{folder}/segments")} - {""}
    entries = list(store.entries(space))
    published = {str(entry["segment"]) for entry in entries}
    index = {file.name.rpartition("/")[2] for file in _list(store, f"{folder}/index")} - {""}
    sound: set[str] = set()
    read = 0
    damaged: list[str] = []
    for entry in entries:
        places = [Location(entry["segment"], row, crc) for row, crc in enumerate(entry["crc"])]
        try:
            for piece in cut(places, max(1, VERIFY_BYTES // max(1, space.row_bytes))):
                store.read(space, piece)
        except DamagedSegmentError as error:
            damaged.append(str(error))
        else:
            sound.update(entry["keys"])
            read += len(places)
    return SpaceCheck(
        space.label,
        space.fingerprint,
        len(sound),
        read - len(sound),
        tuple(damaged),
        tuple(sorted(segments - published)),
        tuple(sorted(index - {f"{segment}.json" for segment in published})),
    )


@dataclass(frozen=True)
class Copied:
    """What :func:`copy` brought into a store.

    Attributes:
        label: of the space.
        fingerprint: its address.
        rows: that the target lacked.
        bytes: of these rows.
    """

    label: str
    fingerprint: str
    rows: int
    bytes: int


def copy(source: Store, target: Store) -> Iterator[Copied]:
    """Copy what a store lacks from another one, space by space; it may be ended and begun again.

    Rows are held against their checksums on the way. Both stores may be in use.

    Raises:
        DamagedSegmentError: in the source; what was copied before stays.
        StoreError: one of them cannot be read, or the target takes nothing.
    """
    for space in source.spaces():
        present = set(target.present(space))
        entries = list(source.entries(space))
        offered = {key for entry in entries for key in entry["keys"]}
        target.prepare({space: len(offered - present)})
        rows = 0
        for entry in entries:
            places = {
                key: Location(entry["segment"], row, crc)
                for row, (key, crc) in enumerate(zip(entry["keys"], entry["crc"], strict=True))
                if key not in present
            }
            for keys in cut(list(places), max(1, VERIFY_BYTES // max(1, space.row_bytes))):
                target.write(space, keys, source.read(space, [places[key] for key in keys]))
            present |= places.keys()
            rows += len(places)
        yield Copied(space.label, space.fingerprint, rows, rows * space.row_bytes)


@dataclass(frozen=True)
class Removal:
    """Something of a store that may go.

    Attributes:
        label: of its space.
        reason: ``unpublished``: a segment, entry or part of a file that a killed writer left;
            ``duplicate``: all rows of the segment are served by others; ``unused``: no row of it is
            needed.
        names: of the files to delete, in this order, so that a kill leaves an unpublished segment at
            worst.
        bytes: in the files.
    """

    label: str
    reason: Reason
    names: tuple[str, ...]
    bytes: int


def nameless(store: Store) -> list[str]:
    """Folders of spaces whose description is gone or damaged, so that nobody reads their rows.

    Raises:
        StoreError: the store cannot be read.
    """
    try:
        names = store.files.names("spaces").folders
    except OSError as error:
        raise StoreError(f"the store at {store.root} cannot be read: {reason(error)}") from None
    return sorted(set(names) - {space.fingerprint for space in store.spaces()})


def prunable(
    store: Store,
    *,
    needed: Rows | None = None,
    everything: bool = False,
    now: float | None = None,
) -> list[Removal]:
    """What may be deleted from a store, by space; nothing is touched yet.

    Args:
        store: that may be written to meanwhile.
        needed: the rows to keep; None keeps all. Text embeddings are kept in any case: no receipt
            names them, and they are small.
        everything: take files younger than a day too; only safe while nothing runs.
        now: seconds since the epoch; default: the present.

    Raises:
        StoreError: the store cannot be read.
    """
    newest = float("inf") if everything else (time.time() if now is None else now) - DAY
    # files before entries: what is published in between then counts as published
    files = _list(store, "")
    by_space: dict[str, list[Listed]] = {}
    for file in files:
        parts = file.name.split("/")
        by_space.setdefault(parts[1] if parts[0] == "spaces" else "", []).append(file)
    found: list[Removal] = []
    for space in store.spaces():
        part = by_space.get(space.fingerprint, [])
        for label, why, group in _prunable(store, space, part, needed):
            found += _removals(label, why, group, newest)
    for file in by_space.get("", []):
        if file.name.endswith(".part"):
            found += _removals("store", "unpublished", [file], newest)
    return found


def _prunable(
    store: Store, space: Space, files: Iterable[Listed], needed: Rows | None
) -> Iterator[tuple[str, Reason, list[Listed]]]:
    """Label, reason and files of what nobody reads, whatever its age."""
    segments: dict[str, list[Listed]] = {}
    index: dict[str, list[Listed]] = {}
    for file in files:
        _, _, kind, *rest = file.name.split("/")
        if kind == "segments" and rest[0]:
            segments.setdefault(rest[0], []).append(file)
        elif kind.endswith(".part") or (kind == "index" and rest[0]):
            index[file.name] = [file]
    keep_all = needed is None or space.description.get("kind") == "text"
    keep = frozenset(() if needed is None else needed.get(space.fingerprint, ()))
    # rows of other machines may differ in their last bits: only equal ones replace each other
    served: set[tuple[str, int]] = set()
    for entry in store.entries(space):
        segment = str(entry["segment"])
        entry_file = f"{store.folder(space)}/index/{segment}.json"
        group = [*index.pop(entry_file, ()), *segments.pop(segment, ())]
        rows = set(zip(entry["keys"], entry["crc"], strict=True))
        new = rows - served
        if new if keep_all else new & keep:
            served |= rows
        else:
            yield space.label, "unused" if new else "duplicate", group
    for group in (*segments.values(), *index.values()):
        yield space.label, "unpublished", group


def _removals(label: str, why: Reason, files: Sequence[Listed], newest: float) -> Iterator[Removal]:
    """The removal of some files, unless one of them is too young."""
    if files and max(file.changed for file in files) <= newest:
        names = tuple(file.name for file in files)
        yield Removal(label, why, names, sum(file.bytes for file in files))


def remove(store: Store, removals: Iterable[Removal]) -> None:
    """Delete what :func:`prunable` found.

    Raises:
        StoreError: the system refuses.
    """
    try:
        # entries first and in one go, since an object store takes many names at once
        names = [removal.names for removal in removals]
        store.files.delete([part[0] for part in names])
        store.files.delete([name for part in names for name in part[1:]])
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be deleted: {reason(error)}") from None


def needed_rows(projects: Iterable[Path] = (Path(),)) -> dict[str, set[tuple[str, int]]]:
    """Keys and checksums by fingerprint of all rows that the receipts of some projects name.

    Raises:
        StoreError: a receipt is missing or damaged, so that nobody knows what is needed.
    """
    needed: dict[str, set[tuple[str, int]]] = {}
    for project in projects:
        for artefact in ARTEFACTS:
            if artefact.receipt:
                receipt = read_receipt(artefact, project)
                for label, space in receipt.spaces.items():
                    needed.setdefault(space.fingerprint, set()).update(receipt.rows[label].items())
    return needed


def lost_rows(store: Store) -> list[tuple[Path, str]]:
    """Receipts of this folder's project whose rows are not all in the store, and a line on each.

    Raises:
        StoreError: the store cannot be read.
    """
    found = []
    for artefact in ARTEFACTS:
        if artefact.receipt and artefact.path.is_file():
            receipt: Receipt = read_receipt(artefact)
            for label in receipt.spaces:
                try:
                    receipt.located(store, label).check()
                except DamagedSegmentError as error:
                    found.append((artefact.path, str(error)))
    return found


def void_receipts(store: Store) -> list[Path]:
    """Delete receipts of this folder's project whose rows are not in the store; which ones.

    ``dvc repro`` then computes these rows again.
    """
    voided = list(dict.fromkeys(path for path, _ in lost_rows(store)))
    for path in voided:
        path.unlink()
    return voided
