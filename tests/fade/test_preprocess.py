"""Decoding and resizing: every kind of image that people bring, and every kind of damage."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFile, PngImagePlugin

from fade.datasets import read_dataset
from fade.decode import picture_rgb
from fade.errors import DataError, ParameterError
from fade.preprocess import (
    decode_mask,
    decode_rgb,
    image_size,
    resampling,
    resize_image,
    resize_mask,
    resize_square,
)

GOLDEN = Path(__file__).parents[1] / "golden"
ORIENTATION = 0x0112
VALUES_16 = [0, 127, 128, 129, 385, 386, 4095, 32767, 65406, 65407, 65535]


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    rows: bytes,
    *,
    interlaced: bool = False,
    before: tuple[tuple[bytes, bytes], ...] = (),
    after: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """A PNG written by hand, for kinds that Pillow cannot write; further chunks around its data."""

    def chunk(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def tiff(array: np.ndarray, **options: Any) -> bytes:
    """A TIFF as tifffile writes it, for kinds that Pillow cannot write."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pixels(data: bytes) -> np.ndarray:
    image = decode_rgb(data, "x")
    assert image.mode == "RGB"
    assert image_size(data, "x") == image.size
    return np.asarray(image)


# Kinds of images


@pytest.mark.parametrize("format", ["mvtec", "visa"])
def test_golden_images_decode_to_rgb(format: Any) -> None:
    root = GOLDEN / ("images" if format == "mvtec" else "images_visa")
    modes = set()
    for record in read_dataset(format, root):
        data = (root / record.path).read_bytes()
        with Image.open(io.BytesIO(data)) as raw:
            modes.add(raw.mode)
            size = raw.size
        image = decode_rgb(data, record.path)
        assert image.mode == "RGB"
        assert image.size == image_size(data, record.path) == size
        if record.mask:
            mask = decode_mask((root / record.mask).read_bytes(), record.mask)
            assert mask.shape == size[::-1]
            assert mask.any()
            assert not mask.all()
    assert modes == {"RGB", "L", "RGBA", "P"}


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    array = noise(7, 5, 3)
    np.testing.assert_array_equal(pixels(encode(Image.fromarray(array), format)), array)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "GIF"])
def test_other_formats_come_close(format: str) -> None:
    array = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    data = encode(Image.fromarray(array), format)
    assert np.abs(pixels(data).astype(int) - array).max() < 12


def test_alpha_is_dropped_not_blended() -> None:
    array = noise(6, 4, 4)
    array[0, :, 3] = 0
    np.testing.assert_array_equal(pixels(encode(Image.fromarray(array))), array[..., :3])
    grey = noise(6, 4, 2)
    grey[0, :, 1] = 0
    expected = np.repeat(grey[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(pixels(encode(Image.fromarray(grey, "LA"))), expected)


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_palette_colours_without_their_transparency(transparency: int | bytes | None) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pixels(encode(image, **options))
    assert found.tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


def test_colour_key_transparency_is_dropped() -> None:
    image = Image.new("RGB", (2, 1), (9, 8, 7))
    assert pixels(encode(image, transparency=(9, 8, 7))).tolist() == [[[9, 8, 7]] * 2]
    grey = Image.new("L", (2, 1), 9)
    assert pixels(encode(grey, transparency=9)).tolist() == [[[9, 9, 9]] * 2]


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_is_repeated(mode: str) -> None:
    image = Image.fromarray(noise(5, 6)).convert(mode)
    expected = np.asarray(image.convert("L"))
    found = pixels(encode(image))
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], expected)


@pytest.mark.parametrize(
    ("dtype", "format"),
    [("<u2", "PNG"), ("<u2", "TIFF"), (">u2", "TIFF"), ("<u2", "PPM"), ("<i4", "TIFF")],
)
def test_sixteen_bit_grey_is_scaled_by_value(dtype: str, format: str) -> None:
    data = encode(Image.fromarray(np.array([VALUES_16], dtype=dtype)), format)
    expected = [round(value / 257) for value in VALUES_16]
    assert pixels(data)[0].tolist() == [[value] * 3 for value in expected]


