"""Which training images a seed takes as references."""

from __future__ import annotations

import numpy as np

from fade.errors import ParameterError

MAX_IMAGES = (2**32 - 1) // 20
"""Smallest number of images that is refused: torch draws 64-bit numbers for permutations from here on."""


def reference_order(images: int, seed: int) -> list[int]:
    """The order in which a seed takes images; the shots are its first entries, so they nest.

    Reproduces the official implementation, whose shuffled data loader draws twice from torch's
    global generator before it draws the permutation from a fresh one. Torch's generator on the CPU
    is the Mersenne Twister, as numpy's is: so nobody waits for torch to be imported.

    Args:
        images: how many training images there are, in the data set's own order.
        seed: not negative.

    Returns:
        A permutation of ``range(images)``.

    Examples:
        >>> reference_order(6, seed=0)
        [0, 4, 3, 5, 2, 1]
    """
    if images < 0 or seed < 0:
        raise ParameterError(f"images and seed must not be negative, not {images} and {seed}")
    if images >= MAX_IMAGES:
        raise ParameterError(f"a category may have up to {MAX_IMAGES:,} images, not {images:,}")
    # the loader's base seed, then the sampler's: 64 bits each, the high half first
    words = _words(seed, 4)
    return _permutation(images, (int(words[2]) << 32 | int(words[3])) % 2**63)


def _words(seed: int, count: int) -> np.ndarray:
    """The first 32-bit numbers of torch's CPU generator, which takes the seed's low 32 bits."""
    return np.frombuffer(np.random.RandomState(seed % 2**32).bytes(4 * count), "<u4")


def _permutation(count: int, seed: int) -> list[int]:
    """``torch.randperm``: each position swaps with itself or a later one."""
    order = list(range(count))
    later = (_words(seed, max(count - 1, 0)) % np.arange(count, 1, -1)).tolist()
    for position, step in enumerate(later):
        other = position + step
        order[position], order[other] = order[other], order[position]
    return order
