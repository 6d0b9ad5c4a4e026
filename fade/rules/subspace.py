"""Distance of patches to the linear subspace that normal patches fill: SubspaceAD.

Source: Lendering et al., SubspaceAD, CVPR 2026, arXiv 2602.23013.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fade.errors import DataError, ParameterError

ROWS = 4096
"""Vectors that are projected at a time: few enough to stay in the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Subspace:
    """An affine subspace of normal patches.

    Attributes:
        mean: (dim,) float32.
        components: (k, dim) float32 orthonormal rows, the direction of most variance first.
        share: of the variance that they hold.

    Examples:
        >>> line = Subspace(np.zeros(2, np.float32), np.array([[1.0, 0.0]], np.float32), 1.0)
        >>> line.residual(np.array([[7.0, 0.0], [7.0, 3.0]])).tolist()
        [0.0, 9.0]
    """

    mean: np.ndarray
    components: np.ndarray
    share: float

    def residual(self, vectors: np.ndarray) -> np.ndarray:
        """Squared distance of vectors to the subspace.

        Args:
            vectors: (n, dim) floats.

        Returns:
            (n,) float32.
        """
        found = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), ROWS):
            rest = vectors[start : start + ROWS].astype(np.float32) - self.mean
            rest -= (rest @ self.components.T) @ self.components
            found[start : start + ROWS] = np.einsum("ij,ij->i", rest, rest)
        return found


def check_extent(share: float | None, components: int | None) -> None:
    """Refuse anything but one of a share over 0, up to 1, and a number from 1 (ParameterError)."""
    if (share is None) == (components is None):
        raise ParameterError("a subspace has a share of the variance or a number of components")
    if share is not None and not 0 < share <= 1:
        raise ParameterError(f"the share of the variance is over 0 and at most 1, not {share:g}")
    if components is not None and components < 1:
        raise ParameterError(f"a subspace has at least 1 component, not {components}")


def fit_subspace(
    parts: Iterable[np.ndarray], *, share: float | None = None, components: int | None = None
) -> Subspace:
    """Principal components of normal patches, in float64.

    Mean and covariance over n - 1; as many components as hold the wanted share of the variance: the
    first k whose eigenvalues sum up to it.

    Args:
        parts: (n, dim) floats each, such as one image's patches; read one after the other.
        share: of the variance, such as 0.99.
        components: how many, in place of a share; all where there are fewer. No more than the rank of
            the patches, but one of patches that are all the same.

    Raises:
        ParameterError: neither or both of share and components, or one out of range.
        DataError: fewer than two patches, or values that are not finite.

    Examples:
        >>> patches = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
        >>> found = fit_subspace([patches], share=0.99)
        >>> found.mean.tolist(), np.abs(found.components).tolist()
        ([2.0, 1.0], [[1.0, 0.0]])
    """
    check_extent(share, components)
    count, shift = 0, np.zeros(0)
    total, products = np.zeros(0), np.zeros((0, 0))
    for part in parts:
        vectors = np.asarray(part, np.float64)
        if not count:
            # sums of squares about a point near the mean keep their digits
            shift = vectors.mean(axis=0)
            total, products = np.zeros(len(shift)), np.zeros((len(shift),) * 2)
        vectors = vectors - shift
        count += len(vectors)
        total += vectors.sum(axis=0)
        products += vectors.T @ vectors
    if count < 2:
        raise DataError(f"a subspace takes at least 2 patches, not {count}")
    offset = total / count
    covariance = (products - count * np.outer(offset, offset)) / (count - 1)
    if not np.isfinite(covariance).all():
        raise DataError("patches hold NaN or infinite values: check weights and precision")
    values, directions = np.linalg.eigh(covariance)
    values, directions = values[::-1].clip(min=0), directions[:, ::-1].T
    whole = values.sum()
    held = np.cumsum(values) / whole if whole else np.ones(len(values))
    if share is not None:
        wanted = int(np.searchsorted(held, min(share, held[-1]))) + 1
    else:
        wanted = components or 1
    # what is beyond their rank is rounding, in directions that no patch has
    least = values[0] * max(count, len(values)) * np.finfo(np.float64).eps
    wanted = max(1, min(wanted, count - 1, int(np.count_nonzero(values > least))))
    return Subspace(
        mean=(shift + offset).astype(np.float32),
        components=np.ascontiguousarray(directions[:wanted], np.float32),
        share=float(held[wanted - 1]),
    )
