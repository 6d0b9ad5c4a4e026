"""Receipts: small tables that vouch for rows of the store, for DVC to track in their place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.index import Checksums, Index, Preference, RowLocations
from cache.keys import Keys
from cache.layout import RowLocation, Space
from cache.segment import DamagedSegmentError
from cache.store import Store
from fade.errors import StoreError, counted
from pipeline.artefacts.catalogue import ARTEFACTS, STREAMED, Artefact
from pipeline.artefacts.parameters import LOCK_FILE, dvc_hash, noted_hashes, stages_of
from pipeline.artefacts.tables import GROUP_ROWS, table_columns, table_parts, table_writer
from pipeline.process.memory import trim_heap

_REPAIR = (
    "`fade cache verify --repair` deletes receipts whose rows are gone, then `fade run` computes "
    "them again"
)
"""Remedy that errors name where nothing was repaired yet."""


def _read_parts(path: Path, label: str) -> Iterator[tuple[Keys, NDArray[np.uint32]]]:
    for part in table_parts(path, ("key", "crc"), space=label):
        try:
            keys = Keys.of(part["key"].to_pylist())
        except AttributeError:  # an empty cell, or bytes
            raise _no_receipt(path) from None
        yield keys, part["crc"].to_numpy()


def _no_receipt(path: Path) -> StoreError:
    return StoreError(f"{path} is no receipt: delete it and run `fade run`")


@dataclass(frozen=True)
class Located:
    """The rows of one label that a receipt vouches for, found in the store.

    Attributes:
        receipt: path of its file.
        valid: (n,) for each row of the index whether the receipt has it, with the same checksum.
        lost: rows of the receipt that the index does not have so.
    """

    receipt: Path
    store: Path | str
    space: Space
    index: Index
    valid: NDArray[np.bool_]
    lost: int

    def is_covered(self, keys: Iterable[str]) -> NDArray[np.bool_]:
        """For each key whether the receipt knows its row and the store has it."""
        return self._positions(keys) >= 0

    def locations(self, keys: Iterable[str]) -> RowLocations:
        """Where the rows of some keys lie, in their order.

        Raises:
            DamagedSegmentError: rows are gone or changed.
        """
        return self.locations_iter([keys])

    def locations_iter(self, parts: Iterable[Iterable[str]]) -> RowLocations:
        """The same of several parts one after the other, of whose keys one's are held at a time."""
        at = np.concatenate([np.zeros(0, np.intp), *map(self._positions, parts)])
        gone = np.count_nonzero(at < 0)
        if gone:
            raise self._gone(gone, len(at))
        return self.index.locations.take(at)

    def _positions(self, keys: Iterable[str]) -> NDArray[np.intp]:
        """For each key the row of the index that the receipt vouches for; -1 where there is none."""
        at = self.index.sorted_keys.get_indexer(keys)
        known = at >= 0
        known[known] = self.valid[at[known]]
        at[~known] = -1
        return at

    def check(self) -> Located:
        """Itself, if no row of the receipt is gone or changed.

        Raises:
            DamagedSegmentError: some are.
        """
        if self.lost:
            raise self._gone(self.lost, self.lost + np.count_nonzero(self.valid))
        return self

    def _gone(self, lost: int | np.integer, total: int | np.integer) -> DamagedSegmentError:
        return DamagedSegmentError(
            f"the store at {self.store} lacks {lost} of {counted(int(total), 'row')} of "
            f"{self.space.label}, or has others than {self.receipt} tells",
            _REPAIR,
        )


class _RowsByLabel(Mapping[str, Checksums]):
    """Checksums of a receipt's labels, each read when it is asked for, then kept."""

    def __init__(self, path: Path, labels: Iterable[str]) -> None:
        self._path = path
        self._rows: dict[str, Checksums | None] = dict.fromkeys(labels)

    def __getitem__(self, label: str) -> Checksums:
        rows = self._rows[label]
        if rows is None:
            parts = list(_read_parts(self._path, label))
            crcs = [crc for _, crc in parts] or [np.zeros(0, np.uint32)]
            rows = Checksums(Keys.join([keys for keys, _ in parts]), np.concatenate(crcs))
            self._rows[label] = rows
        return rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@dataclass(frozen=True)
