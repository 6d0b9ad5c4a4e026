"""Thinning of large banks as SuperADD does it: crowded places lose most vectors.

An alternative to the greedy coreset of :func:`fade.bank.coreset`, whose cost grows with the product of
what is kept and what there is. Source: Roming et al., SuperADD, CVPR 2026 workshop, arXiv 2605.14808.
"""

from __future__ import annotations

import numpy as np

from fade.errors import ParameterError

GROWTH = 1.1
"""Factor of the radius from one try to the next."""


def thin(
    vectors: np.ndarray, count: int, *, seed: int, rounds: int = 100, neighbours: int = 100
) -> np.ndarray:
    """Choose vectors that are spread about evenly.

    In each round a random part of what was not kept yet is drawn, of which each vector is kept with
    probability 1 / (1 + vectors within a radius, itself among them), a radius that grows until few
    enough are kept.
    What is missing at last is drawn at random.

    Args:
        vectors: (n, dim) float32.
        count: how many to keep.
        seed: of all draws.
        rounds: how many parts are drawn.
        neighbours: at most so many of the nearest are counted, itself among them.

    Returns:
        Ascending indices, ``count`` of them or all.

    Raises:
        ParameterError: a number below 1.

    Examples:
        >>> vectors = np.repeat(np.arange(4, dtype=np.float32), 25)[:, None]
        >>> kept = thin(vectors, 8, seed=0, rounds=2)
        >>> len(kept), sorted(set(vectors[kept, 0].tolist()))
        (8, [0.0, 1.0, 2.0, 3.0])
    """
    if min(count, rounds, neighbours) < 1:
        raise ParameterError(
            f"thinning to {count} vectors in {rounds} rounds with {neighbours} neighbours: all are at "
            "least 1"
        )
    if len(vectors) <= count:
        return np.arange(len(vectors))
    generator = np.random.default_rng(seed)
    kept = np.zeros(len(vectors), bool)
    part, share = max(1, len(vectors) // rounds), max(1, count // rounds)
    for _ in range(rounds):
        room = count - int(kept.sum())
        if room <= 0:
            break
        left = np.flatnonzero(~kept)
        drawn = generator.permutation(left)[:part]
        kept[drawn] = _spread(vectors[drawn], min(share, room), neighbours, generator)
    missing = count - int(kept.sum())
    if missing:
        kept[generator.permutation(np.flatnonzero(~kept))[:missing]] = True
    return np.flatnonzero(kept)


def _spread(
    vectors: np.ndarray, most: int, neighbours: int, generator: np.random.Generator
) -> np.ndarray:
    """Which of (n, dim) vectors to keep, at most ``most``: (n,) bool."""
    vectors = vectors - vectors.mean(axis=0)  # products of long vectors lose near ones
    squares = np.einsum("ij,ij->i", vectors, vectors)
    distances = squares[:, None] + squares - 2 * (vectors @ vectors.T)
    np.sqrt(np.maximum(distances, 0, out=distances), out=distances)
    near = min(neighbours, len(vectors))
    distances = np.partition(distances, near - 1, axis=1)[:, :near]
    luck = generator.random(len(vectors))
    radius, farthest = float(distances.mean()) / 10, float(distances.max())
    while True:
        crowd = (distances < radius).sum(axis=1) + 1
        kept = luck < 1 / crowd
        if kept.sum() <= most:
            return kept
        if radius > farthest or not radius:  # all are as crowded as can be: luck alone decides
            kept[:] = False
            kept[np.argsort(luck, kind="stable")[:most]] = True
            return kept
        radius *= GROWTH
