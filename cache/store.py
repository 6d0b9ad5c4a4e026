"""The feature store: immutable zarr segments, found through index entries that are written last.

Layout below the root::

    store.json                              schema version
    spaces/<fingerprint>/space.json         what the space's rows are
    spaces/<fingerprint>/segments/<id>/     one zarr array (rows, *shape), written once by one task:
                                            a single uncompressed chunk, so that its file is the rows
    spaces/<fingerprint>/index/<id>.json    keys and the rows' checksums; publishes the segment

A kill at any moment leaves at worst a segment without an entry, or an entry that is cut short:
both are ignored. Two writers of the same row leave two segments: either serves.
"""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache.layout import Location, Space, fingerprint
from fade.errors import StoreError, refusal

SCHEMA = 2
READ_BYTES = 4 << 20
"""Read at once, before checksums are taken."""
CHECKED = 1 << 17
"""Values checked at once."""
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading JSON of another form raises."""
_ENTRY = re.compile(r"[0-9a-f]{32}\.json")


class DamagedSegmentError(StoreError):
    """Rows that were published cannot be read back; they are no longer in the index."""


class Store:
    """A store below a folder. Opening is cheap; nothing is created before the first write.

    Raises:
        StoreError: the folder holds a store of another schema version.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        marker = self.root / "store.json"
        try:
            found = json.loads(marker.read_text(encoding="utf-8")).get("schema")
        except FileNotFoundError:
            return
        except (OSError, ValueError, AttributeError) as error:
            raise StoreError(
                f"{marker} cannot be read ({error}): delete it and run again (entries of another "
                "version are told apart without it), or choose another features.store"
            ) from None
        if found != SCHEMA:
            raise StoreError(
                f"the store at {self.root} has schema version {found}, this program reads "
                f"{SCHEMA}: set features.store to another folder or install the matching version"
            )

    def folder(self, space: Space) -> Path:
        """Where a space's files lie."""
        return self.root / "spaces" / space.fingerprint

    def register(self, space: Space) -> None:
        """Create the space's folders and description, if they are not there."""
        folder = self.folder(space)
        with _explained(self.root):
            for part in ("segments", "index"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            if not (self.root / "store.json").exists():
                _write_text(self.root / "store.json", json.dumps({"schema": SCHEMA}))
            if not (folder / "space.json").exists():
                _write_text(folder / "space.json", json.dumps(space.to_json(), indent=1))

    def index(self, space: Space) -> dict[str, Location]:
        """All published rows of a space by key.

        Entries that were cut short are not published. Of duplicates the first by name serves.

        Raises:
            StoreError: the operating system refuses to read the index.
        """
        return _rows(self.entries(space))

    def entries(self, space: Space) -> list[Mapping[str, Any]]:
        """The index entries that publish segments, by name: those that are whole.

        Raises:
            StoreError: the operating system refuses to read the index.
        """
        folder = self.folder(space) / "index"
        try:
            names = sorted(filter(_ENTRY.fullmatch, os.listdir(folder)))
            read = [_read_entry(folder / name) for name in names]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"the store's index cannot be read: {error}") from None
        return [entry for entry in read if entry]

    def present(self, space: Space) -> dict[str, Location]:
        """The index without rows whose segment is gone or cut short, for planning what to compute.

        A half copy of a store leaves entries of such segments: they are withdrawn here, all at once,
        so that one run computes their rows anew. The rows themselves are not read.

        Raises:
            StoreError: the operating system refuses to read the store or to withdraw an entry.
        """
        data = _data_name(1 + len(space.shape))
        whole = []
        for entry in self.entries(space):
            folder = self.folder(space) / "segments" / entry["segment"]
            needed = len(entry["keys"]) * space.row_bytes
            try:
                _check_metadata(folder / "zarr.json", space, len(entry["keys"]))
                if (folder / data).stat().st_size < needed:
                    raise ValueError("it is cut short")
            except (FileNotFoundError, NotADirectoryError, *_MALFORMED):
                with _explained(self.root):
                    self.withdraw(space, entry["segment"])
            except OSError as error:
                raise StoreError(f"the store's segments cannot be read: {error}") from None
            else:
                whole.append(entry)
        return _rows(whole)

    def write(self, space: Space, keys: Sequence[str], rows: np.ndarray) -> list[Location]:
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
        import zarr

        if rows.shape != (len(keys), *space.shape):
            raise StoreError(
                f"{space.label}: rows of shape {rows.shape} for {len(keys)} keys of shape {space.shape}"
            )
        if not keys:
            return []
        # floats may be rounded, but integers would wrap around without a word
        floats = np.dtype(space.dtype).kind == "f"
        if not np.can_cast(rows.dtype, space.dtype, "same_kind" if floats else "safe"):
            raise StoreError(
                f"{space.label}: rows of type {rows.dtype} cannot be stored as {space.dtype}"
            )
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(rows, dtype=space.dtype)
        if not _finite(data):
            bad = [k for k, row in zip(keys, data, strict=True) if not _finite(row)]
            raise StoreError(
                f"{space.label}: {len(bad)} of {len(keys)} rows hold NaN or infinite values (first: "
                f"{bad[0]}): check the weights and the precision; with features.dtype float16 try float32"
            )
        segment = uuid.uuid4().hex
        folder = self.folder(space)
        file = folder / "segments" / segment / _data_name(data.ndim)
        with _explained(self.root):
            zarr.create_array(
                store=folder / "segments" / segment,
                shape=data.shape,
                dtype=data.dtype,
                chunks=data.shape,
                compressors=None,
                filters=None,
                fill_value=np.nan if data.dtype.kind == "f" else 0,
                zarr_format=3,
                overwrite=False,
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as stream:
                stream.write(data.data)
            locations = [
                Location(segment, row, checksum(values)) for row, values in enumerate(data)
            ]
            entry = {
                "schema": SCHEMA,
                "segment": segment,
                "keys": list(keys),
                "crc": [location.crc for location in locations],
            }
            text = json.dumps({**entry, "digest": fingerprint(entry)}, separators=(",", ":"))
            _write_text(folder / "index" / f"{segment}.json", text)
        return locations

    def read(self, space: Space, locations: Sequence[Location]) -> np.ndarray:
        """Rows at the given places, in their order: (len(locations), *shape) of the space's type.

        Neighbouring rows of a segment are read together.

        Raises:
            DamagedSegmentError: a segment is damaged or gone. It is then taken out of the index, so that
                the next run computes its rows again.
        """
        out = np.empty((len(locations), *space.shape), space.dtype)
        start = 0
        while start < len(locations):
            segment = locations[start].segment
            stop = start + 1
            while stop < len(locations) and locations[stop].segment == segment:
                stop += 1
            self._read_segment(space, segment, locations[start:stop], out[start:stop])
            start = stop
        return out

    def _read_segment(
        self, space: Space, segment: str, places: Sequence[Location], out: np.ndarray
    ) -> None:
        """Rows of one segment into ``out``, checked while they are still in the cache."""
        folder = self.folder(space) / "segments" / segment
        at_once = max(1, READ_BYTES // max(space.row_bytes, 1))
        try:
            _check_metadata(folder / "zarr.json", space, 1 + max(place.row for place in places))
            with (folder / _data_name(out.ndim)).open("rb") as stream:
                start = 0
                while start < len(places):
                    stop = start + 1
                    while (
                        stop < min(len(places), start + at_once)
                        and places[stop].row == places[stop - 1].row + 1
                    ):
                        stop += 1
                    stream.seek(places[start].row * space.row_bytes)
                    block = out[start:stop]
                    if stream.readinto(block.reshape(-1).view(np.uint8).data) != block.nbytes:
                        raise ValueError("it is cut short")
                    for row, place in zip(block, places[start:stop], strict=True):
                        if checksum(row) != place.crc:
                            raise ValueError(f"row {place.row} has another checksum")
                    start = stop
        except OSError as error:
            if error.errno not in (None, errno.ENOENT, errno.ENOTDIR):
                raise StoreError(
                    f"segment {segment} of {space.label} cannot be read: {error}"
                ) from None
            raise self._damaged(space, segment, "it is not there") from None
        except _MALFORMED as error:
            reason = str(error) or type(error).__name__
            raise self._damaged(space, segment, reason.splitlines()[0]) from None

    def _damaged(self, space: Space, segment: str, reason: str) -> DamagedSegmentError:
        advice = (
            "it was taken out of the index; run again and its rows are computed anew "
            "(`fade cache verify` looks for more)"
        )
        try:
            self.withdraw(space, segment)
        except OSError as error:
            advice = f"delete {error.filename} ({error.strerror}) and run again"
        return DamagedSegmentError(
            f"segment {segment} of {space.label} in {self.root} is damaged ({reason}): {advice}"
        )

    def withdraw(self, space: Space, segment: str) -> None:
        """Take a segment out of the index; its files stay until the store is pruned."""
        (self.folder(space) / "index" / f"{segment}.json").unlink(missing_ok=True)

    def spaces(self) -> list[Space]:
        """All spaces of the store, by fingerprint; damaged descriptions are left out."""
        found = []
        for file in sorted((self.root / "spaces").glob("*/space.json")):
            try:
                space = Space.from_json(json.loads(file.read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if space.fingerprint == file.parent.name:
                found.append(space)
        return found


def checksum(row: np.ndarray) -> int:
    """CRC-32C of a contiguous row's bytes."""
    import google_crc32c

    return int(google_crc32c.value(np.ascontiguousarray(row)))


def _data_name(dimensions: int) -> str:
    """The file of an array's only chunk."""
    return "/".join(["c", *["0"] * dimensions])


def _check_metadata(file: Path, space: Space, rows: int) -> None:
    """Refuse a segment that is no plain array of at least so many of the space's rows.

    Read here and not by zarr, whose import and asynchronous machinery cost more than the rows.
    """
    meta = json.loads(file.read_text(encoding="utf-8"))
    shape = tuple(meta["shape"])
    if shape[1:] != space.shape or shape[0] < rows:
        raise ValueError(f"it holds {shape}")
    if meta["data_type"] != space.dtype:
        raise ValueError(f"it holds {meta['data_type']}")
    codecs = [codec["name"] for codec in meta["codecs"]]
    if codecs != ["bytes"] or tuple(meta["chunk_grid"]["configuration"]["chunk_shape"]) != shape:
        raise ValueError("it is laid out in another way")


def _finite(values: np.ndarray) -> bool:
    flat = values.reshape(-1)
    pieces = (flat[start : start + CHECKED] for start in range(0, flat.size, CHECKED))
    if values.dtype == np.float16:  # numpy's own test is an order of magnitude slower here
        return not any(((p.view(np.uint16) & 0x7C00) == 0x7C00).any() for p in pieces)
    return all(bool(np.isfinite(piece).all()) for piece in pieces)


def _rows(entries: Iterable[Mapping[str, Any]]) -> dict[str, Location]:
    """The rows that index entries publish, by key; the first of duplicates serves."""
    rows: dict[str, Location] = {}
    for entry in entries:
        segment = entry["segment"]
        for row, (key, crc) in enumerate(zip(entry["keys"], entry["crc"], strict=True)):
            rows.setdefault(key, Location(segment, row, crc))
    return rows


def _write_text(path: Path, text: str) -> None:
    """Write a file that nobody sees half written: a kill would leave a store that none can open."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _read_entry(path: Path) -> Mapping[str, Any] | None:
    """An index entry, or None if it is gone, was cut short, is damaged or is no entry at all."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        digest = entry.pop("digest")
        whole = entry["schema"] == SCHEMA and digest == fingerprint(entry)
        named = entry["segment"] == path.stem and len(entry["keys"]) == len(entry["crc"])
    except (FileNotFoundError, IsADirectoryError):
        return None
    except _MALFORMED:
        return None
    return entry if whole and named else None


class _explained:
    """Turns the operating system's refusals to write into a line about the store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise StoreError(
                f"cannot write to the store at {self.root}: {refusal(error) or error}: mend that or "
                "set features.store to another folder, and run again; what was stored before is kept"
            ) from None
