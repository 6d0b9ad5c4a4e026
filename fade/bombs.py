"""Refuses image files that are made to be decoded for minutes: small files, few pixels, endless work."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice, repeat, takewhile

from fade.errors import DataError
from fade.parts import JPEG_END, JPEG_SCAN, jpeg_markers, png_chunks

MAX_SCANS = 64
"""Largest number of scans of a JPEG. A progressive one has about ten; each goes over all pixels."""
MAX_COMMENTS = 1000
"""Largest number of comments of a PPM. Among numbers in plain text their cost grows with its square."""
FEW_PARTS, PART_BYTES = 4096, 64
"""Parts (chunks, segments, blocks) that any file may have, and the mean bytes that more must have."""
_HEADER_BYTES = 1 << 16

_PPM_HEADER = re.compile(rb"P[1-6](?:(?:\s|#[^\r\n]*)*[0-9]+){2,3}\s")
_RLE = (1, 2)
"""Run-length compressions of a BMP, which take at most two bytes a pixel and a few a row."""


def check_work(data: bytes, name: str) -> None:
    """Refuse a file whose decoding would take far longer than its pixels and bytes do.

    Nothing is decoded, and nothing that is valid in any program's files is refused. Files that are no
    images pass.

    Args:
        data: the whole file.
        name: stands in errors.

    Raises:
        DataError: saying what there is too much of.
    """
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data, name)
    elif data.startswith(b"\x89PNG"):
        _check_count(png_chunks(data), _most_parts(data), name, "chunks")
    elif data.startswith(b"GIF8"):
        _check_count(_gif_blocks(data), _most_parts(data), name, "blocks")
    elif re.match(rb"P[1-6]\s", data):
        _check_ppm(data, name)
    elif data.startswith(b"BM"):
        _check_bmp(data, name)


def _check_count(parts: Iterable[object], most: int, name: str, what: str) -> None:
    if next(islice(parts, most, None), None) is not None:
        raise _refused(name, most, what)


def _refused(name: str, most: int, what: str) -> DataError:
    return DataError(
        f"{name} has more than {most:,} {what}, which can take minutes to decode; save it again with "
        "another program, or remove it"
    )


def _check_jpeg(data: bytes, name: str) -> None:
    before = takewhile(lambda marker: marker != JPEG_SCAN, _jpeg_markers(data))
    _check_count(before, _most_parts(data), name, "segments")
    if data.count(b"\xff\xda") > MAX_SCANS:  # previews in it may have scans of their own
        scans = (marker for marker in _jpeg_markers(data) if marker == JPEG_SCAN)
        _check_count(scans, MAX_SCANS, name, "scans")


def _jpeg_markers(data: bytes) -> Iterator[int]:
    """The markers of a JPEG's first picture; one that is filled up counts as so many."""
    for marker, start, end in jpeg_markers(data):
        yield from repeat(0xFF, end - start - 2)
        yield marker
        if marker == JPEG_END:
            return


def _most_parts(data: bytes) -> int:
    return FEW_PARTS + len(data) // PART_BYTES


def _gif_blocks(data: bytes) -> Iterator[int]:
    """The blocks of a GIF and the pieces that they consist of."""
    at = 13 + _gif_colours(data, 10)
    while at < len(data):
        kind = data[at]
        yield kind
        if kind == ord("!"):
            at += 2
        elif kind == ord(","):
            at += 11 + _gif_colours(data, at + 9)
        elif kind == ord(";"):
            return
        else:  # Pillow passes over it
            at += 1
            continue
        while at < len(data) and data[at]:
            yield data[at]
            at += 1 + data[at]
        at += 1


def _gif_colours(data: bytes, at: int) -> int:
    """Bytes of the palette that follows the flags there."""
    flags = data[at] if at < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _check_ppm(data: bytes, name: str) -> None:
    start = data[:_HEADER_BYTES]
    if b"#" in start and len(data) > _HEADER_BYTES and not _PPM_HEADER.match(start):
        raise _refused(name, _HEADER_BYTES, "bytes of comments before its pixels")
    if data[1:2] in b"123" and data.count(b"#") > MAX_COMMENTS:
        raise _refused(name, MAX_COMMENTS, "comments")


def _check_bmp(data: bytes, name: str) -> None:
    if len(data) < 34 or int.from_bytes(data[14:18], "little") < 40:
        return
    width, height = (abs(int.from_bytes(data[a : a + 4], "little", signed=True)) for a in (18, 22))
    most = 4 * width * height + 4 * height + _HEADER_BYTES
    if int.from_bytes(data[30:34], "little") in _RLE and len(data) > most:
        raise _refused(name, most, "bytes for its pixels")
