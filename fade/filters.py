"""Filters: a finished map at evaluation size from the scores of an image's patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fade.aspect import Shape
from fade.errors import ParameterError

Resize = Literal["bilinear", "corners", "nearest"]
Border = Literal["symmetric", "reflect"]
Kernel = Literal["gaussian", "reflect", "small"]

TRUNCATE = 4.0
"""Radius of a Gaussian's kernel, in sigmas."""
MAX_SIGMA = 100.0


def resize_scores(scores: np.ndarray, shape: Shape, method: Resize = "bilinear") -> np.ndarray:
    """Patch scores at the size of an image.

    Args:
        scores: (rows, columns) floats.
        shape: (height, width) in pixels.
        method: ``bilinear`` with half-pixel centres; ``corners``, bilinear with the outer centres on
            the outer pixels (MuSc); ``nearest`` (PatchCore).

    Returns:
        (height, width) float32.

    Raises:
        ParameterError: an unknown method.

    Examples:
        >>> scores = np.array([[0.0, 1.0]])
        >>> resize_scores(scores, (1, 4)).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
        >>> resize_scores(scores, (1, 4), "nearest").tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """
    import cv2

    values = np.ascontiguousarray(scores, np.float32)
    height, width = shape
    if method == "bilinear":
        return cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    if method == "nearest":
        rows, columns = (
            np.arange(target) * source // target
            for source, target in zip(values.shape, shape, strict=True)
        )
        return values[np.ix_(rows, columns)]
    if method == "corners":
        for axis, target in enumerate(shape):
            values = _aligned(values, target, axis)
        return values
    raise ParameterError(f"maps are resized by {', '.join(get_args(Resize))}, not by {method!r}")


def _aligned(values: np.ndarray, target: int, axis: int) -> np.ndarray:
    """Linear interpolation of one axis whose ends stay where they are."""
    source = values.shape[axis]
    position = np.linspace(0, source - 1, target) if target > 1 else np.zeros(1)
    low = np.minimum(np.floor(position).astype(int), max(source - 2, 0))
    high = np.minimum(low + 1, source - 1)
    weight = (position - low).astype(np.float32)
    weight = weight[:, None] if axis == 0 else weight[None]
    return values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight


def check_sigma(sigma: float) -> None:
    """Refuse a sigma below 0, or one that takes minutes for each map (ParameterError)."""
    if not 0 <= sigma <= MAX_SIGMA:
        raise ParameterError(
            f"the Gaussian filter's sigma is 0, for none, to {MAX_SIGMA:g} pixels, not {sigma:g}"
        )


def gaussian(values: np.ndarray, sigma: float, border: Border = "symmetric") -> np.ndarray:
    """A map smoothed by a Gaussian that ends after ``int(4 sigma + 0.5)`` pixels.

    Args:
        values: (H, W) floats.
        sigma: in pixels of the map; 0 for none.
        border: the map goes on mirrored, ``symmetric`` with its edge (AnomalyDINO and PatchCore: scipy's
            ``reflect``), ``reflect`` without it (SuperADD: scipy's ``mirror``).

    Returns:
        (H, W) float32.

    Raises:
        ParameterError: sigma is out of range.
    """
    check_sigma(sigma)
    values = np.asarray(values, np.float32)
    if not sigma:
        return values
    try:
        from scipy.ndimage import gaussian_filter
    except ImportError:  # where bundles run without torch
        return gaussian_by_opencv(values, sigma, border)
    return gaussian_filter(values, sigma, mode=_MODES[border], truncate=TRUNCATE)


_MODES: dict[Border, str] = {"symmetric": "reflect", "reflect": "mirror"}
"""Names of scipy."""


def _gaussian_of_cells(
    scores: np.ndarray, shape: Shape, sigma: float, border: Border
) -> np.ndarray:
    """The same of scores that become cells of equal pixels: a cell's equal columns are smoothed once.

    Columns come before rows, as in scipy, so that all bits are those of :func:`gaussian`.
    """
    check_sigma(sigma)
    try:
        from scipy.ndimage import gaussian_filter
    except ImportError:
        return gaussian_by_opencv(resize_scores(scores, shape, "nearest"), sigma, border)
    values = scores
    for axis, size in enumerate(((shape[0], scores.shape[1]), shape)):
        values = gaussian_filter(
            resize_scores(values, size, "nearest"), sigma, mode=_MODES[border], truncate=TRUNCATE,
            axes=(axis,),
        )  # fmt: skip
    return values


def gaussian_by_opencv(values: np.ndarray, sigma: float, border: Border) -> np.ndarray:
    """What :func:`gaussian` gives, to rounding, without scipy."""
    import cv2

    radius = int(TRUNCATE * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values.astype(np.float64), radius, mode=border)
    smoothed = cv2.sepFilter2D(padded, cv2.CV_64F, kernel, kernel)
    rows, columns = values.shape
    inner = smoothed[radius : radius + rows, radius : radius + columns]
    return np.ascontiguousarray(inner, np.float32)


def gaussian_small(values: np.ndarray, sigma: float) -> np.ndarray:
    """A map (H, W) smoothed by a kernel that is cut to 3 x 3 pixels (SubspaceAD): float32.

    Args:
        sigma: of the Gaussian in pixels; 0 for none.

    Raises:
        ParameterError: sigma is out of range.
    """
    import cv2

    check_sigma(sigma)
    values = np.ascontiguousarray(values, np.float32)
    return cv2.GaussianBlur(values, (3, 3), sigma) if sigma else values


@dataclass(frozen=True, slots=True)
class Finish:
    """What makes a map of pixels from patch scores: a resize, then a Gaussian.

    Attributes:
        resize: see :func:`resize_scores`.
        sigma: of the Gaussian in pixels of the map; 0 for none.
        kernel: ``gaussian`` mirrors the map with its edge, ``reflect`` without it (:func:`gaussian`);
            ``small`` is cut to 3 x 3 pixels (:func:`gaussian_small`).

    Examples:
        >>> Finish(sigma=4).is_plain, Finish().is_plain
        (False, True)
        >>> Finish("nearest").apply(np.eye(2), (4, 4)).astype(int).tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """

    resize: Resize = "bilinear"
    sigma: float = 0
    kernel: Kernel = "gaussian"

    @property
    def is_plain(self) -> bool:
        """Whether it only scales bilinearly, as FADE does."""
        return self.resize == "bilinear" and not self.sigma

    def apply(self, scores: np.ndarray, shape: Shape) -> np.ndarray:
        """Patch scores (rows, columns) as a map of (height, width) pixels, float32."""
        if self.kernel == "small":
            return gaussian_small(resize_scores(scores, shape, self.resize), self.sigma)
        border: Border = "reflect" if self.kernel == "reflect" else "symmetric"
        if self.resize == "nearest" and self.sigma:
            return _gaussian_of_cells(scores, shape, self.sigma, border)
        return gaussian(resize_scores(scores, shape, self.resize), self.sigma, border)


PLAIN = Finish()
"""FADE's."""
