"""Images decoded and resized in the background, in order, while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cache.layout import content_key
from fade.aspect import Shape
from fade.errors import DataError
from fade.preprocess import decode_rgb, resize_image
from fade.types import DataPath


@dataclass(frozen=True, slots=True)
class Source:
    """An image file and the content that the manifest saw in it."""

    key: str
    path: str


Pixels = dict[int, np.ndarray]
"""Uint8 RGB of (height, width, 3) by size, a square unless it was asked for otherwise."""


def load_pixels(
    source: Source,
    root: DataPath,
    sizes: Sequence[int],
    exif_rotation: bool,
    shapes: Mapping[int, Shape] | None = None,
) -> Pixels:
    """Decode one image and resize it to each size.

    ``shapes`` says which (height, width) a size stands for, where it is no square.

    Raises:
        DataError: unreadable, broken, or changed since the manifest was made.
    """
    try:
        data = (root / source.path).read_bytes()
    except OSError as error:
        raise DataError(f"{source.path} cannot be read: {error.strerror}") from None
    if content_key(data) != source.key:
        raise DataError(f"{source.path} changed while the pipeline ran: run `dvc repro` again")
    image = decode_rgb(data, source.path, exif_rotation=exif_rotation)
    return {size: resize_image(image, (shapes or {}).get(size, (size, size))) for size in sizes}


def prefetch(
    work: Iterable[tuple[Source, tuple[int, ...]]],
    root: DataPath,
    *,
    exif_rotation: bool,
    workers: int,
    ahead: int,
    shapes: Mapping[int, Shape] | None = None,
) -> Iterator[Pixels | DataError]:
    """Pixels of each image, in order; an image that cannot be used gives its error instead.

    Args:
        work: images and the sizes wanted of each.
        root: folder that their paths are relative to.
        exif_rotation: whether to apply the camera's rotation.
        workers: threads; decoding and resizing leave Python's lock alone.
        ahead: how many images may wait, which bounds the memory.
        shapes: see :func:`load_pixels`.
    """

    def attempt(source: Source, sizes: tuple[int, ...]) -> Pixels | DataError:
        try:
            return load_pixels(source, root, sizes, exif_rotation, shapes)
        except DataError as error:
            return error

    waiting: deque[Future[Pixels | DataError]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        for source, sizes in work:
            waiting.append(pool.submit(attempt, source, sizes))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
