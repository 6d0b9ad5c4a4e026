"""Outputs of whole images from those of their tiles, in the memory of one and a few tiles."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest

from fade.tiles import cut_tiles, plan_tiles, stitch
from pipeline.features import tiling
from pipeline.features.tiling import encode_tiles

STRIDES = {"fine": 2, "coarse": 4}


def encode(batch: np.ndarray) -> Mapping[str, np.ndarray]:
    """A tile's values and where they lie in it: a cell of another tile differs."""
    cells = {
        name: batch[:, ::stride, ::stride].astype(np.float32) for name, stride in STRIDES.items()
    }
    for array in cells.values():
        array[..., 0] += 1000 * np.arange(array.shape[2])
    return cells


@pytest.mark.parametrize("at_once", [1, 2 * 16 * 16, 1 << 22])
def test_each_image_is_stitched_of_its_own_tiles(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "TILE_PIXELS", at_once)
    images = np.random.default_rng(0).integers(0, 255, (3, 36, 52, 3), np.uint8)
    tiles = plan_tiles((9, 13), 4, 1)
    found = encode_tiles(images, tiles, 4, STRIDES, encode)
    for name, stride in STRIDES.items():
        scaled = [tile.scaled(4 // stride) for tile in tiles]
        for image, row in zip(images, found[name], strict=True):
            parts = [encode(part[None])[name][0] for part in cut_tiles(image, tiles, 4)]
            expected = stitch(parts, scaled, (36 // stride, 52 // stride))
            np.testing.assert_array_equal(row, expected)


def test_features_are_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Besides them there are a few tiles, so that larger images take no more."""
    monkeypatch.setattr(tiling, "TILE_PIXELS", 64 * 64)
    image = np.zeros((1, 1024, 1024, 3), np.uint8)
    tiles = plan_tiles((256, 256), 16, 1)
    tracemalloc.start()
    try:
        found = encode_tiles(image, tiles, 4, STRIDES, encode)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * sum(array.nbytes for array in found.values())


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [2, 2, 2]), ("cuda", [4, 2])])
def test_so_many_pixels_are_encoded_at_once(
    device: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "TILE_PIXELS", 2 * 64 + 63)
    monkeypatch.setattr(tiling, "GPU_TILE_PIXELS", 4 * 64)
    seen: list[int] = []

    def count(batch: np.ndarray) -> Mapping[str, np.ndarray]:
        seen.append(len(batch))
        return encode(batch)

    tiles = plan_tiles((4, 6), 2, 0)
    encode_tiles(np.zeros((1, 16, 24, 3), np.uint8), tiles, 4, STRIDES, count, device)
    assert seen == sizes
