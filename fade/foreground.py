"""The foreground of an image of an object, from its patches: what AnomalyDINO scores (off by default).

Source: Damm et al., AnomalyDINO, WACV 2025, arXiv 2405.14529, section 3.
"""

from __future__ import annotations

import numpy as np

THRESHOLD = 10.0
"""Value of the first principal component of raw DINOv2 tokens above which a token is foreground."""
BORDER = 0.2
"""Share of each side that does not belong to the middle of an image."""
MIN_CENTRE_SHARE = 0.35
"""Share of the middle that must be foreground; below it foreground and background are swapped."""


def foreground(patches: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Which patches show the object.

    Those whose first principal component over the image exceeds the threshold, its sign turned where
    little of the middle does; then dilated and closed by 3 x 3.

    Args:
        patches: (rows, columns, dim) raw features.
        threshold: in units of the features.

    Returns:
        (rows, columns) bool.

    Examples:
        >>> patches = np.random.default_rng(0).normal(0, 1, (13, 13, 2))
        >>> patches[4:9, 4:9] = 40  # the object
        >>> foreground(patches).astype(int).sum(axis=1).tolist()  # it and one patch around it
        [0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0]
    """
    import cv2

    grid = patches.shape[:2]
    component = first_component(patches.reshape(-1, patches.shape[-1])).reshape(grid)
    mask = component > threshold
    rows, columns = (slice(int(n * BORDER), int(n * (1 - BORDER))) for n in grid)
    middle = mask[rows, columns]
    if middle.sum() <= middle.size * MIN_CENTRE_SHARE:
        mask = -component > threshold
    kernel = np.ones((3, 3), np.uint8)
    grown = cv2.dilate(mask.astype(np.uint8), kernel)
    return cv2.morphologyEx(grown, cv2.MORPH_CLOSE, kernel).astype(bool)


def first_component(vectors: np.ndarray) -> np.ndarray:
    """Coordinates along the direction of most variance.

    The direction's largest entry is positive, which settles its sign.

    Args:
        vectors: (n, dim).

    Returns:
        (n,) float64.
    """
    from scipy.linalg import eigh

    centred = vectors.astype(np.float64)
    centred = centred - centred.mean(axis=0)
    last = [centred.shape[1] - 1] * 2
    direction = eigh(centred.T @ centred, subset_by_index=last)[1][:, 0]
    return centred @ (direction * np.sign(direction[np.abs(direction).argmax()]))
