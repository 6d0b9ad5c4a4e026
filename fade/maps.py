"""Anomaly maps: merging sizes, fusing language and vision, and the image score.

Sources: FADE (arXiv 2409.00556), sections 3.2 to 3.4, and its official implementation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fade.aspect import Shape
from fade.errors import DataError
from fade.reductions import top_mean
from fade.types import Mode


def merge_sizes(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of one image's maps from several sizes, on the largest of their grids.

    Smaller grids are resized bilinearly with half-pixel centres and without antialiasing.

    Args:
        maps: (rows, columns) floats each, of grids that differ in size only.

    Returns:
        (R, C) float32, the largest grid.

    Examples:
        >>> import numpy as np
        >>> merge_sizes([np.ones((1, 1)), np.zeros((2, 2))]).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    total = np.zeros(largest_grid([one.shape for one in maps]), np.float64)
    for one in on_one_grid(maps):
        total += one
    return (total / len(maps)).astype(np.float32)


def largest_grid(grids: Sequence[tuple[int, ...]]) -> Shape:
    """The (rows, columns) with most patches.

    Examples:
        >>> largest_grid([(2, 4), (3, 3)])
        (3, 3)
    """
    rows, columns = max(grids, key=lambda grid: (grid[0] * grid[1], grid))
    return rows, columns


def to_levels(fused: np.ndarray) -> np.ndarray:
    """A fused map clipped to [0, 1], times 255, cut: uint8.

    Examples:
        >>> import numpy as np
        >>> to_levels(np.array([[-1.0, 0.5, 2.0]])).tolist()
        [[0, 127, 255]]
    """
    return (np.clip(fused, 0, 1) * 255).astype(np.uint8)


def places_on(places: ArrayLike, grid: tuple[int, ...], other: tuple[int, ...]) -> NDArray:
    """Which patches of another grid hold the centres of some patches of a grid.

    Args:
        places: of patches, row by row.
        grid: (rows, columns) that they are places on.
        other: (rows, columns) of the same image.

    Returns:
        The places on the other grid, in the same order.

    Examples:
        >>> places_on([0, 3], (2, 2), (4, 4)).tolist()
        [5, 15]
    """
    rows, columns = np.divmod(np.asarray(places), grid[1])
    row, column = (
        (2 * at + 1) * new // (2 * old)
        for at, old, new in zip((rows, columns), grid, other, strict=True)
    )
    return np.asarray(row * other[1] + column)


def on_one_grid(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps of one image on the largest of their grids, resized as :func:`merge_sizes` does.

    Examples:
        >>> import numpy as np
        >>> [one.shape for one in on_one_grid([np.ones((1, 1)), np.zeros((2, 2))])]
        [(2, 2), (2, 2)]
    """
    import cv2

    grid = largest_grid([one.shape for one in maps])
    return [
        one if one.shape == grid else cv2.resize(one, grid[::-1], interpolation=cv2.INTER_LINEAR)
        for one in maps
    ]


def fuse_values(
    language: np.ndarray | None,
    vision: np.ndarray | None,
    *,
    mode: Mode,
    weight: float,
    normalize: bool,
) -> np.ndarray:
    """The fused map of one image as numbers, not clipped.

    Args:
        language: (H, W), P(abnormal) of each patch; needed by modes language and both.
        vision: (H, W), the multiplied vision map; needed by modes vision and both. Of another network
            it may have another grid: the smaller one is resized to the larger.
        mode: what the map is made of; ``none`` makes none and is refused.
        weight: share of vision in mode both.
        normalize: stretch the fused map to [0, 1] first; a constant map becomes 0.

    Returns:
        (H, W) float64.

    Raises:
        DataError: a value is not finite.

    Examples:
        >>> import numpy as np
        >>> language, vision = np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
        >>> fuse_values(language, vision, mode="both", weight=0.5, normalize=False).tolist()
        [[0.25, 0.75]]
        >>> fuse_values(language, None, mode="language", weight=0.5, normalize=True).tolist()
        [[0.0, 1.0]]
    """
    if mode == "both" and language is not None and vision is not None:
        language, vision = on_one_grid([language, vision])
        fused = (1 - weight) * language.astype(np.float64) + weight * vision
    elif mode == "language" and language is not None:
        fused = language.astype(np.float64)
    elif mode == "vision" and vision is not None:
        fused = vision.astype(np.float64)
    else:
        raise ValueError(f"mode {mode} lacks a map")
    if not np.isfinite(fused).all():
        raise DataError("an anomaly map holds NaN or infinite values: check weights and precision")
    if normalize:
        low, high = fused.min(), fused.max()
        fused = (fused - low) / (high - low) if high > low else np.zeros_like(fused)
    return fused


def image_score(
    language: float | None,
    vision: np.ndarray | None,
    *,
    mode: Mode,
    shots: int,
    batch: bool = False,
    top: float = 0,
    bounded: bool = True,
) -> float:
    """The anomaly score of one image, in [0, 1]; of unbounded vision alone as large as it is.

    Args:
        language: P(abnormal) of the cls token; needed by modes language and both.
        vision: (H, W), the multiplied vision map, before any clipping; needed by modes vision and
            both, except that mode both is language alone at 0 shots without a batch.
        mode: what the score is made of.
        shots: number of reference images.
        batch: whether patches were compared with those of other images of a batch.
        top: the mean of this share of patches, the worst, is what vision says; 0: the worst one.
        bounded: whether vision's values are within [0, 1] by nature, as half of 1 - cosine is. What
            unbounded ones say is cut at 1 before a mean with language is taken.

    Examples:
        >>> import numpy as np
        >>> image_score(0.25, np.array([[0.1, 0.75]]), mode="both", shots=4)
        0.5
        >>> image_score(0.25, None, mode="both", shots=0)
        0.25
        >>> image_score(0.25, np.array([[0.1, 0.75]]), mode="both", shots=0, batch=True)
        0.5
    """
    alone = mode == "language" or (mode == "both" and shots == 0 and not batch)
    if language is not None and alone:
        score = language
    elif vision is not None and mode == "vision":
        score = _worst(vision, top)
    elif vision is not None and language is not None and mode == "both":
        worst = _worst(vision, top)
        score = 0.5 * (language + (worst if bounded else min(worst, 1.0)))
    else:
        raise ValueError(f"mode {mode} lacks a side")
    if not np.isfinite(score):
        raise DataError(f"an image score is {score}: check weights and precision")
    return score if mode == "vision" and not bounded else min(max(score, 0.0), 1.0)


def _worst(vision: np.ndarray, top: float) -> float:
    """What a vision map says of the whole image; NaN where it is not finite."""
    if not top or not np.isfinite(vision).all():
        return float(vision.max())
    return top_mean(vision, top)


def resize_levels(levels: np.ndarray, size: int | Shape) -> np.ndarray:
    """A map (H, W) of levels at evaluation size, pixels a side or (height, width).

    By OpenCV's bilinear filter, of uint8 in fixed point.

    Examples:
        >>> import numpy as np
        >>> resize_levels(np.full((2, 2), 7, np.uint8), (1, 3)).tolist()
        [[7, 7, 7]]
    """
    import cv2

    height, width = (size, size) if isinstance(size, int) else size
    return cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR)
