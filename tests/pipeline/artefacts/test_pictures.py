"""Pictures as image files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artefacts.pictures import write_picture


@pytest.mark.parametrize(
    ("name", "form"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.tif", "TIFF"), ("a.webp", "WEBP")]
)
def test_the_suffix_says_the_format(tmp_path: Path, name: str, form: str) -> None:
    write_picture(np.full((4, 6, 3), 200, np.uint8), tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert (image.format, image.size, image.getpixel((5, 3))) == (form, (6, 4), (200,) * 3)
