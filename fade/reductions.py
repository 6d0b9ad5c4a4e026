"""Reductions: one score of an image from the scores of its patches or pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fade.errors import DataError, ParameterError


def top_mean(values: np.ndarray, share: float) -> float:
    """The mean of the largest values: ``int(share n)`` of them, at least one.

    With a share that stands for less than one value it is the maximum. AnomalyDINO (arXiv
    2405.14529), section 3, and SubspaceAD (arXiv 2602.23013) take 0.01; SuperADD 0.001.

    Args:
        values: scores of patches or pixels, any shape.
        share: from 0, the maximum, to 1, the mean.

    Raises:
        ParameterError: another share.
        DataError: there is no value, or one is not finite.

    Examples:
        >>> import numpy as np
        >>> scores = np.array([[0.0, 1.0], [2.0, 5.0]])
        >>> top_mean(scores, 0), top_mean(scores, 0.5), top_mean(scores, 1)
        (5.0, 3.5, 2.0)
    """
    if not 0 <= share <= 1:
        raise ParameterError(f"the share of values in an image score is 0 to 1, not {share:g}")
    flat = np.asarray(values).reshape(-1)
    if not flat.size or not np.isfinite(flat).all():
        raise DataError("patch scores are missing or not finite: check weights and precision")
    count = max(1, int(share * flat.size))
    return float(np.partition(flat, flat.size - count)[flat.size - count :].mean(dtype=np.float64))


def reweighted(distance: float, patch: np.ndarray, bank: np.ndarray, neighbours: int = 9) -> float:
    """PatchCore's image score (Roth et al., CVPR 2022, equation 7).

    ``s (1 - softmax(d)[0])``: s is the distance of the worst patch, m its nearest one in the bank, d
    the patch's distances to the ``neighbours`` of the bank that are nearest to m, m first. Where
    normal patches are crowded around m, the score falls.

    Args:
        distance: of the worst patch to the bank, Euclidean.
        patch: (dim,) the worst patch.
        bank: (n, dim).
        neighbours: b of the paper; all where the bank has fewer. Below 2 nothing is weighed: the
            softmax of one distance is 1, which would make each score 0.

    Examples:
        >>> import numpy as np
        >>> bank = np.array([[0.0, 0.0], [0.0, 0.0]])
        >>> reweighted(2.0, np.array([2.0, 0.0]), bank)  # two equal patches: half the distance
        1.0
    """
    if min(neighbours, len(bank)) < 2:
        return float(distance)
    vectors = bank.astype(np.float32, copy=False)
    nearest = vectors[int(_distances(patch, vectors).argmin())]
    to_nearest = _distances(nearest, vectors)
    chosen = np.argsort(to_nearest, kind="stable")[:neighbours]
    distances = _distances(patch, vectors[chosen]).astype(np.float64)
    weights = np.exp(distances - distances.max())
    return float(distance * (1 - weights[0] / weights.sum()))


def _distances(vector: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Euclidean distances of a vector (dim,) to others (n, dim), by their difference."""
    difference = others - vector
    return np.sqrt(np.einsum("ij,ij->i", difference, difference))


def smooth_similar(
    scores: np.ndarray, embeddings: np.ndarray, windows: Sequence[int] = (1, 2, 3)
) -> np.ndarray:
    """Image scores smoothed over images that look alike: MuSc's RsCIN (arXiv 2401.16753, section 3.4).

    Scores are scaled to [0, 1] over the set. For each window k a row of the cosines between images
    keeps its k largest entries, itself among them, and is divided by its sum; the mean over windows of
    these matrices times the scores is the result. An image whose cosine is below 0 has no part.

    Args:
        scores: (n,) of one set of images.
        embeddings: (n, dim) of the whole images, such as class tokens; of any length.
        windows: each at least 1.

    Returns:
        (n,) float64 in [0, 1]; all 0 where the scores are all the same.

    Raises:
        ParameterError: a window below 1, or none.
        DataError: other numbers of scores and embeddings.

    Examples:
        >>> import numpy as np
        >>> same = np.ones((2, 3))
        >>> smooth_similar(np.array([0.0, 1.0]), same, windows=(2,)).tolist()
        [0.5, 0.5]
    """
    if not windows or min(windows) < 1:
        raise ParameterError(f"windows {list(windows)}: give at least one, each 1 or more")
    if len(scores) != len(embeddings):
        raise DataError(f"{len(scores)} scores, but embeddings of {len(embeddings)} images")
    values = np.asarray(scores, np.float64)
    spread = np.ptp(values) if len(values) else 0
    if not spread:
        return np.zeros(len(values))
    scaled = (values - values.min()) / spread
    unit = embeddings.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    similarity = unit @ unit.T
    total = np.zeros(len(values))
    for window in windows:
        count = min(window, len(values))
        chosen = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        # below 0 a sum could be next to nothing, and its quotients anything
        weights = np.maximum(np.take_along_axis(similarity, chosen, axis=1), 0)
        total += (weights * scaled[chosen]).sum(axis=1) / weights.sum(axis=1)
    return total / len(windows)
