"""What a mask means, by kind of file; kinds that Pillow writes are tested with fade.preprocess."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from fade.masks import decode_mask

MARKED = np.zeros((20, 31), bool)
MARKED[3:9, 4:12] = True


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def assert_marked(data: bytes, expected: np.ndarray = MARKED) -> None:
    np.testing.assert_array_equal(decode_mask(data, "x"), expected)


@pytest.mark.parametrize("photometric", [None, "minisblack", "miniswhite"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_boolean_array_saved_as_tiff(photometric: str | None, compression: str | None) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, MARKED, photometric=photometric, compression=compression)
    assert_marked(buffer.getvalue())


@pytest.mark.parametrize("compression", [None, "group3", "group4", "tiff_lzw"])
def test_a_black_and_white_picture_saved_as_tiff(compression: str | None) -> None:
    assert_marked(encode(Image.fromarray(MARKED), "TIFF", compression=compression))


@pytest.mark.parametrize("colour", [255, 7])
@pytest.mark.parametrize("form", ["RGBA", "LA"])
def test_transparency_marks_where_one_colour_is_everywhere(form: str, colour: int) -> None:
    alpha = np.where(MARKED, 255, 0).astype(np.uint8)
    bands = [np.full(MARKED.shape, colour, np.uint8)] * (3 if form == "RGBA" else 1)
    assert_marked(encode(Image.fromarray(np.stack([*bands, alpha], axis=-1), form)))


@pytest.mark.parametrize("form", ["RGBA", "LA"])
@pytest.mark.parametrize("alpha", ["all", "none", "defect", "rest"])
def test_colours_count_where_they_can_tell(form: str, alpha: str) -> None:
    opaque = {
        "all": np.ones_like(MARKED), "none": np.zeros_like(MARKED), "defect": MARKED,
        "rest": ~MARKED,
    }[alpha]  # fmt: skip
    grey = np.where(MARKED, 255, 0).astype(np.uint8)
    bands = [grey] * (3 if form == "RGBA" else 1)
    last = np.where(opaque, 255, 0).astype(np.uint8)
    assert_marked(encode(Image.fromarray(np.stack([*bands, last], axis=-1), form)))


def palette_png(colours: list[tuple[int, int, int]], **options: Any) -> bytes:
    image = Image.fromarray(MARKED.astype(np.uint8), "L").convert("P")
    image.putpalette([value for colour in colours for value in colour])
    return encode(image, **options)


def test_the_first_colour_of_a_palette_without_black_is_the_background() -> None:
    assert_marked(palette_png([(255, 255, 255), (255, 0, 0)]))
    assert_marked(palette_png([(68, 1, 84), (253, 231, 37)]))  # viridis
    assert_marked(palette_png([(0, 0, 0), (255, 0, 0)]))
    assert_marked(palette_png([(255, 0, 0), (0, 0, 0)]), ~MARKED)  # black is good, wherever it is
    assert_marked(palette_png([(255, 255, 255), (255, 0, 0)], transparency=1), ~MARKED)


def test_a_mask_that_marks_everything_does() -> None:
    everything = np.ones_like(MARKED)
    assert_marked(encode(Image.new("L", (31, 20), 255)), everything)
    assert_marked(encode(Image.new("RGBA", (31, 20), (255, 255, 255, 255))), everything)
    assert_marked(encode(Image.new("P", (31, 20), 0), "PNG"), np.zeros_like(MARKED))
