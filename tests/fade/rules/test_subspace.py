"""Subspaces against scikit-learn's principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from fade.errors import DataError, ParameterError
from fade.rules.subspace import fit_subspace


def parts() -> list[np.ndarray]:
    """Four images whose patches fill three directions, far from the origin, and some noise."""
    generator = np.random.default_rng(0)
    directions = generator.standard_normal((3, 12)) * np.array([[9], [4], [2]])
    values = generator.standard_normal((200, 3)) @ directions + 50
    values += 0.1 * generator.standard_normal((200, 12))
    return np.split(values.astype(np.float32), 4)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.9999])
def test_a_share_of_the_variance(share: float) -> None:
    together = np.concatenate(parts()).astype(np.float64)
    exact = PCA(svd_solver="full").fit(together)
    wanted = int(np.argmax(np.cumsum(exact.explained_variance_ratio_) >= share)) + 1
    subspace = fit_subspace(parts(), share=share)
    assert len(subspace.components) == wanted
    exact = PCA(wanted, svd_solver="full").fit(together)
    again = exact.inverse_transform(exact.transform(together))
    expected = ((together - again) ** 2).sum(axis=1)
    found = subspace.residual(np.concatenate(parts()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.max())


def test_images_one_after_the_other_are_all_together() -> None:
    apart = fit_subspace(parts(), components=3)
    together = fit_subspace([np.concatenate(parts())], components=3)
    np.testing.assert_allclose(apart.mean, together.mean, rtol=1e-6)
    np.testing.assert_allclose(
        np.abs(apart.components), np.abs(together.components), rtol=0, atol=1e-6
    )


def test_the_whole_variance_leaves_nothing() -> None:
    subspace = fit_subspace(parts(), share=1)
    assert subspace.residual(np.concatenate(parts())).max() < 1e-4


def test_more_components_than_there_are() -> None:
    assert len(fit_subspace(parts(), components=99).components) == 12
    assert len(fit_subspace([parts()[0][:3]], components=99).components) == 2


@pytest.mark.parametrize(("patches", "width", "rank"), [(10, 64, 9), (60, 32, 2), (120, 24, 24)])
@pytest.mark.parametrize("extent", [{"share": 1.0}, {"components": 30}])
def test_directions_that_no_patch_has_are_not_held(
    patches: int, width: int, rank: int, extent: dict[str, Any]
) -> None:
    """Of few patches, of few different ones, and of many."""
    generator = np.random.default_rng(0)
    different = generator.standard_normal((rank + 1, width)).astype(np.float32)
    vectors = generator.standard_normal((patches, width)).astype(np.float32)
    if rank < width:
        vectors = np.resize(different, (patches, width))
    subspace = fit_subspace(np.array_split(vectors, 3), **extent)
    assert len(subspace.components) == rank
    new = generator.standard_normal((50, width)).astype(np.float32)
    middle = vectors.mean(axis=0, dtype=np.float64)
    directions = np.linalg.svd(vectors - middle, full_matrices=False)[2][:rank]
    rest = new - middle - (new - middle) @ directions.T @ directions
    expected = (rest**2).sum(axis=1)
    np.testing.assert_allclose(subspace.residual(new), expected, rtol=1e-5, atol=1e-4)


def test_patches_that_are_all_the_same() -> None:
    subspace = fit_subspace([np.ones((5, 4), np.float32)], share=0.99)
    assert subspace.residual(np.ones((1, 4), np.float32)).tolist() == [0]
    assert subspace.residual(np.full((1, 4), 2.0)) == pytest.approx(3)  # one direction is free


@pytest.mark.parametrize(
    ("share", "components"), [(None, None), (0.9, 3), (0, None), (1.01, None), (None, 0)]
)
def test_extents_that_mean_nothing(share: float | None, components: int | None) -> None:
    with pytest.raises(ParameterError):
        fit_subspace(parts(), share=share, components=components)


def test_a_single_patch_spans_nothing() -> None:
    with pytest.raises(DataError, match="at least 2 patches, not 1"):
        fit_subspace([parts()[0][:1]], share=0.9)


def test_values_that_are_not_finite() -> None:
    broken = parts()
    broken[1][0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        fit_subspace(broken, share=0.9)
