"""What the store holds, whether it can be read back, and what may go."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache.layout import Location, Space
from cache.store import DamagedSegmentError, Store
from fade.errors import StoreError
from pipeline.paths import ARTEFACTS
from pipeline.receipts import read_receipt

DAY = 24 * 60 * 60
"""Seconds after which files that nothing names are no longer taken for a running writer's."""

Reason = Literal["unpublished", "duplicate", "unused"]


@dataclass(frozen=True)
class SpaceInfo:
    """One space of the store.

    Attributes:
        label: what its rows are.
        fingerprint: its address.
        rows: published ones, each counted once.
        segments: those that serve the rows.
        bytes: on disk, what was never published included.
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
        rows: that were read and are sound.
        damaged: a line for each damaged segment.
    """

    label: str
    rows: int
    damaged: tuple[str, ...]


def open_store(root: Path) -> Store:
    """The store below a folder that must be there.

    Raises:
        StoreError: there is none, or it is of another schema version.
    """
    if not (root / "store.json").is_file():
        raise StoreError(f"there is no store at {root}: make one with `fade run`, or name it")
    return Store(root)


def describe(store: Store) -> list[SpaceInfo]:
    """All spaces, by label."""
    found = []
    for space in store.spaces():
        places = store.index(space).values()
        files = store.folder(space).rglob("*")
        found.append(
            SpaceInfo(
                space.label,
                space.fingerprint,
                len(places),
                len({place.segment for place in places}),
                sum(file.stat().st_size for file in files if file.is_file()),
            )
        )
    return sorted(found, key=lambda info: (info.label, info.fingerprint))


def verify(store: Store, space: Space) -> SpaceCheck:
    """Read every row that the index offers, segment by segment, and hold it against its checksum.

    The store takes damaged segments out of its index. Rows that another segment then offers instead
    are read too.
    """
    seen: set[Location] = set()
    sound = 0
    damaged: list[str] = []
    while True:
        segments: dict[str, list[Location]] = {}
        for place in store.index(space).values():
            if place not in seen:
                segments.setdefault(place.segment, []).append(place)
        if not segments:
            return SpaceCheck(space.label, sound, tuple(damaged))
        for places in segments.values():
            seen.update(places)
            try:
                store.read(space, sorted(places, key=lambda place: place.row))
            except DamagedSegmentError as error:
                damaged.append(str(error))
            else:
                sound += len(places)


@dataclass(frozen=True)
class Removal:
    """Something of a store that may go.

    Attributes:
        label: of its space.
        reason: ``unpublished``: a segment, entry or part of a file that a killed writer left;
            ``duplicate``: all rows of the segment are served by others; ``unused``: no row of it is
            needed.
        paths: to delete, in this order, so that a kill leaves an unpublished segment at worst.
        bytes: on disk.
    """

    label: str
    reason: Reason
    paths: tuple[Path, ...]
    bytes: int


def prunable(
    store: Store,
    *,
    needed: Mapping[str, Collection[str]] | None = None,
    everything: bool = False,
    now: float | None = None,
) -> list[Removal]:
    """What may be deleted from a store, by space; nothing is touched yet.

    Args:
        store: that may be written to meanwhile.
        needed: keys by fingerprint of the rows to keep; None keeps all rows that are served. Text
            embeddings are kept in any case: no receipt names them, and they are small.
        everything: take files younger than a day too; only safe while nothing runs.
        now: seconds since the epoch; default: the present.
    """
    newest = float("inf") if everything else (time.time() if now is None else now) - DAY
    found = [
        removal for space in store.spaces() for removal in _prunable(store, space, needed, newest)
    ]
    parts = [(part, part.stat()) for part in store.root.glob("*.part")]
    return found + [
        Removal("store", "unpublished", (part,), stat.st_size)
        for part, stat in parts
        if stat.st_mtime <= newest
    ]


def _prunable(
    store: Store, space: Space, needed: Mapping[str, Collection[str]] | None, newest: float
) -> Iterator[Removal]:
    folder = store.folder(space)
    # segments before entries: what is published in between then counts as published
    segments = sorted((folder / "segments").glob("*"))
    published = {str(entry["segment"]) for entry in store.entries(space)}
    served: dict[str, list[str]] = {segment: [] for segment in published}
    for key, place in store.index(space).items():
        served.setdefault(place.segment, []).append(key)
    keep_all = needed is None or space.description.get("kind") == "text"
    keep = frozenset(() if needed is None else needed.get(space.fingerprint, ()))
    for segment in sorted(served):
        keys = served[segment]
        reason: Reason = "unused" if keys else "duplicate"
        if keys and (keep_all or not keep.isdisjoint(keys)):
            continue
        paths = (folder / "index" / f"{segment}.json", folder / "segments" / segment)
        size, changed = _size_and_age(paths)
        if changed <= newest:
            yield Removal(space.label, reason, paths, size)
    entries = (folder / "index").glob("*")
    rest = [segment for segment in segments if segment.name not in served]
    rest += [entry for entry in entries if entry.suffix == ".part" or entry.stem not in served]
    rest += folder.glob("*.part")
    for path in rest:
        size, changed = _size_and_age((path,))
        if changed <= newest:
            yield Removal(space.label, "unpublished", (path,), size)


def _size_and_age(paths: Iterable[Path]) -> tuple[int, float]:
    """Bytes below some paths, and when the youngest file there was last written."""
    size, changed = 0, 0.0
    for path in paths:
        for file in (path, *path.rglob("*")):
            try:
                stat = file.stat()
            except OSError:  # gone meanwhile
                continue
            changed = max(changed, stat.st_mtime)
            size += 0 if file.is_dir() else stat.st_size
    return size, changed


def remove(removals: Iterable[Removal]) -> None:
    """Delete what :func:`prunable` found.

    Raises:
        StoreError: the operating system refuses.
    """
    try:
        for removal in removals:
            for path in removal.paths:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be deleted: {error.strerror}") from None


def needed_rows() -> dict[str, set[str]]:
    """Keys by fingerprint of all rows that the receipts of this folder's project name.

    Raises:
        StoreError: a receipt is missing or damaged, so that nobody knows what is needed.
    """
    needed: dict[str, set[str]] = {}
    for artefact in ARTEFACTS:
        if artefact.receipt:
            receipt = read_receipt(artefact)
            for label, space in receipt.spaces.items():
                needed.setdefault(space.fingerprint, set()).update(receipt.rows[label])
    return needed


def void_receipts(store: Store) -> list[Path]:
    """Delete receipts of this folder's project whose rows are not in the store; which ones.

    ``dvc repro`` then computes these rows again.
    """
    voided = []
    for artefact in ARTEFACTS:
        if not artefact.receipt or not artefact.path.is_file():
            continue
        receipt = read_receipt(artefact)
        try:
            for label in receipt.spaces:
                receipt.located(store, label).check()
        except DamagedSegmentError:
            artefact.path.unlink()
            voided.append(artefact.path)
    return voided
