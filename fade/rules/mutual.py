"""Images that score each other: patches that few other images have are anomalous.

The score of a patch is the mean of the lowest share of its distances to the nearest patch of each
other image. It is transductive: it depends on the batch. Source: Li et al., MuSc, ICLR 2024, arXiv
2401.16753, equations 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fade.errors import DataError, ParameterError
from fade.rules.pairs import check_batch
from fade.views import Metric

LONG = 2.0
"""Squared length from which on products lose near vectors: these are taken around a mean, then."""
SHARE = 0.3
"""Share of the other images, the nearest ones, whose distances are averaged: MuSc's interval average."""


def lowest_count(others: int, share: float = SHARE) -> int:
    """How many of a patch's distances are averaged: ``int(share others)``, at least one.

    Raises:
        ParameterError: the share is not over 0 and at most 1.

    Examples:
        >>> lowest_count(100, share=0.3), lowest_count(2, share=0.3)
        (30, 1)
    """
    if not 0 < share <= 1:
        raise ParameterError(f"the share of other images is over 0 and at most 1, not {share:g}")
    return max(1, int(share * others))


def comparable(patches: np.ndarray, metric: Metric) -> np.ndarray:
    """Vectors whose products rank as the metric does; made once for each image.

    Euclidean distances become products of vectors that are two entries longer: (x, 1, -|x|^2 / 2)
    on one side and (y, -|y|^2 / 2, 1) on the other have the product -|x - y|^2 / 2.

    Args:
        patches: (P, dim) float32; of unit length for ``cosine``.
        metric: how distances are measured.

    Returns:
        (P, dim) or (P, dim + 2) float32.

    Examples:
        >>> comparable(np.array([[3.0, 4.0]], np.float32), "euclidean").tolist()
        [[3.0, 4.0, 1.0, -12.5]]
    """
    if metric == "cosine":
        return np.ascontiguousarray(patches, np.float32)
    half = -0.5 * np.einsum("ij,ij->i", patches, patches, dtype=np.float64)
    extra = np.column_stack([np.ones(len(patches)), half])
    return np.concatenate([patches, extra], axis=1, dtype=np.float32)


def facing(vectors: np.ndarray, metric: Metric) -> np.ndarray:
    """What :func:`comparable` made, as the second side of :func:`match`; for cosines it is the same.

    Examples:
        >>> facing(comparable(np.array([[3.0, 4.0]], np.float32), "euclidean"), "euclidean").tolist()
        [[3.0, 4.0, -12.5, 1.0]]
    """
    if metric == "cosine":
        return vectors
    other = vectors.copy()
    other[:, [-2, -1]] = vectors[:, [-1, -2]]
    return other


