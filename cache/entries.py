"""Index entries: the JSON that publishes a segment, with its rows' keys and checksums."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache.files import Location
from cache.keys import Keys
from cache.layout import KEY_LENGTH, fingerprint
from fade.errors import StoreError

STORE_SCHEMA = 2
"""Version of the store's files."""
ENTRY_BYTES = 64 << 20
"""Largest size of an index entry, in bytes: some 500,000 keys."""


class Entry(NamedTuple):
    """What an index entry says of a segment.

    Attributes:
        crcs: (n,) uint32, the rows' checksums.
    """

    segment: str
    keys: Keys
    crcs: NDArray[np.uint32]


def check_schema(text: bytes, root: Location) -> None:
    """Refuse the ``store.json`` of a store of another version.

    Raises:
        StoreError: it is of another version.
        ValueError, AttributeError: it is no such file.
    """
    found = json.loads(text).get("schema")
    if found != STORE_SCHEMA:
        raise StoreError(
            f"the store at {root} has schema version {found}, this program reads "
            f"{STORE_SCHEMA}: set features.store to another folder or install the matching version"
        )


def encode_entry(segment: str, keys: Sequence[str], crcs: Sequence[int]) -> bytes:
    """An entry as it is written, with a digest that tells whether it is whole.

    Args:
        crcs: checksums of the rows, see :func:`cache.segment.checksum`.
    """
    entry = {"schema": STORE_SCHEMA, "segment": segment, "keys": list(keys), "crc": list(crcs)}
    return json.dumps({**entry, "digest": fingerprint(entry)}, separators=(",", ":")).encode()


def decode_entry(text: bytes) -> Entry:
    """Inverse of :func:`encode_entry`; the text may come from anyone.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it is no whole entry.
    """
    entry = json.loads(text)
    digest = entry.pop("digest")
    if entry["schema"] != STORE_SCHEMA or digest != fingerprint(entry):
        raise ValueError("it is truncated, or of another schema version")
    keys, crcs = entry["keys"], entry["crc"]
    if not (
        type(keys) is type(crcs) is list
        and len(keys) == len(crcs)
        and all(type(key) is str and len(key) <= KEY_LENGTH for key in keys)
        and all(type(crc) is int and 0 <= crc < 1 << 32 for crc in crcs)
    ):
        raise TypeError("its keys are no short texts, or its checksums no numbers of 32 bits")
    return Entry(entry["segment"], Keys.of(keys), np.array(crcs, np.uint32))
