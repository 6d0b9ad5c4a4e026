"""Files that were copied in part: what a format can tell is refused, what it cannot is said."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.decode import decode_rgb
from fade.errors import DataError
from fade.inspection import inspect_image
from fade.masks import decode_mask
from tests.pictures import PACKBITS, ZIP, half_copied, pgm_file, tiff_file

PARTS = [0.2, 0.5, 0.8, 0.95]
TELLING: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"restart_marker_rows": 1}),
    ("PNG", {}), ("PNG", {"compress_level": 0}), ("GIF", {}), ("WEBP", {"lossless": True}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "packbits"}), ("TIFF", {"compression": "jpeg"}),
]  # fmt: skip
SILENT: list[tuple[str, dict[str, Any]]] = [("BMP", {}), ("PPM", {}), ("TIFF", {})]


def scene(side: int = 160) -> np.ndarray:
    """A picture like a photo, without black."""
    y, x = np.mgrid[:side, :side] / side
    waves = np.stack([np.sin(9 * x + k) + np.cos(7 * y * (k + 1)) for k in range(3)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 0.1, waves.shape)
    return np.clip(128 + 50 * (waves + noise), 1, 255).astype(np.uint8)


def encode(format: str, picture: np.ndarray | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(scene() if picture is None else picture).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("format", "options"), TELLING)
def test_half_copied_files(format: str, options: dict[str, Any], part: float) -> None:
    data = encode(format, **options)
    decode_rgb(data, "x")
    for decode in (decode_rgb, decode_mask):
        with pytest.raises(DataError, match=r"^x "):
            decode(half_copied(data, part), "x")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("format", "options"), SILENT)
def test_half_copied_files_that_cannot_tell(
    format: str, options: dict[str, Any], part: float
) -> None:
    data = encode(format, **options)
    if format == "TIFF":  # with its directory before its data
        data = tiff_file(160, 160, 8, [scene()[..., 0].tobytes()])
    assert not inspect_image(data, "x").ends_in_zeros
    assert inspect_image(half_copied(data, part), "x").ends_in_zeros
    with pytest.raises(DataError):
        decode_rgb(data[: int(len(data) * part)], "x")


@pytest.mark.parametrize("part", PARTS)
def test_a_half_copied_lossy_webp(part: float) -> None:
    """A whole one may end in zeros, a twentieth of a plain picture's bytes: a few are not refused."""
    data = encode("WEBP", quality=90)
    assert not inspect_image(data, "x").ends_in_zeros
    assert inspect_image(half_copied(data, part), "x").ends_in_zeros
    if part < 0.9:
        with pytest.raises(DataError, match="it ends in zeros"):
            decode_rgb(half_copied(data, part), "x")


def test_many_jpegs_cut_anywhere() -> None:
    data = encode("JPEG", scene(64), quality=80)
    scan = data.index(b"\xff\xda")
    for kept in range(scan + 14, len(data) - 1, 7):
        with pytest.raises(DataError):
            decode_rgb(data[:kept] + bytes(len(data) - kept), "x")


def test_a_jpeg_without_its_end_marker() -> None:
    data = encode("JPEG")
    assert data.endswith(b"\xff\xd9")
    with pytest.raises(DataError, match="its end marker is missing"):
        decode_rgb(data[:-2] + b"\0\0", "x")
    # padded behind its end, as cameras do
    np.testing.assert_array_equal(
        np.asarray(decode_rgb(data + bytes(4096), "x")), np.asarray(decode_rgb(data, "x"))
    )


def test_the_end_marker_of_a_preview_is_not_the_picture_s() -> None:
    preview, picture = encode("JPEG", scene(32)), encode("JPEG")
    app = b"\xff\xe1" + (2 + len(preview)).to_bytes(2, "big") + preview
    data = picture[:2] + app + picture[2:]
    decode_rgb(data, "x")
    with pytest.raises(DataError, match="its end marker is missing"):
        decode_rgb(half_copied(data, 0.7), "x")


@pytest.mark.parametrize("decode", [decode_rgb, decode_mask])
def test_every_flipped_byte_of_a_png_s_data_is_seen(
    decode: Callable[[bytes, str], object],
) -> None:
    data = encode("PNG", scene(24), compress_level=0)
    start = data.index(b"IDAT") + 4
    for at in range(start, len(data), 97):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(DataError):
            decode(bytes(broken), "x")


def test_a_png_says_what_is_wrong() -> None:
    data = encode("PNG", scene(24))
    broken = bytearray(data)
    broken[data.index(b"IEND") - 6] ^= 1  # the checksum
    with pytest.raises(DataError, match="the checksum of its IDAT data is wrong"):
        decode_rgb(bytes(broken), "x")
    with pytest.raises(DataError, match="its end is missing"):
        decode_rgb(data[:-12], "x")


def strips_of(count: int = 8) -> list[bytes]:
    return [part.tobytes() for part in np.split(scene()[..., 0], count)]


@pytest.mark.parametrize("compression", [1, ZIP])
def test_strips_that_are_missing(compression: int) -> None:
    strips = [zlib.compress(s) if compression == ZIP else s for s in strips_of()]
    whole = tiff_file(160, 160, 8, strips, rows=20, compression=compression)
    np.testing.assert_array_equal(np.asarray(decode_rgb(whole, "x"))[..., 0], scene()[..., 0])
    fewer = tiff_file(160, 160, 8, strips[:5], rows=20, compression=compression)
    with pytest.raises(DataError, match=r"3 of 8 strips are missing"):
        decode_rgb(fewer, "x")
    lengths = [0 if i == 3 else len(strip) for i, strip in enumerate(strips)]
    gone = tiff_file(160, 160, 8, strips, rows=20, compression=compression, lengths=lengths)
    with pytest.raises(DataError, match=r"strip 3 of 8 is missing or too short"):
        decode_rgb(gone, "x")


def test_a_last_strip_of_fewer_rows_is_whole() -> None:
    rows = scene()[:150, :, 0]
    strips = [rows[at : at + 20].tobytes() for at in range(0, 150, 20)]
    data = tiff_file(160, 150, 8, strips, rows=20)
    np.testing.assert_array_equal(np.asarray(decode_rgb(data, "x"))[..., 0], rows)


def test_a_strip_of_zeros_where_data_are_packed() -> None:
    strip = b"".join(
        b"\x7f" + row[:128] + b"\x1f" + row[128:] for row in map(bytes, scene()[..., 0])
    )
    data = tiff_file(160, 160, 8, [strip], compression=PACKBITS)
    np.testing.assert_array_equal(np.asarray(decode_rgb(data, "x"))[..., 0], scene()[..., 0])
    with pytest.raises(DataError, match="strip 0 of 1 ends in zeros"):
        decode_rgb(half_copied(data, 0.9), "x")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_plain_pictures_are_whole(format: str, value: int) -> None:
    picture = np.full((300, 400, 3), value, np.uint8)
    for options in ({}, {"lossless": True}) if format == "WEBP" else ({},):
        found = np.asarray(decode_rgb(encode(format, picture, **options), "x"))
        assert np.abs(found.astype(int) - value).max() <= 2


def test_a_grey_image_that_is_dark_for_its_depth() -> None:
    values = np.linspace(0, 4095, 54).astype(int).reshape(6, 9)
    assert inspect_image(pgm_file(values, 65535), "x").highest == 4095
    assert inspect_image(pgm_file(values, 4095), "x").highest is None
    assert inspect_image(pgm_file(values * 16, 65535), "x").highest is None