def match(
    first: np.ndarray, second: np.ndarray, metric: Metric, buffer: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of two images' patches to the nearest patch of the other: one product serves both.

    Args:
        first: (P, D) of :func:`comparable`.
        second: (Q, D) of :func:`facing`.
        metric: ``cosine`` is 1 - cosine, ``euclidean`` the length of the difference.
        buffer: (P, Q) float32 to be written over; None for one of its own.

    Returns:
        (P,) of the first image's patches and (Q,) of the second's, float32.

    Examples:
        >>> first, second = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]])
        >>> turned = facing(comparable(second, "euclidean"), "euclidean")
        >>> to_second, to_first = match(comparable(first, "euclidean"), turned, "euclidean")
        >>> to_second.tolist(), to_first.tolist()
        ([1.0], [5.0, 1.0])
    """
    if metric == "euclidean" and -2 * min(first[:, -1].min(), second[:, -2].min()) > LONG:
        middle = first[:, :-2].mean(axis=0)
        first, second = (comparable(one[:, :-2] - middle, metric) for one in (first, second))
        second = facing(second, metric)
    products = np.matmul(first, second.T, out=buffer)
    return _distances(products.max(axis=1), metric), _distances(products.max(axis=0), metric)


def _distances(products: np.ndarray, metric: Metric) -> np.ndarray:
    if metric == "cosine":
        return np.maximum(1 - products, 0)
    return np.sqrt(np.maximum(-2 * products, 0))


class Lowest:
    """The lowest distances of each patch of an image, in bounded memory: 2 ``count`` values a patch.

    The result does not depend on the order in which distances come.

    Examples:
        >>> lowest = Lowest(patches=2, count=2)
        >>> for distances in ([9, 1], [3, 5], [1, 9]):
        ...     lowest.add(np.array(distances))
        >>> lowest.mean().tolist()
        [2.0, 3.0]
    """

    def __init__(self, patches: int, count: int) -> None:
        self._count, self._filled = count, 0
        self._values = np.empty((2 * count, patches), np.float32)

    def add(self, distances: np.ndarray) -> None:
        """Take in (P,) distances to one more image."""
        if self._filled == len(self._values):
            self._values.partition(self._count - 1, axis=0)
            self._filled = self._count
        self._values[self._filled] = distances
        self._filled += 1

    def mean(self) -> np.ndarray:
        """(P,) float32: the mean of the ``count`` lowest, or of all where there are fewer.

        Raises:
            DataError: nothing was added.
        """
        if not self._filled:
            raise DataError("an image was compared with no other")
        found = np.sort(self._values[: self._filled], axis=0)[: self._count]
        return found.mean(axis=0, dtype=np.float64).astype(np.float32)


def mutual_scores(
    images: Sequence[np.ndarray],
    pairs: np.ndarray,
    *,
    share: float = SHARE,
    metric: Metric = "euclidean",
) -> np.ndarray:
    """Scores of all patches of a batch, in memory.

    Args:
        images: (P, dim) float32 patches of each image in one view.
        pairs: (n, 2) of :mod:`fade.rules.pairs`, each image in equally many.
        share: of its partners, the nearest, that a patch's score is the mean of.
        metric: how distances are measured; MuSc takes Euclidean ones of unit vectors.

    Returns:
        (images, P) float32.

    Raises:
        ParameterError: fewer than five images, or another share.

    Examples:
        >>> from fade.rules.pairs import all_pairs
        >>> images = [np.array([[0.0], [value]], np.float32) for value in (1, 1, 1, 1, 4)]
        >>> mutual_scores(images, all_pairs(5)).tolist()
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 3.0]]
    """
    check_batch(len(images))
    partners = np.bincount(pairs.reshape(-1), minlength=len(images))
    ready = [comparable(image, metric) for image in images]
    patches = len(ready[0])
    lowest = [Lowest(patches, lowest_count(int(n), share)) for n in partners]
    buffer = np.empty((patches, patches), np.float32)
    second, turned = -1, ready[0]
    for i, j in pairs[np.argsort(pairs[:, 1], kind="stable")].tolist():
        if j != second:
            second, turned = j, facing(ready[j], metric)
        to_second, to_first = match(ready[i], turned, metric, buffer)
        lowest[i].add(to_second)
        lowest[j].add(to_first)
    return np.stack([one.mean() for one in lowest])


def score_against_sample(
    patches: np.ndarray,
    sample: Sequence[np.ndarray],
    *,
    share: float = SHARE,
    metric: Metric = "euclidean",
) -> np.ndarray:
    """Scores of a single new image against images of a batch that were kept: one side alone.

    Args:
        patches: (P, dim) float32 of the new image.
        sample: the same of each image that was kept, such as 32 of the batch.
        share: as in :func:`mutual_scores`.
        metric: as in :func:`mutual_scores`.

    Returns:
        (P,) float32.

    Raises:
        ParameterError: fewer than four images were kept, or another share.

    Examples:
        >>> sample = [np.array([[0.0], [1.0]], np.float32)] * 5
        >>> score_against_sample(np.array([[0.0], [4.0]], np.float32), sample).tolist()
        [0.0, 3.0]
    """
    check_batch(len(sample) + 1)
    query = comparable(patches, metric)
    lowest = Lowest(len(patches), lowest_count(len(sample), share))
    for other in sample:
        turned = facing(comparable(other, metric), metric)
        lowest.add(match(query, turned, metric)[0])
    return lowest.mean()


def draw_sample(images: int, count: int, seed: int) -> np.ndarray:
    """Which images of a batch are kept to score single new ones: ascending numbers.

    Args:
        images: of the batch.
        count: how many to keep; all where there are fewer.
        seed: of the draw.

    Examples:
        >>> draw_sample(images=100, count=4, seed=0).tolist()
        [5, 20, 36, 82]
    """
    order = np.random.default_rng(seed).permutation(images)
    return np.sort(order[:count])
