"""Images as they come: no more than a batch is taken, opened and encoded at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, TypeVar

from fade.errors import DataError, ParameterError
from pipeline.inference.prediction import Picture

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")
E = TypeVar("E")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive pieces of at most ``size`` items, each given before the next is taken.

    Where the items end in an error, those before it are given first, and then it is raised.

    Raises:
        ParameterError: pieces need at least one item.

    Examples:
        >>> list(batches(iter("abcde"), 2))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    if size < 1:
        raise ParameterError(f"batch_size is {size}: give 1 or more")
    source = iter(items)
    failed: Exception | None = None
    while failed is None:
        batch: list[T] = []
        try:
            for item in islice(source, size):
                batch.append(item)
        except Exception as error:
            failed = error
        if batch:
            yield batch
        elif failed is None:
            return
    raise failed


def encoded(
    images: Iterable[Picture],
    size: int,
    opened: Callable[[Picture, int], tuple[str, Image.Image]],
    encode: Callable[[Sequence[Image.Image]], Sequence[E]],
    problems: list[str] | None,
) -> Iterator[tuple[str, Image.Image, E]]:
    """Name, picture and features of images that can be used, in their order.

    Args:
        images: any number of them, also without an end.
        opened: gives the name and the picture of an image and its number.
        encode: gives the features of a batch.
        problems: takes a line for each image that cannot be used; None raises it.

    Raises:
        DataError: an image cannot be used, or these are no images but one.
        ParameterError: the size is below 1.
    """
    one = isinstance(images, str | PathLike) or hasattr(images, "mode")  # a path, a PIL image
    if one or getattr(images, "ndim", 4) == 3:
        raise DataError(
            f"images is one {type(images).__name__}: give several, or one in a list, [image]"
        )

    def taken() -> Iterator[tuple[str, Image.Image] | None]:
        # each is opened before the next is asked for: a camera may fill one array again and again
        for number, image in enumerate(images):
            try:
                picture = opened(image, number)
            except DataError as error:
                if problems is None:
                    raise
                problems.append(str(error))
                yield None
            else:
                yield picture

    for batch in batches(taken(), size):
        pictures = [picture for picture in batch if picture]
        if pictures:
            features = encode([picture for _, picture in pictures])
            for (name, picture), found in zip(pictures, features, strict=True):
                yield name, picture, found
