"""Doubtful pixels are said: turned, dark, cut short, marked all over."""

from __future__ import annotations

import io
import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.errors import DataError
from pipeline.artefacts.catalogue import SKIPPED
from pipeline.artefacts.tables import read_json
from pipeline.dataset.pixel_remarks import PixelRemarks
from tests.pictures import half_copied, pgm_file, png_file
from tests.projects import changed, golden_params, run_stages

WIDTH, HEIGHT = 48, 32


def scene(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 226, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encode(picture: np.ndarray, format: str = "PNG", orientation: int = 1) -> bytes:
    buffer, image = io.BytesIO(), Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(buffer, format, exif=exif if orientation != 1 else None)
    return buffer.getvalue()


def mask(*, inverted: bool = False) -> np.ndarray:
    marked = np.zeros((HEIGHT, WIDTH), bool)
    marked[4:12, 6:20] = True
    return np.where(marked != inverted, 255, 0).astype(np.uint8)


@pytest.fixture
def warnings(
    golden_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., list[str]]:
    """What the manifest says of a data set of eleven images, some of which are replaced."""

    def run(
        images: dict[int, bytes] | None = None,
        masks: bytes | None = None,
        suffix: str = ".png",
        form: str = "folder",
        **leaves: Any,
    ) -> list[str]:
        data = tmp_path / "data"
        for number in range(11):
            part = "train/good" if number < 5 else "test/hole" if number < 10 else "test/good"
            file = data / "part" / part / f"{number}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((images or {}).get(number) or encode(scene(number)))
            if 5 <= number < 10:
                truth = data / "part" / "ground_truth" / "hole" / f"{number}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                truth.write_bytes(masks or encode(mask()))
        params = changed(
            golden_params("fewshot1_both_seed0", golden_checkpoint),
            dataset={"format": form, "path": str(data), "watch": str(data), **leaves},
        )
        with caplog.at_level(logging.WARNING, "fade"):
            run_stages(tmp_path / "run", params, "manifest")
        found = read_json(tmp_path / "run" / SKIPPED.path)["warnings"]
        assert set(found) <= set(caplog.messages)
        return found

    return run


def test_nothing_is_said_of_a_sound_data_set(warnings: Callable[..., list[str]]) -> None:
    assert warnings() == []


@pytest.mark.parametrize("orientation", [2, 3])
@pytest.mark.parametrize("form", ["folder", "mvtec"])
def test_an_orientation_that_is_not_applied(
    warnings: Callable[..., list[str]], form: str, orientation: int
) -> None:
    images = {n: encode(scene(n), "JPEG", orientation) for n in (1, 6, 7)}
    (line,) = warnings(images, form=form)
    assert line.startswith("3 images have an EXIF orientation, which is not applied")
    assert "set dataset.exif_rotation to true" in line


def test_an_orientation_that_is_applied(warnings: Callable[..., list[str]]) -> None:
    assert warnings({6: encode(scene(6), "PNG", 3)}, exif_rotation=True) == []


def test_a_mask_drawn_on_the_upright_image(warnings: Callable[..., list[str]]) -> None:
    stored = np.rot90(scene(6))  # upright it is as its mask
    with pytest.raises(DataError, match=r"set dataset\.exif_rotation to true"):
        warnings({6: encode(stored, "JPEG", 6)})


def test_a_mask_of_another_size_has_nothing_to_do_with_exif(
    warnings: Callable[..., list[str]],
) -> None:
    with pytest.raises(DataError, match=r"must have the same size \(or leave"):
        warnings({6: encode(np.rot90(scene(6)))})


@pytest.mark.parametrize(
    "masks",
    [
        encode(mask(inverted=True)),
        encode(np.full((HEIGHT, WIDTH), 255, np.uint8)),
        encode(np.dstack([np.full((HEIGHT, WIDTH, 3), 255, np.uint8), mask(inverted=True)])),
    ],
    ids=["inverted", "white", "inverted alpha"],
)
def test_masks_that_mark_most_of_their_images(
    warnings: Callable[..., list[str]], masks: bytes
) -> None:
    lines = [line for line in warnings(masks=masks) if "masks mark" in line]
    (line,) = lines
    share = 100 if masks == encode(np.full((HEIGHT, WIDTH), 255, np.uint8)) else 93
    assert line.startswith(f"part: masks mark {share} % of their images (median of 5)")


@pytest.mark.parametrize(
    ("second", "said"), [((0, 0, 255), True), ((0, 1, 0, 255), True), ((0, 0, 255, 0), False)]
)
def test_masks_whose_second_colour_is_not_red(
    warnings: Callable[..., list[str]], second: tuple[int, ...], said: bool
) -> None:
    """It counts as good, which nobody would see; what is fully transparent has no colour."""
    colours = np.zeros((HEIGHT, WIDTH, len(second)), np.uint8)
    colours[4:12, 6:20] = (255, 0, 0, 255)[: len(second)]
    colours[20:24, 6:20] = second
    lines = warnings(masks=encode(colours))
    assert [line[: line.index(",")] for line in lines] == said * [
        "5 masks have colours without red"
    ]


@pytest.mark.parametrize("colours", [False, True])
def test_images_of_16_bits_that_are_dark(warnings: Callable[..., list[str]], colours: bool) -> None:
    values = np.linspace(0, 4095, WIDTH * HEIGHT).astype(int).reshape(HEIGHT, WIDTH)
    values = np.stack([values] * 3, axis=-1) if colours else values
    (line,) = warnings({n: png_file(values + n) for n in range(10)})
    assert line.startswith("10 images of 16 bits without a value that needs more than 14")


def test_a_few_images_that_end_in_zeros(warnings: Callable[..., list[str]]) -> None:
    images = {n: encode(scene(n), "BMP") for n in range(10)}
    images[3], images[8] = half_copied(images[3], 0.6), half_copied(images[8], 0.9)
    (line,) = warnings(images, suffix=".bmp")
    assert line.startswith("2 images end in zeros")
    assert "3.bmp" in line


def test_a_black_background_is_none_of_them() -> None:
    remarks = PixelRemarks(False)
    for number in range(10):
        remarks.add_image(f"{number}.ppm", half_copied(pgm_file(scene(number), 255), 0.7))
    assert list(remarks.lines()) == []
    few = PixelRemarks(False)
    few.add_image("new.ppm", half_copied(pgm_file(scene(1), 255), 0.7))
    assert "copied in part" in next(few.lines())


def test_a_stream_without_an_end_keeps_a_few_names() -> None:
    """Of what a camera gives for weeks."""
    remarks = PixelRemarks(False)
    found = {"orientation": 3, "highest": 5000, "ends_in_zeros": True}
    row = {"category": "", "mask": None, "inspection": found, "loses_colours": False}
    for number in range(7):
        remarks.add(row | {"path": f"first-{number}.png"})
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(3000):
            remarks.add(row | {"path": f"{number}.png"})
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    turned, dark = remarks.lines()
    assert turned.startswith("3,007 images have an EXIF orientation")
    assert turned.endswith("first-3.png; first-4.png; and 3002 more")
    assert dark.startswith("3,007 images of 16 bits")
    assert "first-4.png up to 5000; and 3002 more" in dark


def test_what_holds_for_a_camera_is_said_once() -> None:
    said: set[str] = set()
    lines = []
    for number in range(3):
        remarks = PixelRemarks(False)
        remarks.add_image(f"{number}.png", encode(scene(1), "PNG", 3))
        remarks.add_image(f"{number}.ppm", half_copied(pgm_file(scene(1), 255), 0.7))
        lines.append([" ".join(line.split()[2:4]) for line in remarks.lines(said)])
    assert lines == [["has an", "ends in"], ["ends in"], ["ends in"]]
