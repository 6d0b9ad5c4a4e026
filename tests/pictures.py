"""Image files written byte by byte, for kinds that no library writes and for damage."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

ZIP, LZW, PACKBITS = 8, 5, 32773


def pack_bits(values: np.ndarray, bits: int) -> bytes:
    """Rows of values (H, W), each with so many bits, most significant first, rows on whole bytes."""
    single = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*values.shape, 2), axis=-1)
    return np.packbits(single[..., 16 - bits :].reshape(len(values), -1), axis=1).tobytes()


def tiff_file(
    width: int,
    height: int,
    bits: int,
    strips: Sequence[bytes],
    *,
    rows: int | None = None,
    order: str = "<",
    compression: int = 1,
    photometric: int = 1,
    tags: Sequence[tuple[int, int]] = (),
    lengths: Sequence[int] | None = None,
) -> bytes:
    """A grey TIFF whose directory stands before its data, as streaming writers have it.

    Args:
        width, height: in pixels.
        bits: a sample.
        strips: data of each, compressed if so.
        rows: in a strip.
        order: of bytes, "<" or ">".
        compression, photometric: values of these tags.
        tags: further ones, with short values.
        lengths: what the directory says of the strips, if not the truth.
    """
    lengths = lengths or [len(strip) for strip in strips]
    found = [
        (256, [width]), (257, [height]), (258, [bits]), (259, [compression]), (262, [photometric]),
        (277, [1]), (278, [rows or height]), *((tag, [value]) for tag, value in tags),
    ]  # fmt: skip
    count = len(found) + 2
    start = 8 + 2 + 12 * count + 4
    lists = start
    data = lists + (8 * len(strips) if len(strips) > 1 else 0)
    offsets = list(data + np.cumsum([0, *map(len, strips)])[:-1])
    entries = []
    for tag, values in [*found, (273, offsets), (279, lengths)]:
        long = tag in (273, 279)
        entry = struct.pack(f"{order}HHI", tag, 4 if long else 3, len(values))
        if len(values) > 1:
            entry += struct.pack(f"{order}I", lists + (4 * len(strips) if tag == 279 else 0))
        else:
            entry += struct.pack(f"{order}{'I' if long else 'Hxx'}", int(values[0]))
        entries.append((tag, entry))
    directory = b"".join(entry for _, entry in sorted(entries))
    longs = b""
    if len(strips) > 1:
        longs = struct.pack(f"{order}{2 * len(strips)}I", *map(int, offsets), *lengths)
    head = b"II*\0" if order == "<" else b"MM\0*"
    return (
        head + struct.pack(f"{order}IH", 8, count) + directory + b"\0\0\0\0" + longs
        + b"".join(strips)
    )  # fmt: skip


def pgm_file(values: np.ndarray, maxval: int) -> bytes:
    """A binary PGM (H, W) or PPM (H, W, 3)."""
    kind = b"P5" if values.ndim == 2 else b"P6"
    height, width = values.shape[:2]
    body = values.astype(">u2" if maxval > 255 else np.uint8).tobytes()
    return kind + b"\n%d %d\n%d\n" % (width, height, maxval) + body


def png_file(values: np.ndarray, *, chunks: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """A PNG of 16 bits a channel, grey (H, W) or colour (H, W, 3); further chunks before its data."""

    def chunk(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if values.ndim == 2 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def half_copied(data: bytes, part: float) -> bytes:
    """A file of full length whose end is zeros, as a copy that stopped leaves it."""
    kept = int(len(data) * part)
    return data[:kept] + bytes(len(data) - kept)
