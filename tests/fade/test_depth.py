"""Images of 9 to 16 bits: what is white in them is white in RGB."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from fade.decode import decode_rgb
from fade.depth import to_eight_bits
from fade.errors import DataError
from fade.masks import decode_mask
from tests.pictures import ZIP, pack_bits, pgm_file, png_file, tiff_file


def ramp(bits: int, height: int = 6, width: int = 9) -> np.ndarray:
    """Grey values over the whole range of so many bits, the lowest ones among them."""
    return np.linspace(0, (1 << bits) - 1, height * width).round().astype(int).reshape(height, -1)


def grey(data: bytes) -> np.ndarray:
    found = np.asarray(decode_rgb(data, "x"))
    assert (found == found[..., :1]).all()
    return found[..., 0]


def scaled(values: np.ndarray, bits: int) -> np.ndarray:
    return np.floor(values * 255 / ((1 << bits) - 1) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("compression", [1, ZIP])
@pytest.mark.parametrize("width", [8, 9])
def test_a_tiff_of_12_bits_a_sample(width: int, compression: int) -> None:
    values = ramp(12, width=width)
    strip = pack_bits(values, 12)
    data = tiff_file(
        width, 6, 12, [zlib.compress(strip) if compression == ZIP else strip],
        compression=compression,
    )  # fmt: skip
    np.testing.assert_array_equal(grey(data), scaled(values, 12))
    assert grey(data).max() == 255
    np.testing.assert_array_equal(decode_mask(data, "x"), values != 0)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("tag", [281, 341])
def test_a_tiff_of_16_bits_that_says_how_many_count(bits: int, tag: int) -> None:
    values = ramp(bits)
    data = tiff_file(9, 6, 16, [values.astype("<u2").tobytes()], tags=[(tag, (1 << bits) - 1)])
    np.testing.assert_array_equal(grey(data), scaled(values, bits))


def test_the_highest_value_that_occurs_is_no_depth() -> None:
    values = ramp(12) * 3 // 4
    data = tiff_file(9, 6, 16, [values.astype("<u2").tobytes()], tags=[(281, int(values.max()))])
    np.testing.assert_array_equal(grey(data), scaled(values, 16))


def test_a_depth_that_values_exceed_counts_for_nothing() -> None:
    values = ramp(16)
    data = tiff_file(9, 6, 16, [values.astype("<u2").tobytes()], tags=[(281, 4095)])
    np.testing.assert_array_equal(grey(data), scaled(values, 16))


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
@pytest.mark.parametrize("way", ["low bits", "high bits", "repeated"])
def test_a_png_with_significant_bits(bits: int, way: str) -> None:
    values, spare = ramp(bits), 16 - bits
    stored = {
        "low bits": values,
        "high bits": values << spare,
        "repeated": (values << spare) | (values >> max(bits - spare, 0)),
    }[way]
    data = png_file(stored, chunks=[(b"sBIT", bytes([bits]))])
    expected = scaled(values, bits) if way == "low bits" else scaled(stored, 16)
    np.testing.assert_array_equal(grey(data), expected)
    assert grey(data).max() >= 254


@pytest.mark.parametrize("maxval", [255, 300, 1023, 4095, 16383, 65535])
def test_a_pgm_of_any_maxval(maxval: int) -> None:
    values = np.linspace(0, maxval, 54).round().astype(int).reshape(6, 9)
    found = grey(pgm_file(values, maxval)).astype(int)
    assert np.abs(found - values * 255 / maxval).max() <= 0.51  # scaled twice, by Pillow first
    assert found.max() == 255
    np.testing.assert_array_equal(decode_mask(pgm_file(values, maxval), "x"), values != 0)


def test_sixteen_bits_without_a_word_are_16() -> None:
    values = np.arange(65536).reshape(256, 256)
    np.testing.assert_array_equal(grey(png_file(values)), (values + 128) // 257)
    np.testing.assert_array_equal(to_eight_bits(values, 65535), (values + 128) // 257)


@pytest.mark.parametrize("bits", [10, 12])
def test_colours_in_the_lower_bits_are_refused(bits: int) -> None:
    values = np.stack([ramp(bits)] * 3, axis=-1)
    said = [(b"sBIT", bytes([bits] * 3))]
    with pytest.raises(DataError, match=rf"^x has colours of {bits} bits in 16"):
        decode_rgb(png_file(values, chunks=said), "x")
    found = np.asarray(decode_rgb(png_file(values << (16 - bits), chunks=said), "x"))
    assert found.max() == 255


@pytest.mark.parametrize(("bits", "order"), [(10, "<"), (14, "<"), (12, ">")])
def test_packed_depths_that_are_not_read_are_refused(bits: int, order: str) -> None:
    data = tiff_file(9, 6, bits, [pack_bits(ramp(bits), bits)], order=order)
    with pytest.raises(DataError, match=r"^x is a TIFF of a kind that is not read"):
        decode_rgb(data, "x")


@pytest.mark.parametrize("maxval", [256, 4095, 65535])
def test_a_colour_mask_of_more_than_8_bits_is_refused(maxval: int) -> None:
    values = np.zeros((4, 4, 3), int)
    values[1, 1] = 1  # nothing of it is left on 8 bits
    with pytest.raises(DataError, match="16 bits a channel"):
        decode_mask(pgm_file(values, maxval), "x")