def test_sixteen_bit_colour_keeps_its_high_byte() -> None:
    row = b"\0" + b"".join(struct.pack(">3H", v, v, v) for v in VALUES_16)
    found = pixels(png(len(VALUES_16), 1, 16, 2, row))
    assert found[0, :, 0].tolist() == [value >> 8 for value in VALUES_16]


def test_cmyk_is_converted() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert pixels(encode(red, "TIFF"))[0, 0].tolist() == [255, 0, 0]
    assert pixels(encode(red, "JPEG"))[0, 0, 0] > 240


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[0.5, 1.0]], np.float32), "floating-point"),
        (np.array([[0, 65536]], np.int32), "values from 0 to 65536"),
        (np.array([[-1, 5]], np.int32), "values from -1 to 5"),
        (np.array([[-24, 5]], np.int8), "values from -24 to 5"),
        (np.array([[-24, 5]], np.int16), "values from -24 to 5"),
        (np.array([[4_000_000_000, 5]], np.uint32), "values from 5 to 4000000000"),
    ],
)
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("decode", [decode_rgb, decode_mask])
def test_values_beyond_sixteen_bits_are_refused(
    array: np.ndarray,
    message: str,
    compression: str | None,
    decode: Callable[[bytes, str], object],
) -> None:
    data = tiff(array, photometric="minisblack", compression=compression)
    with pytest.raises(DataError, match=rf"part\.tif has {message}"):
        decode(data, "part.tif")


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u4", "<i4"])
def test_small_integers_of_any_type_are_read(dtype: str) -> None:
    data = tiff(np.array([[0, 100]], dtype), photometric="minisblack")
    assert decode_mask(data, "x").tolist() == [[False, True]]
    assert pixels(data)[0, 1, 0] == (100 if np.dtype(dtype).itemsize == 1 else 0)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64"])
def test_kinds_of_tiff_that_pillow_does_not_know(dtype: str) -> None:
    data = tiff(np.zeros((2, 2), dtype), photometric="minisblack")
    with pytest.raises(DataError, match="x is a TIFF of a kind that is not read, or damaged; save"):
        decode_rgb(data, "x")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("decode", [decode_rgb, decode_mask, image_size])
def test_planes_of_sixteen_bits_that_pillow_reads_as_eight(
    order: Any, decode: Callable[[bytes, str], object]
) -> None:
    planes = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5) << 8
    how: Any = {"photometric": "rgb", "planarconfig": "separate", "byteorder": order}
    with pytest.raises(DataError, match="x is an uncompressed TIFF with its channels in planes"):
        decode(tiff(planes, **how), "x")
    expected = np.moveaxis(planes >> 8, 0, -1)
    np.testing.assert_array_equal(pixels(tiff(planes, compression="zlib", **how)), expected)
    np.testing.assert_array_equal(
        pixels(tiff(expected.astype(np.uint8), photometric="rgb")), expected
    )
    eight = (planes >> 8).astype(np.uint8)
    np.testing.assert_array_equal(pixels(tiff(eight, **how)), expected)


@pytest.mark.parametrize(("value", "tags"), [(1, {262: 0, 284: 2}), (300, {284: 2})])
def test_a_plane_that_is_not_as_it_seems(value: int, tags: dict[int, int]) -> None:
    grey = Image.fromarray(np.full((2, 2), value, np.uint8 if value < 256 else np.uint16))
    with pytest.raises(DataError, match="channels in planes"):
        decode_rgb(encode(grey, "TIFF", tiffinfo=tags), "x")


