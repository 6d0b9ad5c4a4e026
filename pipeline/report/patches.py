"""Pictures of patches: the worst one of an image beside the good one that is most like it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fade.errors import FadeError
from pipeline.report.gallery import ALARM, BRIGHT, DARK, Picture, Pixels, data_uri
from pipeline.report.nearest import NearestPatch, Patch

CROP = 110
"""Side of each of the two pictures."""
AROUND = 0.3
"""Share of the shorter side of an image that a picture shows."""
GAP = 4
"""Pixels between the two."""


def draw_nearest(load_image: Callable[[str], Pixels], found: NearestPatch) -> Picture:
    """Draw the surroundings of the worst patch and of the nearest good one, side by side.

    Args:
        load_image: gives RGB (H, W, 3) uint8 of a path.
    """
    label = f"Worst patch, and the nearest good one, of {found.good.path}"
    try:
        crops = [
            around(load_image(patch.path), patch, colour)
            for patch, colour in ((found.worst, ALARM), (found.good, BRIGHT))
        ]
    except FadeError as error:
        return Picture(label, message=str(error))
    gap = np.full((CROP, GAP, 3), 255, np.uint8)
    drawn = np.concatenate([crops[0], gap, crops[1]], axis=1)
    return Picture(label, data_uri(drawn), drawn.shape[1], drawn.shape[0])


def around(image: Pixels, patch: Patch, colour: tuple[int, int, int]) -> Pixels:
    """A square piece of an image (h, w, 3) around a patch, which is framed: (CROP, CROP, 3).

    The piece stays within the image, so that a patch at the edge is not in its middle.
    """
    import cv2

    height, width = image.shape[:2]
    high, wide = height / patch.grid[0], width / patch.grid[1]
    side = min(
        max(round(AROUND * min(height, width)), round(3 * max(high, wide)), 1), height, width
    )
    top = int(np.clip((patch.row + 0.5) * high - side / 2, 0, height - side))
    left = int(np.clip((patch.column + 0.5) * wide - side / 2, 0, width - side))
    piece = np.ascontiguousarray(image[top : top + side, left : left + side])
    how = cv2.INTER_AREA if side > CROP else cv2.INTER_LINEAR
    drawn = cv2.resize(piece, (CROP, CROP), interpolation=how)
    scale = CROP / side
    corners = [
        (round((x * wide - left) * scale), round((y * high - top) * scale))
        for x, y in ((patch.column, patch.row), (patch.column + 1, patch.row + 1))
    ]
    for shade, line in ((DARK, 4), (colour, 2)):
        cv2.rectangle(drawn, corners[0], corners[1], shade, line, cv2.LINE_AA)
    return np.asarray(drawn, dtype=np.uint8)
