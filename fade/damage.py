"""Finds files that were copied in part or damaged, and images whose data end early.

Pillow fills up what is missing without a word: black in a PNG, grey in a JPEG. So checksums, end
markers and tables of strips are held against the file first, which costs little. Images that then
still end in such a filling are looked at twice, and each suspicion is proved: no whole image is
called cut.
"""

import io
import zlib
from contextlib import suppress

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from fade.parts import JPEG_END, JPEG_SCAN, jpeg_markers, png_chunks

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PNG_PASSES = (  # of interlaced ones: first column and row, steps from column to column, row to row
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
_PIECE = 1 << 16  # bytes that are unpacked at once

_OTHER_FRAMES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}  # than of Huffman codes
_NO_COMPRESSION = 1
_PACKED = {5, 7, 8, 32773, 32946, 50000, 50001}  # TIFF: LZW, JPEG, Deflate, PackBits, Zstd, WebP
_YCBCR = 6
_RUN_LENGTHS = (1, 2)  # compressions of a BMP
_NO_RUN = 32  # zero bytes at the end that no compression writes
_LONG_RUN = 64  # zero bytes at the end that are worth a word
_MORE_DATA = bytes(range(1, 251)) * 4  # of no meaning, and without a marker


def find_damage(image: Image.Image, data: bytes) -> str | None:
    """Say what a file shows of damage without its pixels; None where nothing does.

    ``image`` is opened and not loaded yet, ``data`` the whole file. Looked at: the checksums and
    the end of a PNG, the end marker of a JPEG, the strips of a TIFF, the end of a run-length coded
    BMP and of a WebP. Formats without any of these tell nothing, see :func:`ends_in_zeros`.
    """
    if image.format == "PNG":
        return _png_damage(data)
    if image.format in ("JPEG", "MPO"):
        return None if _has_end(data) else "its end marker is missing: it was copied in part"
    if isinstance(image, TiffImageFile):
        return _tiff_damage(image, data)
    if image.format == "BMP" and _is_run_length_coded(data):
        whole = data.rstrip(b"\0").endswith(b"\0\1")
        return None if whole else "its end marker is missing: it was copied in part"
    if image.format == "WEBP":
        return _webp_damage(data)
    return None


def ends_in_zeros(image: Image.Image, data: bytes) -> bool:
    """Tell whether a file ends in zeros that are black pixels, or the rest of a copy that stopped.

    Only for formats that cannot tell: without compression, checksum and end marker (BMP, PPM, TIFF),
    and lossy WebP, which may end so.
    """
    told = image.format in ("BMP", "PPM", "WEBP") or (
        isinstance(image, TiffImageFile) and image.tag_v2.get(259, 1) == _NO_COMPRESSION
    )
    return told and data.endswith(bytes(_LONG_RUN))


def _png_damage(data: bytes) -> str | None:
    view = memoryview(data)
    for name, start, length in png_chunks(data):
        end = start + length
        if end + 4 > len(data):
            break
        needed = not name[0] & 0x20  # what is not is Pillow's to judge
        checksum = int.from_bytes(view[end : end + 4], "big")
        if needed and zlib.crc32(view[start - 4 : end]) != checksum:
            return f"the checksum of its {name.decode('latin-1')} data is wrong"
        if name == b"IEND":
            return None
    return "its end is missing: it was copied in part"


def _has_end(data: bytes) -> bool:
    """Tell whether an end marker follows a JPEG's first scan; a preview before it has its own."""
    for marker, _, end in jpeg_markers(data):
        if marker == JPEG_SCAN:
            return data.rfind(b"\xff\xd9") > end
    return True  # without a scan: Pillow refuses that


def _tiff_damage(image: TiffImageFile, data: bytes) -> str | None:
    """Look for strips or tiles that are not there, too short, or zeros where data are compressed."""
    tags = image.tag_v2
    kind, width, height = "strip", int(tags[256]), int(tags[257])
    compression, samples = tags.get(259, 1), tags.get(277, 1)
    planes = samples if tags.get(284, 1) == 2 else 1
    offsets, lengths = tags.get(273), tags.get(279)
    columns, rows = width, min(tags.get(278, height), height)
    if 324 in tags:
        kind, offsets, lengths = "tile", tags[324], tags.get(325)
        columns, rows = tags[322], tags[323]
    if not offsets or min(columns, rows) < 1:
        return None  # Pillow refuses that
    across, down = -(-width // columns), -(-height // rows)
    needed = across * down * planes
    if len(offsets) < needed:
        return f"{needed - len(offsets)} of {needed} {kind}s are missing"
    if lengths is None:
        return None
    bits = sum(tags.get(258, (1,))) if planes == 1 else tags.get(258, (1,))[0]
    full = rows * ((columns * bits + 7) // 8)
    plain = compression == _NO_COMPRESSION and tags.get(262) != _YCBCR
    for number, (start, length) in enumerate(zip(offsets, lengths, strict=False)):
        if number >= needed:
            break
        least = 1
        if plain:
            last = kind == "strip" and number % down == down - 1
            least = full - (rows * down - height) * (full // rows) if last else full
        if start == 0 or length < least or start + least > len(data):
            return f"{kind} {number} of {needed} is missing or too short"
        end = start + length
        if (
            compression in _PACKED
            and data[end - _NO_RUN : end] == bytes(_NO_RUN)
            and length > _NO_RUN
        ):
            return f"{kind} {number} of {needed} ends in zeros: it was copied in part"
    return None


def _is_run_length_coded(data: bytes) -> bool:
    return (
        int.from_bytes(data[14:18], "little") >= 40
        and int.from_bytes(data[30:34], "little") in _RUN_LENGTHS
    )


def _webp_damage(data: bytes) -> str | None:
    """Look at how many zeros a WebP ends in: lossless ones never in many, lossy ones in some."""
    zeros = len(data) - len(data.rstrip(b"\0"))
    most = _NO_RUN if b"VP8L" in data[:64] else max(len(data) // 10, _NO_RUN)
    return "it ends in zeros: it was copied in part" if zeros > most else None


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
        for part in (data[s : s + n] for name, s, n in png_chunks(data) if name == b"IDAT"):
            full = True
            while missing > 0 and (part or full):
                found = len(unpack.decompress(part, min(_PIECE, missing)))
                full = found == min(_PIECE, missing)
                missing -= found
                part = unpack.unconsumed_tail
        return missing > 0
    return False


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
    for marker, start, _ in jpeg_markers(data):
        if marker == JPEG_END:
            return start
        if marker in _OTHER_FRAMES:
            return None
    return None