class Receipt:
    """Which rows a stage left in the store, with their checksums.

    Attributes:
        spaces: by label.
        rows: for each label, checksum by key.
        compared_with: of score components: by label and category (and trial), what the images were
            compared with, the second part of their keys.
    """

    path: Path
    root: Path
    spaces: Mapping[str, Space]
    rows: Mapping[str, Checksums]
    compared_with: Mapping[str, Any]

    def space(self, label: str) -> Space:
        """The space of a label.

        Raises:
            StoreError: the receipt has none, being of other parameters.
        """
        if label not in self.spaces:
            raise StoreError(f"{self.path} knows no {label}: run `fade run` to bring it up to date")
        return self.spaces[label]

    def located(self, store: Store, label: str, without: Collection[str] = ()) -> Located:
        """The rows of a label, found in the store or known to be lost.

        Args:
            store: that is looked into.
            without: segments that do not count.
        """
        space = self.space(label)
        index = store.index(space, self._knows(label), without)
        valid = np.zeros(len(index), bool)
        lost = 0
        for keys, crcs in _read_parts(self.path, label):
            at = index.sorted_keys.get_indexer(keys)
            there = at >= 0
            there[there] = index.locations.crcs[at[there]] == crcs[there]
            valid[at[there]] = True
            lost += int(np.count_nonzero(~there))
        return Located(self.path, store.root, space, index, valid, lost)

    def _knows(self, label: str) -> Preference:
        """Whether rows of a label are those of the receipt; it is read again when that is asked."""

        def known(keys: Keys, crcs: NDArray[np.uint32]) -> NDArray[np.bool_]:
            rows = self.rows[label]
            at = rows.sorted_keys.get_indexer(keys)
            there = at >= 0
            there[there] = rows.crcs[at[there]] == crcs[there]
            return there

        return known

    def locate(self, store: Store, label: str, keys: Iterable[str]) -> dict[str, RowLocation]:
        """Where the rows of a few keys lie, by key.

        Raises:
            DamagedSegmentError: rows are gone or changed.
        """
        distinct = list(dict.fromkeys(keys))
        return dict(zip(distinct, self.located(store, label).locations(distinct), strict=True))

    @contextmanager
    def discard_on_damage(self, store: Store) -> Iterator[None]:
        """Remove the receipt when its rows prove lost, so that the next run computes them again.

        A segment that proved damaged leaves the index. Other receipts whose rows are lost are removed
        as well: one more run then repairs a store that was copied half, where each stage would else
        find out for itself.
        """
        try:
            with store.repairing():
                yield
        except DamagedSegmentError as error:
            self.path.unlink(missing_ok=True)
            with suppress(StoreError):
                discard_receipts(store, self.root)
            if error.advice == _REPAIR:
                advice = "run `fade run` again and they are computed anew"
                raise DamagedSegmentError(error.fault, advice) from None
            raise


def write_receipt(
    artefact: Artefact,
    store: Store,
    needed: Mapping[Space, Iterable[str] | Callable[[], Iterable[str]]],
    compared_with: Mapping[str, Any] | None = None,
) -> None:
    """Write the receipt of a stage, in an order that depends on nothing but its content.

    Args:
        needed: keys of each space, or what makes them when it is their turn.
        compared_with: see :class:`Receipt`.

    Raises:
        StoreError: a row is not there.
    """
    trim_heap()  # of the work that ends here
    columns = {"space": "string", "key": "string", "crc": "uint32"}
    spaces = sorted(needed, key=lambda space: space.label)
    described = [space.to_json() for space in spaces]
    remarks = {"spaces": described, "against": dict(compared_with or {})}
    with table_writer(artefact.path, columns, **remarks) as write:
        for space in spaces:
            given = needed[space]
            keys = Keys.of(given() if callable(given) else given).distinct()
            locations, found = store.index(space).find(keys)
            if not found.all():
                raise StoreError(
                    f"a row of {space.label} that was just written is not in the store at "
                    f"{store.root}: was it pruned meanwhile? run again"
                )
            for start in range(0, len(keys), GROUP_ROWS):
                part = list(keys[start : start + GROUP_ROWS])
                crcs = locations.crcs[start : start + GROUP_ROWS]
                write({"space": [space.label] * len(part), "key": part, "crc": crcs})


