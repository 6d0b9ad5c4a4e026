"""The feature store: immutable zarr segments, found through index entries that are written last.

Layout below the root, a folder or a URL::

    store.json                              schema version
    spaces/<fingerprint>/space.json         what the space's rows are
    spaces/<fingerprint>/segments/<id>/     one zarr array (rows, *shape), written once by one task:
                                            a single uncompressed chunk, so that its file is the rows
    spaces/<fingerprint>/index/<id>.json    keys and the rows' checksums; publishes the segment

A kill at any moment leaves at worst a segment without an entry, or an entry that is cut short:
both are ignored. Two writers of the same row leave two segments: either serves. Nothing is renamed
or edited, so that an object store serves as well as a folder.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from cache.entries import (
    ENTRY_BYTES,
    STORE_SCHEMA,
    Entry,
    check_schema,
    decode_entry,
    encode_entry,
)
from cache.files import Location, reason
from cache.index import Index, Preference
from cache.layout import RowLocation, Space, adjacent_rows, plan_reads
from cache.location import open_files
from cache.segment import (
    MALFORMED,
    TEXT_BYTES,
    DamagedSegmentError,
    aligned_empty,
    as_bytes,
    check_metadata,
    checked_rows,
    checksum,
    data_name,
    metadata_of,
    truncated_segments,
)
from fade.errors import StoreError, counted, refusal, summarise

log = logging.getLogger("fade")

_ENTRY = re.compile(r"[0-9a-f]{32}\.json")
_FINGERPRINT = re.compile(r"[0-9a-f]{40}")


class Store:
    """A store below a folder or a URL. Opening is cheap; nothing is created before the first write.

    Raises:
        StoreError: it holds a store of another schema version, or cannot be reached.
        ParameterError: a URL that cannot be opened.

    Examples:
        >>> store, space = Store("memory://example"), Space("cls", {"model": "ViT-B-16"}, (2,), "float32")
        >>> store.register(space)
        >>> _ = store.write(space, ["a", "b"], np.array([[1, 2], [3, 4]]))
        >>> store.read(space, [store.index(space)["b"]]).tolist()
        [[3.0, 4.0]]
    """

    def __init__(self, root: Location) -> None:
        self.files = open_files(root)
        self.root = self.files.location
        self._read_entries: dict[str, Entry] = {}
        try:
            check_schema(self.files.read("store.json", TEXT_BYTES), self.root)
        except FileNotFoundError:
            return
        except (OSError, *MALFORMED) as error:
            said = reason(error) if isinstance(error, OSError) else str(error)
            raise StoreError(
                f"{self.root}/store.json cannot be read ({said}): delete it and run again (entries of "
                "another version are told apart without it), or choose another features.store"
            ) from None

    def folder(self, space: Space) -> str:
        """Where a space's files lie below the root."""
        return f"spaces/{space.fingerprint}"

    def register(self, space: Space) -> None:
        """Write the space's description, if it is not there."""
        described = f"{self.folder(space)}/space.json"
        with self._writing():
            if not self.files.exists("store.json"):
                self._write_json("store.json", {"schema": STORE_SCHEMA})
            if not self.files.exists(described):
                self._write_json(described, space.to_json(), indent=1)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn refusals to write into a line about the store."""
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot write to the store at {self.root}: {self.describe_error(error)}: fix this or "
                "set features.store to another place, and run again; what was stored before is kept"
            ) from None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn refusals to read into a line about the store (StoreError)."""
        try:
            yield
        except OSError as error:
            raise StoreError(f"the store at {self.root} cannot be read: {reason(error)}") from None

    def _write_json(self, name: str, content: Any, **style: Any) -> None:
        self.files.write(name, json.dumps(content, **style).encode())

    def prepare(self, lacking: Mapping[Space, int]) -> None:
        """Register the spaces that rows will be written to.

        A store that takes none is refused now, before hours of work.

        Args:
            lacking: how many rows each space lacks.

        Raises:
            StoreError: rows are lacking and cannot be written.
        """
        spaces = [space for space, count in lacking.items() if count]
        if not spaces:
            return
        if refused := self.write_error():
            lacks = summarise([f"{counted(lacking[s], 'row')} of {s.label}" for s in spaces], ", ")
            raise StoreError(
                f"the store at {self.root} lacks {lacks} and cannot be written to ({refused}): get the "
                "right to write there, let someone who has it run this, or set features.store to a "
                "store of your own"
            )
        for space in spaces:
            self.register(space)

    def write_error(self) -> str | None:
        """Why nothing can be written, found by trying; None if something can."""
        probe = f"{uuid.uuid4().hex}.part"  # goes with `fade cache prune`, should it stay
        try:
            self.files.write(probe, b"")
        except OSError as error:
            return self.describe_error(error)
        with suppress(OSError):  # some stores let nobody delete
            self.files.delete([probe])
        return None

    def describe_error(self, error: OSError) -> str:
        """What a refusal says, in our words where the store is a folder."""
        return (not self.files.remote and refusal(error)) or reason(error)

    def index(
        self, space: Space, prefer: Preference | None = None, without: Collection[str] = ()
    ) -> Index:
        """All published rows of a space by key.

        Entries that were cut short are not published. Of duplicates one that is preferred serves,
        else the first by name: writers on other machines may have computed other last bits.

        Args:
            prefer: says of which rows with some checksums duplicates are preferred.
            without: segments to leave out.

        Raises:
            StoreError: the index cannot be read.
        """
        return Index.build((e for e in self.entries(space) if e.segment not in without), prefer)

    def readable(self, space: Space) -> Index:
        """The index without rows whose segment is gone or truncated; no row is read, nothing changed.

        Raises:
            StoreError: the store cannot be read.
        """
        return self._readable(space)[0]

    def repair(self, space: Space) -> Index:
        """Remove from the index all segments that are gone or truncated; what is left of it.

        For planning what to compute: a half copy of a store leaves entries of such segments, and one
        run then computes all their rows. What was removed is logged. Who may not write to the store
        goes without these rows and leaves the entries where they are.

        Raises:
            StoreError: the store cannot be read.
        """
        index, truncated = self._readable(space)
        removed = []
        for segment in sorted(truncated):
            with suppress(OSError):
                self.withdraw(space, segment)
                removed.append(segment)
        if removed:
            log.warning(
                "store %s: removed from the index, since gone or truncated: %s of %s; their rows are "
                "computed again where they are needed: %s",
                self.root, counted(len(removed), "segment"), space.label, summarise(removed),
            )  # fmt: skip
        return index

    def _readable(self, space: Space) -> tuple[Index, set[str]]:
        """The index without truncated segments, and which these are."""
        rows: dict[str, int] = {}

        def counted() -> Iterator[Entry]:
            for entry in self.entries(space):
                rows[entry.segment] = len(entry.keys)
                yield entry

        index = Index.build(counted())
        with self.reading():
            truncated = truncated_segments(
                self.files, f"{self.folder(space)}/segments", space, rows
            )
        return (self.index(space, without=truncated) if truncated else index), truncated

    def entries(self, space: Space) -> Iterator[Entry]:
        """The index entries that publish segments, by name: those that are whole.

        Raises:
            StoreError: the index cannot be read.
        """
        folder = f"{self.folder(space)}/index"
        with self.reading():
            names = filter(_ENTRY.fullmatch, self.files.names(folder).files)
            yield from filter(
                None, self.files.map(self._entry, [f"{folder}/{name}" for name in names])
            )

    def _entry(self, name: str) -> Entry | None:
        """An index entry, or None if it is gone, was cut short, is damaged or is no entry at all."""
        if name in self._read_entries:
            return self._read_entries[name]
        try:
            found = decode_entry(self.files.read(name, ENTRY_BYTES))
        except (FileNotFoundError, *MALFORMED):
            return None
        if not name.endswith(f"/{found.segment}.json"):
            return None
        if self.files.remote:  # it never changes, and asking again takes long
            self._read_entries[name] = found
        return found

    def write(self, space: Space, keys: Sequence[str], rows: np.ndarray) -> list[RowLocation]:
        """Write one segment and publish it.

        Args:
            space: registered before.
            keys: one for each row.
            rows: (len(keys), *space.shape), cast to the space's type.

        Returns:
            Where each row lies; nothing is written for no rows.

        Raises:
            StoreError: shape or type mismatch, values that are not finite, no room or no permission.
        """
        data = checked_rows(space, keys, rows)
        if not keys:
            return []
        segment = uuid.uuid4().hex
        folder = f"{self.folder(space)}/segments/{segment}"
        metadata = metadata_of(data.shape, data.dtype.name)
        with self._writing():
            self.files.write(f"{folder}/{data_name(data.ndim)}", as_bytes(data))
            self.files.write(f"{folder}/zarr.json", metadata)
            locations = [
                RowLocation(segment, row, checksum(values)) for row, values in enumerate(data)
            ]
            entry = encode_entry(segment, keys, [location.crc for location in locations])
            self.files.write(f"{self.folder(space)}/index/{segment}.json", entry)
        return locations

    def read(self, space: Space, locations: Sequence[RowLocation]) -> np.ndarray:
        """Rows at the given locations, in their order: (len(locations), *shape) of the space's type.

        Neighbouring rows of a segment are read together.

        Raises:
            DamagedSegmentError: a segment is damaged or gone; see :meth:`repairing`.
            StoreError: the store cannot be reached.
        """
        out = aligned_empty((len(locations), *space.shape), np.dtype(space.dtype))
        rows: dict[str, int] = {}
        for location in locations:
            rows[location.segment] = max(rows.get(location.segment, 0), location.row + 1)

        def check(segment: str) -> None:
            with self._damage_named(space, segment):
                file = f"{self.folder(space)}/segments/{segment}/zarr.json"
                check_metadata(self.files.read(file, TEXT_BYTES), space, rows[segment])

        def read(piece: tuple[int, int]) -> None:
            start, stop = piece
            self._read_piece(space, locations[start:stop], out[start:stop])

        for _ in self.files.map(check, rows):
            pass
        for _ in self.files.map(read, plan_reads(locations, space.row_bytes, self.files.at_once)):
            pass
        return out

    def _read_piece(self, space: Space, locations: Sequence[RowLocation], out: np.ndarray) -> None:
        """Rows of one segment into ``out``, checked while they are still in the cache."""
        segment = locations[0].segment
        pieces = [
            (locations[start].row * space.row_bytes, as_bytes(out[start:stop]))
            for start, stop in adjacent_rows(locations)
        ]
        file = f"{self.folder(space)}/segments/{segment}/{data_name(out.ndim)}"
        with self._damage_named(space, segment):
            self.files.read_into(file, pieces)
            for row, location in zip(out, locations, strict=True):
                if checksum(row) != location.crc:
                    raise ValueError(f"row {location.row} has another checksum")

    @contextmanager
    def _damage_named(self, space: Space, segment: str) -> Iterator[None]:
        """Tell a damaged segment from a store that cannot be reached."""
        try:
            yield
        except OSError as error:
            if error.errno not in (None, errno.ENOENT, errno.ENOTDIR):
                raise StoreError(
                    f"segment {segment} of {space.label} in {self.root} cannot be read: {reason(error)}"
                ) from None
            raise self._damaged(space, segment, "it is not there, or no plain file") from None
        except MALFORMED as error:
            said = str(error) or type(error).__name__
            raise self._damaged(space, segment, said.splitlines()[0]) from None

    def _damaged(self, space: Space, segment: str, said: str) -> DamagedSegmentError:
        return DamagedSegmentError(
            f"segment {segment} of {space.label} in {self.root} is damaged ({said})",
            "`fade cache verify --repair` removes it from the index, then `fade run` computes its rows "
            "again",
            space,
            segment,
        )

    @contextmanager
    def repairing(self) -> Iterator[None]:
        """Remove from the index a segment that proves damaged, so that the next run computes its rows.

        Raises:
            DamagedSegmentError: the same, and what was done.
        """
        try:
            yield
        except DamagedSegmentError as error:
            if error.space is None or error.segment is None:
                raise
            advice = (
                "it was removed from the index; run again and its rows are computed anew "
                "(`fade cache verify` looks for more)"
            )
            try:
                self.withdraw(error.space, error.segment)
            except OSError as refused:
                advice = f"delete {refused.filename} ({reason(refused)}) and run again"
            raise DamagedSegmentError(error.fault, advice) from None

    def withdraw(self, space: Space, segment: str) -> None:
        """Remove a segment from the index; its files stay until the store is pruned."""
        name = f"{self.folder(space)}/index/{segment}.json"
        self.files.delete([name])
        self._read_entries.pop(name, None)

    def spaces(self) -> list[Space]:
        """All spaces of the store, by fingerprint; damaged descriptions are left out.

        Raises:
            StoreError: the store cannot be read.
        """

        def described(name: str) -> Space | None:
            try:
                content = self.files.read(f"spaces/{name}/space.json", TEXT_BYTES)
                space = Space.from_json(json.loads(content))
            except (FileNotFoundError, NotADirectoryError, *MALFORMED):
                return None
            return space if space.fingerprint == name else None

        with self.reading():
            names = filter(_FINGERPRINT.fullmatch, self.files.names("spaces").folders)
            return [space for space in self.files.map(described, names) if space]
