"""Images decoded and resized in the background, in order, while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cache.keys import Keys, SortedMapping
from cache.layout import content_key
from fade.aspect import AspectRatio, Shape
from fade.errors import DataError
from fade.files import read_data
from fade.preprocess import decode_rgb, resize_image
from fade.transforms import NONE, Transform
from fade.types import DataPath
from pipeline.artefacts.catalogue import AGAIN, CHANGED


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image file and the content that the manifest saw in it."""

    key: str
    path: str


class ImageSources(SortedMapping[ImageSource]):
    """Sources by key; of equal contents one file serves.

    Args:
        keys: of n images.
        paths: (n,) sequence of their paths.
    """

    def __init__(self, keys: Iterable[str], paths: Sequence[str]) -> None:
        found = Keys.of(keys)
        order = np.argsort(found.data, kind="stable")
        last = np.ones(len(order), bool)
        last[:-1] = found.data[order[1:]] != found.data[order[:-1]]
        self._rows, self._paths = order[last], paths
        super().__init__(found.take(self._rows))

    def _at(self, position: int) -> ImageSource:
        path = self._paths[int(self._rows[position])]
        return ImageSource(self.sorted_keys[position], str(path))


Pose = tuple[Shape, Transform]
"""(height, width) in pixels, and what is done to the image before it is resized."""
WAITING_PIXELS = 1 << 22
"""An image that waits counts as one for each so many of its pixels, in all poses."""
Pixels = dict[Pose, np.ndarray]
"""Uint8 RGB of (height, width, 3) by pose."""


def read_unchanged(root: DataPath, path: str, key: str) -> bytes:
    """The content of a file that the manifest knows by ``key``.

    Raises:
        DataError: unreadable, or changed since the manifest was made.
    """
    data = read_data(root / path, path)
    if content_key(data) != key:
        raise DataError(f"{path} {CHANGED}: {AGAIN}")
    return data


def load_pixels(
    source: ImageSource,
    root: DataPath,
    poses: Sequence[Pose],
    exif_rotation: bool,
    aspect: AspectRatio | None = None,
) -> Pixels:
    """Decode one image, transform it and resize it for each pose; an aspect ratio may crop it.

    Raises:
        DataError: unreadable, broken, or changed since the manifest was made.
    """
    data = read_unchanged(root, source.path, source.key)
    image = decode_rgb(data, source.path, exif_rotation=exif_rotation)
    found: Pixels = {}
    for transform in dict.fromkeys(transform for _, transform in poses):
        turned = image
        if transform != NONE:
            turned = Image.fromarray(transform.apply(np.asarray(image)))
        for pose in poses:
            if pose[1] == transform:
                found[pose] = resize_image(turned, pose[0], aspect)
    return found


def prefetch(
    work: Iterable[tuple[ImageSource, Sequence[Pose]]],
    root: DataPath,
    *,
    exif_rotation: bool,
    workers: int,
    ahead: int,
    aspect: AspectRatio | None = None,
) -> Iterator[Pixels | DataError]:
    """Pixels of each image, in order; an image that cannot be used gives its error instead.

    Args:
        work: images and the poses wanted of each.
        root: folder that their paths are relative to.
        exif_rotation: whether to apply the camera's rotation.
        workers: threads; decoding and resizing leave Python's lock alone.
        ahead: how many images may wait, which bounds the memory; one of many pixels counts as several,
            though one waits for each thread.
        aspect: that images keep, see :func:`load_pixels`.
    """

    def attempt(source: ImageSource, poses: Sequence[Pose]) -> Pixels | DataError:
        try:
            return load_pixels(source, root, poses, exif_rotation, aspect)
        except DataError as error:
            return error

    waiting: deque[Future[Pixels | DataError]] = deque()
    weights: deque[int] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        for source, poses in work:
            waiting.append(pool.submit(attempt, source, poses))
            pixels = sum(height * width for (height, width), _ in poses)
            weights.append(max(1, -(-pixels // WAITING_PIXELS)))
            while sum(weights) > ahead and len(waiting) > min(workers, ahead):
                weights.popleft()
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
