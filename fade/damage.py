"""Finds images whose data end early although they are closed as whole ones are.

Pillow fills the rest up without a word: black in a PNG, grey in a JPEG. Only images that end in
such a filling are looked at twice, so that others cost next to nothing, and each suspicion is
proved: no whole image is called cut.
"""

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from PIL import Image

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PNG_PASSES = (  # of interlaced ones: first column and row, steps from column to column, row to row
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
_PIECE = 1 << 16  # bytes that are unpacked at once

_MARKER = re.compile(rb"\xff+([^\0\xff])")
_END_OF_SCAN = re.compile(rb"\xff+[^\0\xff\xd0-\xd7]")
_BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}  # without a length
_END, _SCAN = 0xD9, 0xDA
_OTHER_FRAMES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}  # than of Huffman codes
_MORE_DATA = bytes(range(1, 251)) * 4  # of no meaning, and without a marker


def is_cut(image: Image.Image, data: bytes) -> bool:
    """Tell whether a decoded PNG or JPEG lacks pixels; of other formats False.

    ``image`` is as Pillow's ``load`` leaves it, ``data`` the whole file. Not seen: what lacks less
    than the last block of a JPEG, and later scans of a progressive one, which only sharpen it.
    """
    width, height = image.size
    if image.format == "PNG":
        interlaced = data[28] == 1
        last_row = np.asarray(image.crop((0, height - 1, width, height)))
        return (interlaced or not last_row.any()) and _lacks_rows(data)
    if image.format in ("JPEG", "MPO"):
        corner = np.asarray(image.crop((width - 1, height - 1, width, height)))
        return bool(np.isin(corner, (127, 128)).all()) and _takes_more(image, data)
    return False


def _lacks_rows(data: bytes) -> bool:
    """Tell whether a PNG's data unpack to fewer bytes than its header promises."""
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    depth, colour, interlaced = data[24], data[25], data[28] == 1
    bits = depth * _PNG_CHANNELS[colour]
    missing = 0
    for left, top, across, down in _PNG_PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + (columns * bits + 7) // 8)  # a byte for the row's filter
    unpack = zlib.decompressobj()
    with suppress(zlib.error):  # behind the last row, or Pillow had stumbled too
        for part in _png_data(data):
            full = True
            while missing > 0 and (part or full):
                found = len(unpack.decompress(part, min(_PIECE, missing)))
                full = found == min(_PIECE, missing)
                missing -= found
                part = unpack.unconsumed_tail
        return missing > 0
    return False


def _png_data(data: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        at += 12 + length


def _takes_more(image: Image.Image, data: bytes) -> bool:
    """Tell whether more data before a JPEG's end change its pixels: a whole one has no use for them."""
    end = _end_of_picture(data)
    if end is None:
        return False
    with suppress(Exception):  # whatever that is, it proves nothing
        longer = Image.open(io.BytesIO(data[:end] + _MORE_DATA + b"\xff\xd9"), formats=("JPEG",))
        longer.load()
        strips = ((0, top, image.width, top + 64) for top in range(0, image.height, 64))
        return any(longer.crop(strip).tobytes() != image.crop(strip).tobytes() for strip in strips)
    return False


def _end_of_picture(data: bytes) -> int | None:
    """Return where the end marker of a JPEG's (first) picture is; None if that tells nothing.

    Only in Huffman codes the end is where the pixels end: arithmetic ones may leave zeros away.
    """
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _END:
            return found.start()
        if marker in _OTHER_FRAMES:
            return None
        if marker in _BARE_MARKERS:
            continue
        at += int.from_bytes(data[at : at + 2], "big")
        if marker == _SCAN:
            if (after := _END_OF_SCAN.search(data, at)) is None:
                return None
            at = after.start()
    return None
