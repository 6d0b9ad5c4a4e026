"""Masks of one file, and of a folder of several."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache.layout import content_key
from fade.errors import DataError
from pipeline.dataset.masks import read_mask, read_unchanged_mask


def test_the_files_of_a_folder_together_are_the_mask(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for number in range(2):
        pixels = np.zeros((3, 4), np.uint8)
        pixels[number, number] = 1 + number
        Image.fromarray(pixels).save(tmp_path / f"m/00{number}.png")
    one, key = read_mask(tmp_path, "m/000.png")
    assert np.argwhere(one).tolist() == [[0, 0]]
    assert key == content_key((tmp_path / "m/000.png").read_bytes())
    both, key = read_mask(tmp_path, "m/")
    assert np.argwhere(both).tolist() == [[0, 0], [1, 1]]
    assert (read_unchanged_mask(tmp_path, "m/", key) == both).all()
    Image.new("L", (4, 3)).save(tmp_path / "m/001.png")
    with pytest.raises(DataError, match="m/ changed since"):
        read_unchanged_mask(tmp_path, "m/", key)
    Image.new("L", (3, 3)).save(tmp_path / "m/001.png")
    with pytest.raises(DataError, match=r"m/001.png is 3 x 3 pixels, .* before it 4 x 3"):
        read_mask(tmp_path, "m/")
