"""SuperADD's way from a map to a mask: closing by lines of many orientations, filling, erosion.

Source: Roming et al., SuperADD, CVPR 2026 workshop, arXiv 2605.14808.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fade.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Closing:
    """Settings of :func:`closed_mask`.

    Examples:
        >>> scores = np.array([[0.9, 0.2, 0.9, 0.2, 0.2]])
        >>> Closing().mask(scores, 0.5).astype(int).tolist()
        [[1, 0, 1, 0, 0]]
        >>> Closing(radius=1, angles=2).mask(scores, 0.5).astype(int).tolist()
        [[1, 1, 1, 0, 0]]
    """

    radius: int = 0
    angles: int = 8
    lower: float | None = None
    erosion: int = 0

    @property
    def is_none(self) -> bool:
        """Whether a mask is what is above the threshold, no more and no less."""
        return not self.radius and not self.erosion

    def mask(self, scores: np.ndarray, threshold: float) -> np.ndarray:
        """The mask of a map (H, W): bool."""
        return closed_mask(
            scores, threshold, radius=self.radius, angles=self.angles, lower=self.lower,
            erosion=self.erosion,
        )  # fmt: skip


def closed_mask(
    scores: np.ndarray,
    threshold: float,
    *,
    radius: int,
    angles: int = 8,
    lower: float | None = None,
    erosion: int = 0,
) -> np.ndarray:
    """The mask of a map, gaps along any line closed.

    The map above the threshold is closed by a line at each angle; the closings are joined, kept
    where the map exceeds ``lower`` times the threshold, filled to their outer contours and eroded.

    Args:
        scores: (H, W) floats.
        threshold: what counts as a defect.
        radius: half the length of the lines in pixels; 0 closes nothing.
        angles: how many orientations, evenly over half a turn.
        lower: share of the threshold that closed pixels must exceed; None for no such limit.
        erosion: radius of the disc that the mask is eroded by at last; 0 for none.

    Returns:
        (H, W) bool.

    Raises:
        ParameterError: a negative radius, no angle, or a share beyond 0 to 1.
    """
    import cv2

    if radius < 0 or angles < 1 or erosion < 0 or (lower is not None and not 0 <= lower <= 1):
        raise ParameterError(
            f"closing with radius {radius}, {angles} angles, lower share {lower} and erosion "
            f"{erosion}: radii are 0 or more, there is at least 1 angle, a share is 0 to 1"
        )
    start = (scores > threshold).astype(np.uint8)
    closed = _close_along_lines(start, radius, angles) if radius else start
    if lower is not None:
        closed = closed & (scores > threshold * lower)
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    mask = cv2.drawContours(np.zeros_like(closed), contours, -1, 1, cv2.FILLED)
    if erosion:
        side = 2 * erosion + 1
        mask = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    return mask.astype(bool)


def _close_along_lines(mask: np.ndarray, radius: int, angles: int) -> np.ndarray:
    """The mask and its closings by a line at each angle, joined; what lies outside is background."""
    import cv2

    margin = radius + 1
    padded = np.pad(mask, margin)
    joined = padded.copy()
    for number in range(angles):
        line = _line(radius, np.pi * number / angles)
        thicker = cv2.dilate(line, np.ones((2, 2), np.uint8))
        joined |= cv2.erode(cv2.dilate(padded, thicker), line)
    return np.ascontiguousarray(joined[margin:-margin, margin:-margin])


def _line(radius: int, angle: float) -> np.ndarray:
    """A line through the middle of a square, three thick (OpenCV's 2): (2 radius + 1,) * 2 uint8."""
    import cv2

    x, y = radius * np.cos(angle), radius * np.sin(angle)
    start = round(radius - x), round(radius - y)
    end = round(radius + x), round(radius + y)
    kernel = np.zeros((2 * radius + 1,) * 2, np.uint8)
    return cv2.line(kernel, start, end, color=1, thickness=2)
