"""Pictures of the report: how an image, its mask and its map are drawn."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, FadeError

SIDE = 224
"""Longer side of a thumbnail in pixels."""

QUALITY = 75
"""WebP quality of thumbnails: half the bytes of a JPEG that looks the same."""

STRONGEST = 0.85
"""Share of the heat map's colour in an overlay where the map is 255; it falls with the level."""

TINT = 0.45
"""Share of colour in an overlay where the map is above the threshold."""

DARK, BRIGHT, ALARM = (16, 20, 32), (64, 255, 120), (255, 64, 48)
"""Colours of lines: dark around each, bright for what people marked, alarm for what is found."""

AT_ONCE = 4
"""Largest number of images in memory."""

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of an item as a data URI, or in its place a message."""

    label: str
    source: str = ""
    width: int = SIDE
    height: int = SIDE
    message: str = ""


def thumbnail(image: Pixels, side: int = SIDE) -> Pixels:
    """Scale an RGB image (h, w, 3) so that its longer side is ``side``, proportions kept.

    Raises:
        DataError: the array is no RGB image of 8 bits.
    """
    import cv2

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise DataError(
            f"an image of dtype {image.dtype} and shape {image.shape} cannot be shown: "
            "give uint8 of shape (height, width, 3)"
        )
    height, width = image.shape[:2]
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), dtype=np.uint8)


def outline(image: Pixels, mask: Mask) -> Pixels:
    """Return an RGB image (h, w, 3) with the edge of a mask (H, W), True where defect, drawn on it.

    The line is bright within dark, so that it shows on any ground; however small, a region stays.

    Raises:
        DataError: the mask is no non-empty bool array of two dimensions.
    """
    import cv2

    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise DataError(
            f"a mask of dtype {mask.dtype} and shape {mask.shape} cannot be drawn: "
            "give a bool array of shape (height, width)"
        )
    height, width = image.shape[:2]
    shrinks = mask.shape[0] > height or mask.shape[1] > width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    scaled = cv2.resize(mask.astype(np.float32), (width, height), interpolation=how) > 0
    # widened, so that the line runs around small defects instead of over them
    around = cv2.dilate(scaled.astype(np.uint8), np.ones((7, 7), np.uint8))
    edges, _ = cv2.findContours(around, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    drawn = image.copy()
    for colour, thickness in ((DARK, 4), (BRIGHT, 2)):
        cv2.drawContours(drawn, edges, -1, colour, thickness, cv2.LINE_AA)
    return drawn


@cache
def colours() -> Pixels:
    """Return the RGB colour of each of the 256 levels, (256, 3), dark to light in even steps."""
    import cv2

    levels = np.arange(256, dtype=np.uint8)[None]
    found = np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), dtype=np.uint8)
    found.flags.writeable = False  # it is given to all
    return found[0, :, ::-1]


def resize_map(levels: Pixels, height: int, width: int) -> Pixels:
    """Scale a map (H, W) of 256 levels bilinearly to (height, width).

    Raises:
        DataError: the map is no non-empty uint8 array of two dimensions.
    """
    import cv2

    if levels.ndim != 2 or levels.dtype != np.uint8 or levels.size == 0:
        raise DataError(
            f"a map of dtype {levels.dtype} and shape {levels.shape} cannot be shown: "
            "give uint8 of shape (height, width)"
        )
    scaled = cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(scaled, dtype=np.uint8)


def heat(levels: Pixels) -> Pixels:
    """Colour a map (H, W) on the fixed scale of 0 to 255, never on its own range: (H, W, 3).

    Examples:
        >>> heat(np.array([[0, 255]], np.uint8)).shape
        (1, 2, 3)
    """
    return colours()[levels]


def overlay(image: Pixels, levels: Pixels, above: Mask | None = None) -> Pixels:
    """Lay a map (h, w) over an RGB image (h, w, 3).

    With a decision about pixels the image stays as it is where they are normal; anomalous ones are
    tinted and outlined, whatever the map's range. Without one the map covers the more, the higher it is.

    Args:
        image: RGB (h, w, 3) uint8.
        levels: of the map (h, w) uint8.
        above: anomalous pixels (h, w); None where there is no threshold.

    Examples:
        >>> grey = np.full((2, 2, 3), 128, np.uint8)
        >>> overlay(grey, np.array([[0, 0], [0, 255]], np.uint8)).shape
        (2, 2, 3)
    """
    if above is None:
        share = (levels.astype(np.float32) * (STRONGEST / 255))[..., None]
        return np.rint(image * (1 - share) + heat(levels) * share).astype(np.uint8)
    if not above.any():
        return image.copy()
    import cv2

    mask, levels = np.ascontiguousarray(above).view(np.uint8), np.ascontiguousarray(levels)
    # the bright half of the colours: dark ones would hide a dark defect
    low = cv2.minMaxLoc(levels, mask)[0]
    bright = 128 + (np.arange(256) - low) * (127 / max(255 - low, 1))
    tints = colours()[np.clip(bright, 0, 255).astype(np.uint8)][:, None]
    drawn = np.array(image, order="C")
    tinted = cv2.addWeighted(drawn, 1 - TINT, cv2.applyColorMap(levels, tints), TINT, 0)
    cv2.copyTo(tinted, mask, drawn)
    line = max(min(mask.shape) // 200, 2)  # thicker on large images
    edges, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for colour, thickness in ((DARK, line + 2), (ALARM, line)):
        cv2.drawContours(drawn, edges, -1, colour, thickness, cv2.LINE_AA)
    return drawn


def data_uri(image: Pixels) -> str:
    """Encode an RGB image (h, w, 3) as a ``data:`` address that an ``<img>`` can show."""
    from PIL import Image

    encoded = io.BytesIO()
    # two thirds of the time of OpenCV's method, which is 4, for 2 % more bytes
    Image.fromarray(image).save(encoded, "WEBP", quality=QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode()


def draw_tiles(
    load_image: Callable[[], Pixels],
    load_mask: Callable[[], Mask | None],
    load_map: Callable[[], Pixels | None],
    is_anomaly: bool | None,
    threshold: int | None = None,
    load_above: Callable[[], Mask | None] | None = None,
) -> tuple[Picture, ...]:
    """Draw an image, its outlined mask, its heat map and both in one.

    What cannot be loaded or drawn becomes a message. Without a map its two tiles are left out. The
    mask of an image that is good, or has no label, is not asked for.

    Args:
        load_image: gives RGB (H, W, 3) uint8.
        load_mask: gives the mask (H, W), None where there is none.
        load_map: gives the map uint8 (rows, columns), None where there is none.
        is_anomaly: whether the image is labelled anomalous; None without a label.
        threshold: levels of the map above it are anomalous; None where there is no decision.
        load_above: gives what is anomalous in their place, bool (rows, columns).
    """
    image = _attempt("Image", lambda: thumbnail(load_image()))
    height, width = (SIDE, SIDE) if isinstance(image, Picture) else image.shape[:2]

    def drawn_mask() -> Pixels | Picture:
        mask = load_mask() if is_anomaly else None
        if mask is None:
            said = {True: "no mask", False: "good: no defect", None: "no label"}[is_anomaly]
            return Picture("Mask", message=said)
        ground = np.zeros((height, width, 3), np.uint8) if isinstance(image, Picture) else image
        return outline(ground, mask)

    def scaled_map() -> Pixels | None:
        levels = load_map()
        return None if levels is None else resize_map(levels, height, width)

    tiles = [_tile("Image", image), _tile("Mask", _attempt("Mask", drawn_mask))]
    levels = _attempt("Heat map", scaled_map)
    if isinstance(levels, Picture):
        tiles += [levels, Picture("Overlay", message="no heat map to lay over the image")]
    elif levels is not None:
        tiles.append(_tile("Heat map", heat(levels)))
        if isinstance(image, Picture):
            tiles.append(Picture("Overlay", message="no image to lay the heat map over"))
        else:
            shown = partial(_overlay, image, levels, threshold, load_above)
            tiles.append(_tile("Overlay", _attempt("Overlay", shown)))
    return tuple(tiles)


def _overlay(
    image: Pixels,
    levels: Pixels,
    threshold: int | None,
    load_above: Callable[[], Mask | None] | None,
) -> Pixels:
    import cv2

    above = None if threshold is None else levels > threshold
    if above is not None and load_above is not None and (mask := load_above()) is not None:
        scaled = cv2.resize(
            mask.astype(np.uint8), above.shape[::-1], interpolation=cv2.INTER_NEAREST
        )
        above = np.asarray(scaled > 0)
    return overlay(image, levels, above)


def draw_small(
    load_image: Callable[[], Pixels],
    load_map: Callable[[], Pixels | None],
    threshold: int | None = None,
    load_above: Callable[[], Mask | None] | None = None,
) -> Picture:
    """Draw an image under what its map shows, half as large as in a gallery; arguments as there."""

    def drawn() -> Pixels:
        image, levels = thumbnail(load_image(), SIDE // 2), load_map()
        if levels is None:
            return image
        scaled = resize_map(levels, *image.shape[:2])
        return _overlay(image, scaled, threshold, load_above)

    return _tile("Overlay", _attempt("Overlay", drawn))


def draw_all(draw: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Draw some things, a few at once: decoding, filters and encoding leave Python free meanwhile."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, AT_ONCE)) as pool:
        return list(pool.map(draw, items))


def _attempt(label: str, make: Callable[[], T]) -> T | Picture:
    try:
        return make()
    except FadeError as error:
        return Picture(label, message=str(error))


def _tile(label: str, drawn: Pixels | Picture) -> Picture:
    if isinstance(drawn, Picture):
        return drawn
    return Picture(label, data_uri(drawn), drawn.shape[1], drawn.shape[0])
