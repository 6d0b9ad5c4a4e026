"""Receipts: small tables that vouch for rows of the store, for DVC to track in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.layout import Location, Space
from cache.store import DamagedSegmentError, Store
from fade.errors import StoreError
from pipeline.paths import Artefact
from pipeline.tables import read_table, write_table


@dataclass(frozen=True)
class Receipt:
    """Which rows a stage left in the store, with their checksums.

    Attributes:
        path: of the file.
        spaces: by label.
        rows: for each label, checksum by key.
        against: of score components: by label and category (and trial), what the images were
            compared with, the second part of their keys.
    """

    path: Path
    spaces: Mapping[str, Space]
    rows: Mapping[str, Mapping[str, int]]
    against: Mapping[str, Any]

    def space(self, label: str) -> Space:
        """The space of a label.

        Raises:
            StoreError: the receipt has none, being of other parameters.
        """
        if label not in self.spaces:
            raise StoreError(
                f"{self.path} knows no {label}: run `dvc repro` to bring it up to date"
            )
        return self.spaces[label]

    def locate(self, store: Store, label: str, keys: Iterable[str]) -> dict[str, Location]:
        """Where the rows of some keys lie.

        Raises:
            DamagedSegmentError: rows are gone or changed.
        """
        space = self.space(label)
        known = self.rows[label]
        index = store.index(space, known)
        found = {key: index.get(key) for key in dict.fromkeys(keys)}
        lost = [
            key
            for key, location in found.items()
            if location is None or location.crc != known.get(key)
        ]
        if lost:
            raise DamagedSegmentError(
                f"{len(lost)} of {len(found)} rows of {label} are gone from the store at {store.root} "
                f"or differ from {self.path}: run `dvc repro` again and they are computed anew"
            )
        return {key: location for key, location in found.items() if location is not None}

    @contextmanager
    def void_if_damaged(self) -> Iterator[None]:
        """Remove the receipt when its rows prove lost, so that ``dvc repro`` computes them again."""
        try:
            yield
        except DamagedSegmentError:
            self.path.unlink(missing_ok=True)
            raise


def write_receipt(
    artefact: Artefact,
    store: Store,
    needed: Mapping[Space, Sequence[str]],
    against: Mapping[str, Any] | None = None,
) -> None:
    """Write the receipt of a stage, in an order that depends on nothing but its content.

    Args:
        artefact: the receipt.
        store: where the rows lie.
        needed: keys of each space.
        against: see :class:`Receipt`.

    Raises:
        StoreError: a row is not there.
    """
    import pandas as pd

    labels: list[str] = []
    keys: list[str] = []
    crcs: list[int] = []
    for space in sorted(needed, key=lambda s: s.label):
        index = store.index(space)
        for key in sorted(set(needed[space])):
            if key not in index:
                raise StoreError(
                    f"a row of {space.label} that was just written is not in the store at "
                    f"{store.root}: was it pruned meanwhile? run again"
                )
            labels.append(space.label)
            keys.append(key)
            crcs.append(index[key].crc)
    frame = pd.DataFrame(
        {
            "space": pd.Series(labels, dtype="str"),
            "key": pd.Series(keys, dtype="str"),
            "crc": pd.Series(crcs, dtype="uint32"),
        }
    )
    described = [space.to_json() for space in sorted(needed, key=lambda s: s.label)]
    write_table(frame, artefact.path, spaces=described, against=dict(against or {}))


def read_receipt(artefact: Artefact, root: Path = Path()) -> Receipt:
    """Read a receipt of the project in a folder.

    Raises:
        StoreError: missing, damaged or of another schema version.
    """
    path = root / artefact.path
    frame, remarks = read_table(path)
    try:
        spaces = [Space.from_json(content) for content in remarks["spaces"]]
        rows = {
            str(label): dict(zip(part["key"], (int(c) for c in part["crc"]), strict=True))
            for label, part in frame.groupby("space", sort=False)
        }
        return Receipt(
            path,
            {space.label: space for space in spaces},
            {space.label: rows.get(space.label, {}) for space in spaces},
            remarks["against"],
        )
    except (KeyError, TypeError, ValueError):
        raise StoreError(f"{path} is no receipt: delete it and run `dvc repro`") from None