def test_sixteen_bit_tiff_with_white_as_zero_is_refused() -> None:
    image = Image.fromarray(np.array([VALUES_16], "<u2"))
    data = encode(image, "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(data)) as raw:
        if raw.tag_v2.get(262) != 0:  # type: ignore[attr-defined]
            tag = struct.pack("<HHIH", 262, 3, 1, 1)
            assert data.count(tag) == 1
            data = data.replace(tag, struct.pack("<HHIH", 262, 3, 1, 0))
    with pytest.raises(DataError, match="0 is white"):
        decode_rgb(data, "x")


# Orientation


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_only_when_asked(format: str, orientation: int) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16] = 255
    stored[:8, 16:] = 120
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(Image.fromarray(stored), format, exif=exif, **options)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).swapaxes(0, 1),
        8: np.rot90(stored),
    }[orientation]
    for rotate, expected in ((False, stored), (True, upright)):
        image = decode_rgb(data, "x", exif_rotation=rotate)
        assert image_size(data, "x", exif_rotation=rotate) == image.size
        assert image.size == expected.shape[1::-1]
        assert np.abs(np.asarray(image).astype(int) - expected).max() < 12
        if rotate:  # and once: who takes the image turns it by what it still says
            again = picture_rgb(image, "x", exif_rotation=True)
            np.testing.assert_array_equal(np.asarray(again), np.asarray(image))
        if format != "JPEG":
            mask = decode_mask(data, "x", exif_rotation=rotate)
            np.testing.assert_array_equal(mask, expected[..., 0] > 0)


@pytest.mark.parametrize(
    ("format", "where"),
    [
        ("JPEG", "xmp"),
        ("WEBP", "xmp"),
        ("PNG", "XML:com.adobe.xmp"),
        ("PNG", "Raw profile type exif"),
    ],
)
def test_an_orientation_outside_exif_is_applied_once(format: str, where: str) -> None:
    xmp = '<rdf:Description tiff:Orientation="6"/>'
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt(where, f"\nexif\n0\n{exif.tobytes().hex()}" if "exif" in where else xmp)
    options = {"pnginfo": texts} if format == "PNG" else {"xmp": xmp.encode()}
    data = encode(Image.new("RGB", (32, 16)), format, **options)
    image = decode_rgb(data, "x", exif_rotation=True)
    assert image.size == picture_rgb(image, "x", exif_rotation=True).size == (16, 32)


# Damage


DECODERS: list[Callable[[bytes, str], object]] = [decode_rgb, decode_mask]


