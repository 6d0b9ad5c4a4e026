"""The parts that image files consist of: chunks of a PNG, markers of a JPEG."""

from __future__ import annotations

import re
from collections.abc import Iterator

JPEG_SCAN, JPEG_END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff+([^\0\xff])")
_BEHIND_SCAN = re.compile(rb"\xff+[^\0\xff\xd0-\xd7]")
_BARE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name of each chunk, where its content begins, and how long it says that it is."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at + 8, length
        at += 12 + length


def jpeg_markers(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The second byte of each marker, where the marker begins, and where it ends."""
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        yield marker, found.start(), at
        if marker in _BARE:
            continue
        at += int.from_bytes(data[at : at + 2], "big")
        if marker == JPEG_SCAN:
            if (behind := _BEHIND_SCAN.search(data, at)) is None:
                return
            at = behind.start()
