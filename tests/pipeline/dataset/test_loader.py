"""Images come in order, and one that cannot be used does not stop the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache.layout import content_key
from fade.errors import DataError
from fade.preprocess import decode_rgb, resize_image
from fade.transforms import NONE
from pipeline.dataset import loader
from pipeline.dataset.loader import ImageSource, Pixels, Pose, load_pixels, prefetch

COUNT = 12
SMALL: Pose = ((8, 8), NONE)


@pytest.fixture
def images(tmp_path: Path) -> list[ImageSource]:
    sources = []
    for i in range(COUNT):
        # the first is the largest: it is finished last when nobody waits for it
        side = 600 if i == 0 else 16 + i
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (side, side + 3), (20 * i, 255 - 20 * i, 7)).save(path)
        sources.append(ImageSource(content_key(path.read_bytes()), path.name))
    return sources


def load(
    sources: list[ImageSource],
    root: Path,
    workers: int = 3,
    ahead: int = 4,
) -> list[Pixels | DataError]:
    work = ((source, (SMALL,)) for source in sources)
    return list(prefetch(work, root, exif_rotation=False, workers=workers, ahead=ahead))


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("ahead", [0, 1, 100])
def test_images_come_in_order(
    images: list[ImageSource], tmp_path: Path, workers: int, ahead: int
) -> None:
    loaded = load(images, tmp_path, workers, ahead)
    assert len(loaded) == COUNT
    for i, pixels in enumerate(loaded):
        assert isinstance(pixels, dict)
        assert (pixels[SMALL] == (20 * i, 255 - 20 * i, 7)).all()


def test_each_size_is_made_from_the_original(images: list[ImageSource], tmp_path: Path) -> None:
    poses: list[Pose] = [SMALL, ((32, 32), NONE), ((8, 24), NONE)]
    pixels = load_pixels(images[3], tmp_path, poses, exif_rotation=False)
    whole = decode_rgb((tmp_path / images[3].path).read_bytes(), "x")
    assert list(pixels) == poses
    for (shape, _), array in pixels.items():
        assert array.shape == (*shape, 3)
        assert array.dtype == np.uint8
        assert np.array_equal(array, resize_image(whole, shape))


def test_sizes_may_differ_between_images(images: list[ImageSource], tmp_path: Path) -> None:
    others: list[Pose] = [((9, 9), NONE), ((10, 10), NONE)]
    work: list[tuple[ImageSource, list[Pose]]] = [
        (images[0], [SMALL]), (images[1], others), (images[0], [])
    ]  # fmt: skip
    loaded = list(prefetch(work, tmp_path, exif_rotation=False, workers=2, ahead=2))
    assert [list(pixels) for pixels in loaded if isinstance(pixels, dict)] == [[SMALL], others, []]


def test_errors_take_the_place_of_their_images(images: list[ImageSource], tmp_path: Path) -> None:
    (tmp_path / "2.png").unlink()
    with (tmp_path / "5.png").open("ab") as file:
        file.write(b"\0")
    broken = b"no image at all"
    (tmp_path / "7.png").write_bytes(broken)
    images[7] = ImageSource(content_key(broken), "7.png")
    (tmp_path / "9.png").unlink()
    (tmp_path / "9.png").mkdir()
    loaded = load(images, tmp_path)
    errors = {i: str(found) for i, found in enumerate(loaded) if isinstance(found, DataError)}
    assert errors[2] == "2.png cannot be read: No such file or directory"
    assert errors[5] == "5.png changed since the run began: run `fade run` again"
    assert errors[7].startswith("7.png")
    assert errors[9] == "9.png cannot be read: Is a directory"
    assert sorted(errors) == [2, 5, 7, 9]
    assert all(isinstance(loaded[i], dict) for i in set(range(COUNT)) - set(errors))


def test_another_image_of_the_same_size_is_noticed(
    images: list[ImageSource], tmp_path: Path
) -> None:
    data = bytearray((tmp_path / "4.png").read_bytes())
    data[-20] ^= 1
    (tmp_path / "4.png").write_bytes(data)
    with pytest.raises(DataError, match=r"4\.png changed"):
        load_pixels(images[4], tmp_path, (SMALL,), exif_rotation=False)


@pytest.mark.parametrize(
    ("pixels", "workers", "waiting"),
    [(64, 2, 3), (63, 2, 2), (63, 1, 1), (21, 3, 3)],
)
def test_no_more_images_wait_than_allowed(
    images: list[ImageSource],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pixels: int,
    workers: int,
    waiting: int,
) -> None:
    """Of images of 64 pixels, which count as one, two or four, one waits for each thread at least."""
    monkeypatch.setattr(loader, "WAITING_PIXELS", pixels)
    taken = 0

    def work() -> Iterator[tuple[ImageSource, tuple[Pose, ...]]]:
        nonlocal taken
        for source in images:
            taken += 1
            yield source, (SMALL,)

    results = prefetch(work(), tmp_path, exif_rotation=False, workers=workers, ahead=3)
    for given in range(1, COUNT + 1):
        next(results)
        assert taken == min(COUNT, given + waiting)


def test_a_reader_that_stops_leaves_no_threads(images: list[ImageSource], tmp_path: Path) -> None:
    work = ((source, (SMALL,)) for source in images)
    results = prefetch(work, tmp_path, exif_rotation=False, workers=3, ahead=5)
    next(results)
    assert any(thread.name.startswith("loader") for thread in threading.enumerate())
    results.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("loader") for thread in threading.enumerate())


def test_no_work_gives_nothing(tmp_path: Path) -> None:
    assert load([], tmp_path) == []