def read_receipt(artefact: Artefact, root: Path = Path()) -> Receipt:
    """Read a receipt of the project in a folder.

    Raises:
        StoreError: missing, damaged or of another schema version.
    """
    path = root / artefact.path
    columns, remarks = table_columns(path)
    try:
        if not {"space", "key", "crc"} <= set(columns):
            raise KeyError
        spaces = {space.label: space for space in map(Space.from_json, remarks["spaces"])}
        return Receipt(
            path, root, spaces, _RowsByLabel(path.absolute(), spaces), remarks["against"]
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _no_receipt(path) from None


def check_receipts(root: Path = Path()) -> None:
    """Refuse receipts of another run than the one that dvc.lock notes.

    DVC keeps no copy of a receipt, so that ``dvc exp apply`` and ``dvc checkout`` bring the results of
    another run, and leave the receipts of the last one. Receipts that are missing, or that dvc.lock
    does not name, are passed over.

    Args:
        root: of the project.

    Raises:
        StoreError: with what to run.
    """
    noted: dict[str, Any] = {}
    for entry in stages_of(root / LOCK_FILE).values():
        noted |= noted_hashes(entry)
    for artefact in ARTEFACTS:
        path, digest = root / artefact.path, noted.get(artefact.path.as_posix())
        if artefact.receipt and digest and path.is_file() and dvc_hash(path) != digest:
            raise StoreError(
                f"{path} is of another run than {root / LOCK_FILE} (`dvc exp apply` and `dvc checkout` "
                "leave receipts as they are): run `fade run`, which makes it anew"
            )


def needed_rows(projects: Iterable[Path] = (Path(),)) -> dict[str, list[Checksums]]:
    """Keys and checksums by fingerprint of all rows that the receipts of some projects name.

    Raises:
        StoreError: a receipt is missing, damaged or of another run, so that nobody knows what is
            needed.
    """
    needed: dict[str, list[Checksums]] = {}
    for project in projects:
        check_receipts(project)
        for artefact in ARTEFACTS:
            if artefact.receipt:
                receipt = read_receipt(artefact, project)
                for label, space in receipt.spaces.items():
                    needed.setdefault(space.fingerprint, []).append(receipt.rows[label])
    return needed


def lost_rows(
    store: Store, root: Path = Path(), damaged: Mapping[str, Collection[str]] | None = None
) -> list[tuple[Path, str]]:
    """Receipts of a project whose rows are not all in the store, and a line on each.

    Args:
        store: that is looked into; nothing in it changes.
        damaged: segments whose rows are as good as lost, by fingerprint of their space.

    Raises:
        StoreError: the store cannot be read.
    """
    found = []
    for receipt in _receipts(root):
        for label in receipt.spaces:
            try:
                without = (damaged or {}).get(receipt.space(label).fingerprint, ())
                receipt.located(store, label, without).check()
            except DamagedSegmentError as error:
                found.append((receipt.path, str(error)))
    return found


def _receipts(root: Path) -> Iterator[Receipt]:
    """Those that a project has."""
    for artefact in ARTEFACTS:
        if artefact.receipt and (root / artefact.path).is_file():
            yield read_receipt(artefact, root)


def discard_receipts(store: Store, root: Path = Path()) -> list[Path]:
    """Delete receipts of a project whose rows are not in the store; which ones.

    The next run then computes these rows again. Segments that are gone or truncated leave the index.

    Raises:
        StoreError: the store cannot be read.
    """
    for receipt in _receipts(root):
        for space in receipt.spaces.values():
            store.repair(space)
    discarded = list(dict.fromkeys(path for path, _ in lost_rows(store, root)))
    for path in discarded:
        path.unlink()
    return discarded


def check_streamed(store: Store, lacking: int) -> None:
    """Refuse to go on without components of images whose features nobody kept.

    Raises:
        DamagedSegmentError: some are lacking; the receipt of the stream stage is then removed.
    """
    with read_receipt(STREAMED).discard_on_damage(store):
        if lacking:
            raise DamagedSegmentError(
                f"{counted(lacking, 'row', 'is')} gone from the store, and features.keep is false: "
                "there are no features to make them from",
                "run `fade run` again and they are computed anew",
            )
