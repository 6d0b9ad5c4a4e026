"""What the store holds, and whether it can be read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cache.layout import Location, Space
from cache.store import DamagedSegmentError, Store
from fade.errors import StoreError


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
        files = (store.root / "spaces" / space.fingerprint).rglob("*")
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
