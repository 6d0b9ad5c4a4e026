"""Transforms of references."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fade.errors import ParameterError
from fade.transforms import (
    NONE,
    Kind,
    Transform,
    brightness,
    flips,
    random_rotations,
    rotating,
    rotations,
    turns_and_mirrors,
)


def image(height: int = 6, width: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_the_eight_symmetries_of_a_square_are_all_different() -> None:
    found = {transform.apply(image()).tobytes() for transform in turns_and_mirrors()}
    assert len(found) == 8 == len({transform.label for transform in turns_and_mirrors()})
    corner = {tuple(transform.apply(image())[0, 0].tolist()) for transform in turns_and_mirrors()}
    assert len(corner) == 4


def test_turns_of_a_rectangle_keep_all_pixels() -> None:
    turned = Transform("turn", 90).apply(image(4, 6))
    assert turned.shape == (6, 4, 3)
    np.testing.assert_array_equal(Transform("turn", 270).apply(turned), image(4, 6))
    mirrored = Transform("mirror").apply(image(4, 6))
    np.testing.assert_array_equal(mirrored, image(4, 6)[:, ::-1])


def test_rotations_mirror_the_border_without_its_edge() -> None:
    steps = rotations(8)
    assert [step.label for step in steps[:3]] == ["none", "rotate-45", "rotate-90"]
    matrix = cv2.getRotationMatrix2D((4.5, 3.0), 45, 1.0)
    expected = cv2.warpAffine(image(6, 9), matrix, (9, 6), borderMode=cv2.BORDER_DEFAULT)
    np.testing.assert_array_equal(steps[1].apply(image(6, 9)), expected)


def test_an_opencv_that_rotates_otherwise_gives_another_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert rotating() == {}
    monkeypatch.setattr("cv2.__version__", "4.13.0")
    assert rotating() == {"rotated_by": "OpenCV 4"}


def test_random_rotations_come_from_a_seed() -> None:
    assert random_rotations(30, 1) == random_rotations(30, 1) != random_rotations(30, 2)
    assert random_rotations(30, 1)[0] == NONE
    assert all(0 <= one.value <= 345 for one in random_rotations(30, 1))


def test_flips_and_brightness() -> None:
    plain, down, across = (one.apply(image()) for one in flips())
    np.testing.assert_array_equal(plain, image())
    np.testing.assert_array_equal(down, image()[::-1])
    np.testing.assert_array_equal(across, image()[:, ::-1])
    assert [one.label for one in brightness()] == [
        "brightness-0.8", "brightness-0.9", "none", "brightness-1.1", "brightness-1.2",
    ]  # fmt: skip
    pixels = np.array([[[0, 100, 250]]], np.uint8)
    assert Transform("brightness", 1.2).apply(pixels).tolist() == [[[0, 120, 255]]]
    assert Transform("brightness", 0.5).apply(pixels).tolist() == [[[0, 50, 125]]]


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("spin", 1, "none of none, rotate"),
        ("turn", 45, "use 0, 90, 180 or 270"),
        ("mirror", 1, "use 0, 90, 180 or 270"),
        ("flip", 2, "upside down"),
        ("brightness", 0, "over 0"),
        ("brightness", 11, "at most 10"),
    ],
)
def test_transforms_that_are_none(kind: Kind, value: float, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        Transform(kind, value)


@pytest.mark.parametrize("count", [0, 361])
def test_numbers_of_rotations(count: int) -> None:
    with pytest.raises(ParameterError, match="use 1 to 360"):
        rotations(count)


@pytest.mark.parametrize("grid", [(16, 16), (12, 24)])
@pytest.mark.parametrize("size", [(640, 640), (480, 960), (960, 400)])
@pytest.mark.parametrize("degrees", [45, 90, 200])
def test_places_of_rotated_patches_are_where_their_pixels_come_from(
    degrees: int, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    """To the nearest patch: images are rotated first, then squashed; their borders are mirrored."""
    (height, width), (rows, columns) = size, grid
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = (np.arange(height)[:, None] + 0.5) * 255 / height
    image[..., 1] = (np.arange(width) + 0.5) * 255 / width
    transform = Transform("rotate", degrees)
    middles = np.ix_(
        ((np.arange(rows) + 0.5) * height / rows).astype(int),
        ((np.arange(columns) + 0.5) * width / columns).astype(int),
    )
    came_from = transform.apply(image)[middles] / 255
    row, column = np.divmod(transform.sources(grid, size), columns)
    assert np.abs(row + 0.5 - came_from[..., 0] * rows).max() < 0.7
    assert np.abs(column + 0.5 - came_from[..., 1] * columns).max() < 0.7