@pytest.mark.parametrize("decode", [*DECODERS, image_size])
def test_empty_and_unknown_files(decode: Callable[[bytes, str], object]) -> None:
    with pytest.raises(DataError, match=r"a/b\.png is empty \(0 bytes\)"):
        decode(b"", "a/b.png")
    for data in (b"hello", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\0" * 100):
        with pytest.raises(DataError, match=r"^a/b\.png is not a readable image.*remove it$"):
            decode(data, "a/b.png")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
@pytest.mark.parametrize("decode", DECODERS)
def test_truncated_files(format: str, decode: Callable[[bytes, str], object]) -> None:
    data = encode(Image.fromarray(noise(64, 64, 3)), format)
    with pytest.raises(DataError, match=r"^x\.img .*replace or remove it$"):
        decode(data[: len(data) // 2], "x.img")


MISSING = r"^x cannot be decoded \(pixels are missing\); replace or remove it$"


def interlaced_rows(width: int, height: int) -> bytes:
    """The rows of a black image of one byte a pixel, pass by pass."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    sizes = [
        (len(range(left, width, across)), len(range(top, height, down)))
        for left, top, across, down in (*passes, (0, 1, 1, 2))
    ]
    return b"".join(bytes(1 + columns) * rows for columns, rows in sizes if columns)


@pytest.mark.parametrize(
    ("depth", "colour", "channels"),
    [
        (1, 0, 1),
        (1, 3, 1),
        (8, 0, 1),
        (8, 2, 3),
        (8, 3, 1),
        (8, 4, 2),
        (8, 6, 4),
        (16, 0, 1),
        (16, 6, 4),
    ],
)
@pytest.mark.parametrize("size", [(1, 2), (3, 7), (64, 33)])
def test_a_png_that_lacks_rows(
    size: tuple[int, int], depth: int, colour: int, channels: int
) -> None:
    width, height = size
    row = bytes(1 + -(-width * channels * depth // 8))
    palette = ((b"PLTE", bytes(6)),) if colour == 3 else ()
    for rows in (height, height - 1, height // 2):
        data = png(width, height, depth, colour, row * rows, before=palette)
        if rows == height:  # black, but whole
            assert not pixels(data).any()
        else:
            with pytest.raises(DataError, match=MISSING):
                decode_rgb(data, "x")


@pytest.mark.parametrize("size", [(1, 1), (4, 3), (5, 1), (1, 5), (9, 8), (64, 33)])
def test_an_interlaced_png_that_lacks_rows(size: tuple[int, int]) -> None:
    rows = interlaced_rows(*size)
    assert not pixels(png(*size, 8, 0, rows, interlaced=True)).any()
    last = size[0] if size[1] > 1 else -(-size[0] // 2) if size[0] > 1 else 1
    with pytest.raises(DataError, match="x cannot be decoded"):
        decode_rgb(png(*size, 8, 0, rows[: -1 - last], interlaced=True), "x")


def test_rows_that_unpack_in_many_pieces() -> None:
    noisy = noise(300, 400, 3)
    noisy[-1] = 0  # looked at twice
    np.testing.assert_array_equal(pixels(encode(Image.fromarray(noisy))), noisy)
    rows = b"".join(b"\0" + row.tobytes() for row in noisy)
    with pytest.raises(DataError, match=MISSING):
        decode_rgb(png(400, 300, 8, 2, rows[:-1201]), "x")


JPEGS: list[tuple[str, dict[str, Any]]] = [
    ("RGB", {}), ("RGB", {"subsampling": 0, "quality": 100}), ("RGB", {"restart_marker_rows": 1}),
    ("RGB", {"optimize": True}), ("L", {}), ("CMYK", {}),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "how"), JPEGS)
@pytest.mark.parametrize("part", [0.3, 0.5, 0.95])
@pytest.mark.parametrize("decode", DECODERS)
def test_a_jpeg_that_ends_early(
    part: float, mode: str, how: dict[str, Any], decode: Callable[[bytes, str], object]
) -> None:
    array = noise(90, 130, 3) // 2 + 60
    data = encode(Image.fromarray(array).convert(mode), "JPEG", **how)
    decode(data, "x")
    with pytest.raises(DataError, match=MISSING):
        decode(data[: int(len(data) * part)] + b"\xff\xd9", "x")


@pytest.mark.parametrize("how", [how for _, how in JPEGS] + [{"progressive": True}])
@pytest.mark.parametrize("format", ["JPEG", "MPO"])
def test_a_grey_jpeg_is_whole(format: str, how: dict[str, Any]) -> None:
    """It looks as what libjpeg fills up with."""
    grey = Image.new("RGB", (33, 17), (128, 128, 128))
    assert (pixels(encode(grey, format, **how)) == 128).all()
    assert (pixels(encode(grey, format, **how) + b"more behind its end") == 128).all()


def test_a_jpeg_of_few_bytes_that_claims_many_pixels() -> None:
    data = encode(Image.new("RGB", (16, 16), (128, 128, 128)), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    data = data[:at] + struct.pack(">HH", 136, 6550) + data[at + 4 :]
    with pytest.raises(DataError, match=MISSING):
        decode_rgb(data, "x")


@pytest.mark.parametrize("decode", DECODERS)
def test_palettes_that_do_not_hold_the_colours(decode: Callable[[bytes, str], object]) -> None:
    rows = b"\0\0\3"
    for call in (decode, image_size):
        with pytest.raises(DataError, match="x is a PNG with a palette that it lacks"):
            call(png(2, 1, 8, 3, rows), "x")
    with pytest.raises(DataError, match="x has a pixel of colour 3, but its palette ends at 2"):
        decode(png(2, 1, 8, 3, rows, before=((b"PLTE", bytes(9)),)), "x")
    decode(png(2, 1, 8, 3, rows, before=((b"PLTE", bytes(12)),)), "x")


@settings(max_examples=30, deadline=None)
@given(
    format=st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM"]),
    damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=5),
    end=st.floats(0, 1),
)
def test_damage_ends_in_pixels_or_a_data_error(
    format: str, damage: list[tuple[float, int]], end: float
) -> None:
    data = bytearray(encode(Image.fromarray(noise(12, 9, 3)), format))
    for where, value in damage:
        data[int(where * len(data))] = value
    messages = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for decode in (*DECODERS, image_size):
            try:
                decode(bytes(data[: int(end * len(data))]), "x")
            except DataError as error:
                messages.append(str(error))
    assert not any("\n" in message or " at 0x" in message for message in messages)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("decode", [*DECODERS, image_size])
def test_several_frames_are_refused(format: str, decode: Callable[[bytes, str], object]) -> None:
    frames = [Image.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(2)]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="x has several frames"):
        decode(data, "x")


FRAME = struct.pack(">IIIIIHHBB", 0, 2, 1, 0, 0, 1, 1, 0, 0)


@pytest.mark.parametrize("before", [(), ((b"fcTL", FRAME),)])
@pytest.mark.parametrize("claimed", [1, 2])
def test_an_animation_of_one_frame_is_a_picture(
    claimed: int, before: tuple[tuple[bytes, bytes], ...]
) -> None:
    control = (b"acTL", struct.pack(">II", claimed, 0))
    assert pixels(png(2, 1, 8, 0, b"\0\7\x09", before=(control, *before)))[0, :, 0].tolist() == [
        7,
        9,
    ]


def test_first_picture_of_an_mpo_is_taken() -> None:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "blue")]
    found = pixels(encode(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert found[0, 0, 0] > 240
    assert found[0, 0, 2] < 15


@pytest.mark.parametrize("side", [10_000, 20_000])
@pytest.mark.parametrize("decode", [*DECODERS, image_size])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels(side: int, decode: Callable[[bytes, str], object]) -> None:
    with pytest.raises(DataError, match=rf"x has {side**2:,} pixels, the limit is 89,478,485;"):
        decode(png(side, side, 8, 0, b"\0"), "x")


def test_too_many_pixels_where_warnings_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="x has 100,000,000 pixels"):
            decode_rgb(png(10_000, 10_000, 8, 0, b"\0"), "x")


def test_pillow_settings_are_left_alone() -> None:
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    data = encode(Image.fromarray(noise(64, 64, 3)))
    with pytest.raises(DataError):
        decode_rgb(data[:-2000], "x")
    assert before == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


# Resizing


def test_a_pillow_that_resizes_otherwise_gives_another_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pillow 13 resizes tall images by other steps than Pillow 12: features of both must not mix."""
    assert resampling() == {}
    resize = Image.Image.resize

    def turned(image: Image.Image, size: tuple[int, int], filter: int) -> Image.Image:
        """The two passes in the other order."""
        across = image.transpose(Image.Transpose.TRANSPOSE)
        return resize(across, size[::-1], filter).transpose(Image.Transpose.TRANSPOSE)

    monkeypatch.setattr(Image.Image, "resize", turned)
    resampling.cache_clear()
    found = resampling()
    resampling.cache_clear()
    assert list(found) == ["resampling"]


@pytest.mark.parametrize("size", [1, 16, 40])
def test_resize_square_is_bicubic_of_the_original(size: int) -> None:
    image = Image.fromarray(noise(20, 30, 3))
    found = resize_square(image, size)
    assert found.shape == (size, size, 3)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert not found.flags.writeable
    np.testing.assert_array_equal(
        found, np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    )


def test_resize_square_follows_the_cubic_kernel() -> None:
    # Keys' kernel with a = -0.5, twice as wide for half the size: weights by hand for a white edge.
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 255
    distance = np.abs(np.arange(8) + 0.5 - 3.0) / 2  # output pixel 1 of 4 is centred on 3.0
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    expected = 255 * weights[4:].sum() / weights.sum()
    found = resize_square(Image.fromarray(edge), 4)[2, 1, 0]
    assert abs(float(found) - max(expected, 0)) <= 1


def test_resize_refuses_what_it_cannot_resize() -> None:
    with pytest.raises(ParameterError, match="size is 0"):
        resize_square(Image.new("RGB", (2, 2)), 0)
    with pytest.raises(DataError, match="mode L"):
        resize_square(Image.new("L", (2, 2)), 4)
    with pytest.raises(ParameterError, match="size is -1"):
        resize_mask(np.ones((2, 2), bool), -1)
    unfit: list[Any] = [np.ones((2, 2)), np.ones((2, 2, 1), bool), np.ones((0, 2), bool)]
    for mask in unfit:
        with pytest.raises(DataError, match="a boolean array"):
            resize_mask(mask, 4)


# Masks


def test_mask_is_where_the_first_channel_is_not_zero() -> None:
    array = np.zeros((2, 3, 4), np.uint8)
    array[0, 0] = (1, 0, 0, 0)
    array[0, 1] = (0, 255, 255, 255)
    expected = [[True, False, False], [False, False, False]]
    assert decode_mask(encode(Image.fromarray(array)), "m").tolist() == expected
    assert decode_mask(encode(Image.fromarray(array[..., :3])), "m").tolist() == expected
    grey_alpha = np.ascontiguousarray(array[..., [0, 3]])
    assert decode_mask(encode(Image.fromarray(grey_alpha, "LA")), "m").tolist() == expected


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "I"])
def test_masks_of_one_channel(mode: str) -> None:
    value = {"1": 1, "L": 1, "I;16": 1, "I": 256}[mode]
    expected = np.array([[True, False, True], [False, False, True]])
    kind = {"1": np.bool_, "L": np.uint8, "I;16": np.uint16, "I": np.int32}[mode]
    image = Image.fromarray(expected if mode == "1" else (expected * value).astype(kind))
    assert image.mode == mode
    mask = decode_mask(encode(image, "TIFF"), "m")
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == np.bool_
    assert not mask.flags.writeable


def palette_mask(*colours: tuple[int, int, int]) -> bytes:
    image = Image.new("P", (len(colours), 1))
    image.putpalette([channel for colour in colours for channel in colour])
    image.putdata(range(len(colours)))
    return encode(image)


def test_palette_masks_go_by_colour_not_by_position() -> None:
    white, black, maroon = (255, 255, 255), (0, 0, 0), (128, 0, 0)
    assert decode_mask(palette_mask(white, black, maroon), "m").tolist() == [[True, False, True]]
    with pytest.raises(DataError, match="m has palette colours without red"):
        decode_mask(palette_mask(black, (0, 128, 0)), "m")


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colour_masks_of_sixteen_bits_are_refused(colour: int, channels: int) -> None:
    row = b"\0" + struct.pack(">H", 200) * channels
    with pytest.raises(DataError, match="m is a mask of 16 bits a channel"):
        decode_mask(png(1, 1, 16, colour, row), "m")


@settings(max_examples=30, deadline=None)
@given(
    mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    factor=st.integers(1, 3),
)
def test_resized_masks(mask: np.ndarray, factor: int) -> None:
    side = max(mask.shape)
    found = resize_mask(mask, side * factor)
    assert found.shape == (side * factor, side * factor)
    assert found.dtype == np.bool_
    if mask.all() or not mask.any():
        assert found.all() == mask.all()
        assert found.any() == mask.any()
    if mask.shape == (side, side):
        np.testing.assert_array_equal(resize_mask(mask, side), mask)
    np.testing.assert_array_equal(
        resize_mask(mask[:, ::-1], side * 2), resize_mask(mask, side * 2)[:, ::-1]
    )


def test_resized_mask_is_bilinear_with_antialias() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :3] = True
    # Triangle of half-width 4 around 2 and 6 (size 2): the edge weighs 0.68 and 0.04.
    assert resize_mask(mask, 2).tolist() == [[True, False], [True, False]]
    mask[:, 2] = False
    assert not resize_mask(mask, 2).any()


def test_shapes_are_height_and_width() -> None:
    image = Image.new("RGB", (40, 20))
    image.paste((255, 0, 0), (30, 0, 40, 5))  # top right
    found = resize_image(image, (10, 30))
    assert found.shape == (10, 30, 3)
    assert found[0, -1, 0] == 255
    assert not found[-1].any()
    assert not found[:, 0].any()
    mask = np.asarray(image)[..., 0] > 0
    small = resize_mask(mask, (10, 20))
    assert small.shape == (10, 20)
    assert small[:2, 15:].all()
    assert not small[:, :14].any()
    np.testing.assert_array_equal(resize_mask(mask, (20, 40)), mask)
    with pytest.raises(ParameterError, match="0 pixels"):
        resize_image(image, (4, 0))
