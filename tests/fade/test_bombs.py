"""Small files that would be decoded for minutes are refused at once; whatever programs write is not."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.bombs import FEW_PARTS, MAX_COMMENTS, MAX_SCANS, PART_BYTES, check_work
from fade.errors import DataError
from fade.preprocess import decode_mask, decode_rgb, image_size

MANY = 300_000


def saved(mode: str, size: int, form: str, **how: Any) -> bytes:
    shape = (size, size) if len(mode) == 1 else (size, size, len(mode))
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, form, **how)
    return file.getvalue()


def scans(count: int, size: int = 64) -> bytes:
    """A progressive JPEG with its last scan repeated."""
    file = io.BytesIO()
    Image.new("L", (size, size), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    own = data.count(b"\xff\xda")
    return data[:end] + data[start:end] * (count - own) + b"\xff\xd9"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(more: bytes) -> bytes:
    data = saved("L", 8, "PNG")
    return data[:33] + more + data[33:]


def jpeg(more: bytes) -> bytes:
    data = saved("L", 8, "JPEG")
    return data[:2] + more + data[2:]


def gif(more: bytes) -> bytes:
    data = saved("L", 8, "GIF")
    image = data.index(b",\0\0\0\0\x08\0\x08\0")
    return data[:image] + more + data[image:]


def rle(data: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(data), 0, 0, 1078) + head + bytes(1024) + data


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg scans": (lambda: scans(2000, 2000), "has more than 64 scans"),
    "jpeg segments": (lambda: jpeg(b"\xff\xfe\0\2" * MANY), "segments"),
    "jpeg filled up": (lambda: jpeg(b"\xff" * 4 * MANY), "segments"),
    "png chunks": (lambda: png(chunk(b"abCd", b"") * MANY), "chunks"),
    "png data": (lambda: png(chunk(b"IDAT", b"") * MANY), "chunks"),
    "gif comments": (lambda: gif(b"!\xfe\1a\0" * MANY), "blocks"),
    "gif pieces": (lambda: gif(b"!\xfe" + b"\1a" * MANY + b"\0"), "blocks"),
    "ppm comments": (lambda: b"P1\n2 2\n" + b"#\n" * MANY + b"0 0 0 0", "1,000 comments"),
    "ppm header": (
        lambda: b"P5\n1\n" + b"#a\n" * MANY + b"1\n255\n\0",
        "comments before its pixels",
    ),
    "bmp runs": (lambda: rle(b"\0\0" * MANY), "bytes for its pixels"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_endless_work_is_refused_at_once(kind: str) -> None:
    make, says = BOMBS[kind]
    data = make()
    start = time.process_time()
    for decode in (decode_rgb, decode_mask, image_size):
        with pytest.raises(DataError, match=says) as caught:
            decode(data, "a.img")
        assert str(caught.value).startswith("a.img has more than ")
    assert time.process_time() - start < 3


def test_limits() -> None:
    decode_rgb(scans(MAX_SCANS), "a")
    with pytest.raises(DataError, match="more than 64 scans"):
        decode_rgb(scans(MAX_SCANS + 1), "a")
    comments = b"P2\n2 1\n255\n" + b"#\n" * MAX_COMMENTS + b"0 255\n"
    assert np.asarray(decode_rgb(comments, "a"))[0, 1, 0] == 255
    long = png(chunk(b"abCd", bytes(PART_BYTES)) * (FEW_PARTS + 1))
    assert decode_rgb(long, "a").size == (8, 8)


def test_scans_of_previews_do_not_count() -> None:
    """A JPEG in a segment, and others behind the picture, as cameras and telephones write."""
    preview = scans(60)
    inside = jpeg(b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview)
    assert decode_rgb(inside + preview * 3, "a").size == (8, 8)


@pytest.mark.parametrize(
    ("form", "mode", "how"),
    [
        ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("JPEG", "RGB", {"restart_marker_blocks": 1}), ("JPEG", "RGB", {"comment": b"x" * 60_000}),
        ("PNG", "RGB", {}), ("PNG", "L", {"compress_level": 0}), ("GIF", "L", {"comment": b"#" * 9999}),
        ("BMP", "L", {}), ("PPM", "RGB", {}), ("PPM", "L", {}), ("TIFF", "RGB", {}), ("WEBP", "RGB", {}),
    ],
)  # fmt: skip
def test_what_programs_write_passes(form: str, mode: str, how: dict[str, Any]) -> None:
    for size in (1, 700):
        decode_rgb(saved(mode, size, form, **how), "a")
    check_work(b"P5\n#" + b"by a program\n" + saved("L", 700, "PPM")[3:], "a")


@pytest.mark.parametrize("start", [b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"P3\n", b"BM"])
def test_damaged_starts_are_left_to_the_decoder(start: bytes) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    for data in (start, start + noise, start + bytes(2000), start + b"\xff" * 2000):
        check_work(data, "a")
