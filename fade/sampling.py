"""Which training images a seed takes as references."""

from __future__ import annotations

from fade.errors import ParameterError


def reference_order(images: int, seed: int) -> list[int]:
    """The order in which a seed takes images; the shots are its first entries, so they nest.

    Reproduces the official implementation, whose shuffled data loader draws twice from torch's
    global generator before it draws the permutation from a fresh one.

    Args:
        images: how many training images there are, in the data set's own order.
        seed: not negative.

    Returns:
        A permutation of ``range(images)``.
    """
    import torch

    if images < 0 or seed < 0:
        raise ParameterError(f"images and seed must not be negative, not {images} and {seed}")
    generator = torch.Generator().manual_seed(seed)
    torch.empty((), dtype=torch.int64).random_(generator=generator)  # the loader's base seed
    sampler_seed = torch.empty((), dtype=torch.int64).random_(generator=generator)
    sampler = torch.Generator().manual_seed(int(sampler_seed))
    return torch.randperm(images, generator=sampler).tolist()
