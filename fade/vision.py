"""Vision maps: how far the patches of an image are from normal ones.

Source: FADE (arXiv 2409.00556), section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt

import numpy as np

from fade.aspect import Shape
from fade.bank import anomaly, similarity_to_others, similarity_to_references
from fade.errors import DataError
from fade.maps import merge_sizes


def patch_map(similarities: Sequence[np.ndarray], grid: Shape | None = None) -> np.ndarray:
    """The vision map at one size from the patches' cosines to the parts of a memory bank.

    The nearest normal patch of all parts counts: 0.5 x (1 - max over parts).

    Args:
        similarities: for each part (a reference image, an index, the image's own other patches) the
            cosine of each patch to its nearest one there, (rows x columns,) float32 row by row.
        grid: (rows, columns); None for a square.

    Returns:
        (rows, columns) float32 in [0, 1].

    Raises:
        DataError: there is no part, or the patches do not make the grid.

    Examples:
        >>> first, second = np.array([1.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
        >>> patch_map([first, second]).tolist()
        [[0.0, 0.5], [0.0, 0.0]]
    """
    if not len(similarities):
        raise DataError(
            "there is nothing to compare the patches with: give a reference image or let the "
            "image's own other patches count"
        )
    nearest = np.max(similarities, axis=0)
    rows, columns = grid or (isqrt(nearest.size),) * 2
    if nearest.ndim != 1 or not rows or rows * columns != nearest.size:
        wanted = f"map of {rows} x {columns}" if grid else "square map"
        raise DataError(
            f"similarities of shape {nearest.shape} make no {wanted}: give one for each patch"
        )
    return anomaly(nearest).reshape(rows, columns)


def vision_map(
    queries: Mapping[int, np.ndarray],
    references: Sequence[Mapping[int, np.ndarray]],
    *,
    query_in_bank: bool = False,
    grids: Mapping[int, Shape] | None = None,
) -> np.ndarray:
    """The vision map of one image, before any multiplier: sizes merged on the largest grid.

    Args:
        queries: by image size the image's patches, (patches, dim) float32, L2-normalised.
        references: the same of each reference image.
        query_in_bank: whether the image's own other patches count as normal ones.
        grids: by image size the patches' (rows, columns), where they make no squares.

    Returns:
        (R, C) float32 in [0, 1].

    Raises:
        DataError: nothing to compare with, or a reference lacks a size.
    """
    if any(set(queries) - set(reference) for reference in references):
        raise DataError(f"each reference needs patches at the sizes {sorted(queries)}")
    maps = []
    for size, query in queries.items():
        parts: list[np.ndarray] = []
        if references:
            bank = np.concatenate([reference[size] for reference in references])
            parts += list(similarity_to_references(query, bank, len(query)))
        if query_in_bank:
            parts.append(similarity_to_others(query))
        maps.append(patch_map(parts, (grids or {}).get(size)))
    return merge_sizes(maps)
