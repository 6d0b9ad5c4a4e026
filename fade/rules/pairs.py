"""Which images score each other: pure plans for mutual scoring, made of numbers alone.

Sources: Li et al., MuSc, ICLR 2024, arXiv 2401.16753, section 3.5 (disjoint sets).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fade.errors import ParameterError, counted

MIN_IMAGES = 5
"""Fewest images of a category: with less, the lowest share of the others is a single image or none."""


def check_batch(images: int) -> None:
    """Refuse batches that are too small to score each other (ParameterError)."""
    if images < MIN_IMAGES:
        raise ParameterError(
            f"a batch of {counted(images, 'image')} cannot score itself, at least {MIN_IMAGES} are "
            "needed: give more images, or score them against references or a stored sample of a batch"
        )


def disjoint_sets(images: int, largest: int, seed: int) -> list[np.ndarray]:
    """Images in random sets of at most ``largest``, whose sizes differ by one at most.

    Args:
        images: how many.
        largest: at least :data:`MIN_IMAGES`.
        seed: of the order that they are drawn in.

    Returns:
        Ascending numbers of the images of each set; each image is in one.

    Raises:
        ParameterError: too few images, or sets that are too small.
    """
    check_batch(images)
    if largest < MIN_IMAGES:
        raise ParameterError(f"sets of {counted(largest, 'image')}: use at least {MIN_IMAGES}")
    count = -(-images // largest)
    if images // count < MIN_IMAGES:
        count = images // MIN_IMAGES  # a few over the limit are better than too few
    order = np.random.default_rng(seed).permutation(images)
    return [np.sort(part) for part in np.array_split(order, count)]


def all_pairs(images: int) -> np.ndarray:
    """Each unordered pair once: (n (n - 1) / 2, 2) numbers, the larger one first."""
    first, second = np.tril_indices(images, -1)
    return np.column_stack([first, second])


def circle_pairs(images: int, partners: int, seed: int) -> np.ndarray:
    """Pairs in which each image has exactly ``partners`` others: the cost grows with the images alone.

    Images stand on a circle in an order drawn with a seed; each is paired with the next half of
    ``partners``. Where there are no more than ``partners`` others, with all of them.

    Args:
        images: how many.
        partners: even.
        seed: of the order.

    Returns:
        (images x partners / 2, 2) numbers, each unordered pair once, the larger one first.

    Raises:
        ParameterError: an odd number of partners, or too few.
    """
    if partners < 2 or partners % 2:
        raise ParameterError(f"{partners} partners of each image: use an even number from 2 on")
    if images - 1 <= partners:
        return all_pairs(images)
    order = np.random.default_rng(seed).permutation(images)
    steps = np.arange(1, partners // 2 + 1)
    later = order[(np.arange(images)[:, None] + steps) % images]
    pairs = np.column_stack([np.repeat(order, len(steps)), later.reshape(-1)])
    return np.sort(pairs, axis=1)[:, ::-1]


def count_pairs(images: int, *, partners: int | None, largest: int) -> int:
    """How many pairs :func:`pairing` makes, without making them.

    Raises:
        ParameterError: as there.

    Examples:
        >>> count_pairs(1000, partners=32, largest=256), count_pairs(16, partners=None, largest=8)
        (16000, 56)
    """
    check_batch(images)
    if partners is not None and images - 1 > partners:
        return images * partners // 2
    sizes = [images] if partners else map(len, disjoint_sets(images, largest, 0))
    return sum(size * (size - 1) // 2 for size in sizes)


def pairing(
    images: int, *, partners: int | None, largest: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a batch, by places in an order in which partners stand near each other.

    Blocks of neighbours then read each image a few times.

    Args:
        images: how many.
        partners: of each image on a circle; None: all others of its disjoint set.
        largest: most images of such a set.
        seed: of the order.

    Returns:
        (images,) numbers of images in that order, and (n, 2) places, each unordered pair once.

    Raises:
        ParameterError: too few images, an odd number of partners, or sets that are too small.

    Examples:
        >>> order, pairs = pairing(6, partners=2, largest=100, seed=0)
        >>> order.tolist(), len(pairs), np.bincount(pairs.ravel()).tolist()
        ([3, 2, 5, 4, 0, 1], 6, [2, 2, 2, 2, 2, 2])
    """
    check_batch(images)
    if partners is not None and images - 1 > partners:
        order = np.random.default_rng(seed).permutation(images)
        pairs = np.argsort(order)[circle_pairs(images, partners, seed)]
        return order, np.sort(pairs, axis=1)[:, ::-1]
    sets = [np.arange(images)] if partners else disjoint_sets(images, largest, seed)
    first = np.cumsum([0, *map(len, sets)])
    pairs = [all_pairs(len(part)) + start for part, start in zip(sets, first, strict=False)]
    return np.concatenate(sets), np.concatenate(pairs)


@dataclass(frozen=True, slots=True, eq=False)
class PairBlock:
    """Pairs that are computed together, with the images that they touch.

    Attributes:
        images: ascending numbers of the images to read.
        pairs: (n, 2) numbers of images.
    """

    images: np.ndarray
    pairs: np.ndarray


def pair_blocks(pairs: np.ndarray, images: int) -> list[PairBlock]:
    """Pairs cut into tasks that touch at most ``2 x images`` images each; together all, each once.

    Depends on nothing but its arguments, so that an interrupted run finds its blocks again.

    Args:
        pairs: (n, 2).
        images: of one side of a block.

    Examples:
        >>> [block.pairs.tolist() for block in pair_blocks(all_pairs(3), images=2)]
        [[[1, 0]], [[2, 0], [2, 1]]]
    """
    if images < 1:
        raise ParameterError(f"blocks of {images} images: use at least 1")
    if not len(pairs):
        return []
    tile = pairs // images
    order = np.lexsort((pairs[:, 1], pairs[:, 0], tile[:, 1], tile[:, 0]))
    ordered = tile[order]
    borders = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
    return [PairBlock(np.unique(part), part) for part in np.split(pairs[order], borders)]
