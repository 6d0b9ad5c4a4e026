"""The defects of the demo: each paints itself on a picture and says which pixels it changed.

Sizes are fractions of the picture's side; ``severity`` in [0, 1] runs from small to large.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError
from pipeline.demo.families import Array, Mask, Rng, blur, fractal, grid, inside, mix

VISIBLE = 0.035
"""A pixel counts as changed where a channel moves by more than this, of 1."""

SMALLEST, LARGEST = 0.004, 0.09
"""Least and most share of the picture that a defect may change; others are drawn again."""

_ATTEMPTS = 12

Point = tuple[float, float]
Paint = Callable[[Array, Mask, Rng, float], Array]


@dataclass(frozen=True, slots=True)
class Defect:
    """One kind of defect.

    ``phrases`` complete a caption: "a washer <phrase>". ``paint`` returns the picture with the
    defect, and may change pixels anywhere; :meth:`apply` keeps to the foreground and its outline.
    """

    name: str
    phrases: tuple[str, ...]
    paint: Paint

    def apply(
        self, image: Array, foreground: Mask, rng: Rng, severity: float = 0.5
    ) -> tuple[Array, Mask]:
        """Paint the defect onto a picture.

        ``image`` is float32 RGB in [0, 1] of shape (S, S, 3) and stays as it is, ``foreground``
        bool (S, S). Returns the changed picture and the mask of the changed pixels: outside the
        mask the picture is equal bit for bit. Raises DataError where no visible defect fits.
        """
        if image.ndim != 3 or image.shape[2] != 3 or foreground.shape != image.shape[:2]:
            raise DataError(
                f"defect {self.name}: image {image.shape} and foreground {foreground.shape} do not "
                "match; give (S, S, 3) and (S, S)"
            )
        if not 0 <= severity <= 1:
            raise DataError(f"defect {self.name}: severity {severity} is outside [0, 1]")
        if not foreground.any():
            raise DataError(
                f"defect {self.name}: the foreground is empty, there is no place for it"
            )
        # The outline's own half-covered pixels belong to the object.
        edged = dilate(foreground, max(1, foreground.shape[0] // 100))
        best: tuple[Array, Mask] | None = None
        nearest = np.inf
        for _ in range(_ATTEMPTS):
            painted = np.clip(self.paint(image, foreground, rng, severity), 0, 1)
            mask = _changed(image, painted.astype(np.float32), edged)
            share = float(mask.mean())
            miss = max(SMALLEST - share, share - LARGEST, 0.0)
            if share > 0 and miss < nearest:
                best = np.where(mask[..., None], painted, image).astype(np.float32), mask
                nearest = miss
            if miss == 0:
                break
        if best is None:
            raise DataError(
                f"defect {self.name}: no visible place in {_ATTEMPTS} draws; use another picture"
            )
        return best


def dilate(mask: Mask, pixels: int) -> Mask:
    """The mask, grown by so many pixels on all sides."""
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), brush) > 0, np.bool_)


def _changed(before: Array, after: Array, foreground: Mask) -> Mask:
    """Pixels that visibly changed, with pinholes closed and single specks dropped."""
    seen = (np.abs(after - before).max(axis=2) > VISIBLE) & foreground
    ring = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    closed = cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_CLOSE, ring)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= max(3, seen.size // 16000)
    large[0] = False
    return np.asarray(large[labels] & foreground & (after != before).any(axis=2), np.bool_)


# --- tools --------------------------------------------------------------------------------------


def _spot(foreground: Mask, rng: Rng, room: float) -> Point:
    """A point (y, x) of the foreground, where possible ``room`` away from its edge."""
    size = foreground.shape[0]
    padded = np.pad(foreground.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    need = min(room * size, 0.75 * float(distance.max()))
    rows, columns = np.nonzero(foreground & (distance >= need))
    pick = int(rng.integers(rows.size))
    return (rows[pick] + 0.5) / size, (columns[pick] + 0.5) / size


def _blob(
    rng: Rng, size: int, centre: Point, radius: float, rough: float = 0.18, stretch: float = 1.4
) -> Array:
    """Signed distance (roughly) to an irregular patch about a point."""
    y, x = grid(size)
    turn = rng.uniform(0, np.pi)
    ratio = np.sqrt(rng.uniform(1, stretch))
    dy, dx = y - centre[0], x - centre[1]
    along = (dx * np.cos(turn) + dy * np.sin(turn)) / ratio
    across = (dy * np.cos(turn) - dx * np.sin(turn)) * ratio
    bumps = fractal(rng, size, (0.9 / radius, 0.9 / radius), 3, 0.55)
    return np.asarray(np.hypot(along, across) - radius * (1 + rough * bumps), np.float32)


def _walk(
    rng: Rng, centre: Point, length: float, bend: float, jag: float, steps: int = 24
) -> NDArray[np.float64]:
    """A wandering line of (y, x) points through a centre: smooth bends, or jags at each step."""
    bends = np.convolve(rng.normal(0, bend / steps**0.5, steps), np.ones(5) / 5**0.5, "same")
    turns = np.cumsum(bends) + rng.uniform(0, 2 * np.pi) + rng.normal(0, jag, steps)
    step = np.stack([np.sin(turns), np.cos(turns)], 1) * length / steps
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(step, 0)])
    return np.asarray(points - points[steps // 2] + np.array(centre), np.float64)


def _line(size: int, points: NDArray[np.float64], widths: float | NDArray[np.float64]) -> Array:
    """Coverage of a line of (y, x) points; widths may change along it."""
    canvas = np.zeros((size, size), np.uint8)
    spots = np.round(points[:, ::-1] * size * 16).astype(np.int32)
    broad = np.broadcast_to(np.asarray(widths), (len(points) - 1,))
    for start, stop, width in zip(spots[:-1], spots[1:], broad, strict=True):
        ends = (int(start[0]), int(start[1])), (int(stop[0]), int(stop[1]))
        cv2.line(canvas, *ends, 255, max(1, round(float(width) * size)), cv2.LINE_AA, 4)
    return np.asarray(canvas / 255, np.float32)


def _moved(values: Array, dy: float, dx: float) -> Array:
    """The values shifted by fractions of the side."""
    size = values.shape[0]
    shift = np.array([[1, 0, dx * size], [0, 1, dy * size]], np.float32)
    return np.asarray(
        cv2.warpAffine(values, shift, (size, size), borderMode=cv2.BORDER_REFLECT), np.float32
    )


def _colour_at(image: Array, centre: Point, radius: float = 0.06) -> Array:
    """Mean colour around a point."""
    size = image.shape[0]
    reach = max(1, round(radius * size))
    row, column = int(centre[0] * size), int(centre[1] * size)
    near = image[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    return np.asarray(near.reshape(-1, 3).mean(axis=0), np.float32)


def _bright(colour: Array) -> bool:
    return float(colour.mean()) > 0.3


def _colour(*rgb: float) -> Array:
    return np.array(rgb, np.float32)


def _lean(low: float, high: float, severity: float) -> float:
    return low + (high - low) * severity


# --- the defects --------------------------------------------------------------------------------


def _scratch(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    centre = _spot(foreground, rng, 0.12)
    length = _lean(0.3, 0.62, severity) * rng.uniform(0.85, 1.15)
    width = _lean(0.006, 0.011, severity)
    main = _walk(rng, centre, length, 0.25, 0.02)
    lines = [main]
    for _ in range(int(rng.integers(0, 3))):
        part = main[int(rng.integers(0, 8)) : int(rng.integers(14, 24))]
        lines.append(part + rng.normal(0, 0.018, 2))
    bright = _bright(_colour_at(image, centre, 0.12))
    for line in lines:
        pressure = width * np.sin(np.linspace(0.25, np.pi - 0.15, len(line) - 1)) ** 0.5
        core = _line(size, line, pressure)
        lip = np.clip(_moved(core, 0.006, 0.006) - core, 0, 1)
        depth = 0.8 if bright else 0.75
        image = mix(image, image * 0.45 if bright else 0.35 * image + 0.6, depth * core)
        image = mix(image, 0.4 * image + 0.6 if bright else image * 0.4, 0.6 * lip)
    return image


def _crack(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    centre = _spot(foreground, rng, 0.12)
    main = _walk(rng, centre, _lean(0.4, 0.75, severity), 0.7, 0.5, 30)
    width = _lean(0.006, 0.011, severity)
    core = _line(size, main, width * np.linspace(1.2, 0.4, 30) * rng.uniform(0.7, 1.3, 30))
    for _ in range(int(rng.integers(2, 5))):
        start = main[int(rng.integers(3, 26))]
        twig = _walk(rng, (0, 0), _lean(0.12, 0.3, severity), 0.5, 0.5, 14)
        twig = twig - twig[0] + start
        core = np.maximum(core, _line(size, twig, width * np.linspace(0.8, 0.25, 14)))
    lip = np.clip(_moved(core, 0.007, 0.007) - core, 0, 1)
    near = _colour_at(image, centre, 0.12)
    if _bright(near):
        return mix(mix(image, 0.5 * image + 0.5, 0.5 * lip), near * 0.1, 0.92 * core)
    return mix(mix(image, image * 0.3, 0.7 * lip), near * 0.4 + 0.45, 0.85 * core)


def _hole(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    radius = _lean(0.045, 0.11, severity)
    centre = _spot(foreground, rng, 1.4 * radius)
    distance = _blob(rng, size, centre, radius, 0.2)
    near = _colour_at(image, centre, radius)
    dark = _bright(near)
    floor = near * 0.12 if dark else 0.75 + 0.2 * near
    depth = floor * (1 + 0.12 * fractal(rng, size, (20, 20), 3))[..., None]
    pit = inside(distance, size, 1.5)
    # The wall that faces the light shows as a bright sickle within the hole.
    wall = np.clip(pit - _moved(pit, -0.014, -0.014), 0, 1)
    rim = np.exp(-((distance / 0.008) ** 2)) * (1 - pit)
    image = mix(image, 0.5 * image + 0.4 if dark else 0.5 * image, 0.6 * rim)
    image = mix(image, depth, pit)
    return mix(image, 0.7 * near + 0.1, 0.7 * wall)


def _stain(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    radius = _lean(0.065, 0.14, severity)
    centre = _spot(foreground, rng, radius)
    near = _colour_at(image, centre, radius)
    wet = np.zeros((size, size), np.float32)
    for i in range(int(rng.integers(1, 4))):
        shift = np.zeros(2) if i == 0 else rng.normal(0, radius, 2)
        small = radius if i == 0 else radius * rng.uniform(0.2, 0.45)
        at = (centre[0] + float(shift[0]), centre[1] + float(shift[1]))
        distance = _blob(rng, size, at, small, 0.2)
        body = inside(distance, size, 0.012 * size)
        edge = np.exp(-(((distance + 0.008) / 0.01) ** 2))
        wet = np.maximum(wet, np.clip(0.62 * body + 0.35 * edge * body, 0, 1))
    wet = wet * (1 + 0.08 * fractal(rng, size, (12, 12), 3))
    if not _bright(near):
        return mix(image, 0.4 * image + _colour(0.42, 0.4, 0.34), np.clip(wet, 0, 1))
    dyes = (_colour(0.45, 0.3, 0.16), _colour(0.3, 0.32, 0.42), _colour(0.5, 0.2, 0.24))
    return mix(image, image * dyes[int(rng.integers(3))], np.clip(0.95 * wet, 0, 1))


def _dent(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    radius = _lean(0.06, 0.11, severity)
    centre = _spot(foreground, rng, 1.1 * radius)
    y, x = grid(size)
    turn, ratio = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1, 1.8))
    dy, dx = (y - centre[0]) / radius, (x - centre[1]) / radius
    along = (dx * np.cos(turn) + dy * np.sin(turn)) / ratio
    across = (dy * np.cos(turn) - dx * np.sin(turn)) * ratio
    bowl = np.exp(-((along**2 + across**2) ** 1.4) * 1.4).astype(np.float32)
    # The surface bends inwards: what is on it is drawn together, and the slopes catch the light.
    pull = 0.35 * bowl * radius
    map_x = ((x + pull * dx) * size - 0.5).astype(np.float32)
    map_y = ((y + pull * dy) * size - 0.5).astype(np.float32)
    bent = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    solid = cv2.erode(foreground.astype(np.float32), np.ones((3, 3), np.uint8))
    within = cv2.remap(solid, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    bent = mix(image, np.asarray(bent, np.float32), np.asarray(within, np.float32))
    slope_y, slope_x = np.gradient(bowl)
    light = (slope_x * 0.63 + slope_y * 0.77) * size * radius
    light = light / max(float(np.abs(light).max()), 1e-6)
    lit = bent * (1 + 0.5 * np.minimum(-light, 0) - 0.12 * bowl)[..., None]
    return lit + (0.34 * np.clip(-light, 0, 1))[..., None] * (1 - 0.5 * lit)


def _contamination(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    spread = _lean(0.06, 0.12, severity)
    centre = _spot(foreground, rng, spread)
    bright = _bright(_colour_at(image, centre, spread))
    ink = _colour(0.16, 0.13, 0.11) if bright else _colour(0.85, 0.82, 0.74)
    ink = ink * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    for _ in range(int(rng.integers(4, 8)) + round(4 * severity)):
        dy, dx = rng.normal(0, 0.65 * spread, 2)
        radius = _lean(0.011, 0.02, severity) * rng.uniform(0.6, 1.5)
        crumb = inside(
            _blob(rng, size, (centre[0] + dy, centre[1] + dx), radius, 0.25, 2.2), size, 1.5
        )
        shadow = blur(_moved(crumb, 0.007, 0.007), 0.005 * size)
        facing = np.clip(crumb - _moved(crumb, 0.007, 0.007), 0, 1)
        image = image * (1 - 0.5 * shadow * (1 - crumb))[..., None]
        image = mix(image, ink, crumb) + 0.22 * facing[..., None]
    return image


def _missing(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    radius = _lean(0.07, 0.13, severity)
    whole = bool(foreground.mean() > 0.97)
    if whole:
        centre = _spot(foreground, rng, radius)
    else:
        inner = cv2.distanceTransform(np.pad(foreground.astype(np.uint8), 1), cv2.DIST_L2, 3)
        rim = (inner[1:-1, 1:-1] > 0) & (inner[1:-1, 1:-1] <= 3)
        centre = _spot(rim, rng, 0.0)
    y, x = grid(size)
    # A break runs along straight facets, not round.
    distance = np.full((size, size), -1.0, np.float32)
    for turn in np.sort(rng.uniform(0, 2 * np.pi, 3))[0] + np.arange(5) * 2 * np.pi / 5:
        turn = turn + rng.normal(0, 0.25)
        plane = (x - centre[1]) * np.cos(turn) + (y - centre[0]) * np.sin(turn)
        distance = np.maximum(distance, plane - radius * rng.uniform(0.65, 1.1))
    distance = distance + 0.008 * fractal(rng, size, (25, 25), 3)
    gone = inside(np.asarray(distance, np.float32), size, 1.5)
    rough = fractal(rng, size, (28, 28), 4, 0.7)
    if whole:
        near = _colour_at(image, centre, radius)
        raw = (0.45 * near + 0.02) if _bright(near) else (0.5 * near + 0.4)
        bottom = raw * (1 + 0.16 * rough)[..., None]
    else:
        away = cv2.erode((~foreground).astype(np.float32), np.ones((5, 5), np.uint8))
        weight = blur(away, 0.06 * size) + 1e-4
        fill = blur(image * away[..., None], 0.06 * size) / weight[..., None]
        bottom = fill * (0.92 + 0.012 * rough)[..., None]
    shadow = np.clip(gone - _moved(gone, 0.014, 0.014), 0, 1)
    edge = np.clip(gone - _moved(gone, -0.01, -0.01), 0, 1)
    bottom = bottom * (1 - 0.5 * blur(shadow, 0.004 * size))[..., None]
    bottom = bottom + (0.14 * edge)[..., None]
    return mix(image, np.asarray(bottom, np.float32), gone)


def _shift(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    half = _lean(0.08, 0.125, severity)
    centre = _spot(foreground, rng, 1.2 * half)
    turn = float(rng.uniform(12, 40) * rng.choice([-1, 1]))
    y, x = grid(size)
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    along = (x - centre[1]) * cos - (y - centre[0]) * sin
    across = (x - centre[1]) * sin + (y - centre[0]) * cos
    distance = np.maximum(np.abs(along) - half * rng.uniform(0.85, 1.25), np.abs(across) - half)
    patch = inside(distance.astype(np.float32), size, 1.5)
    pivot = (centre[1] * size - 0.5, centre[0] * size - 0.5)
    move = cv2.getRotationMatrix2D(pivot, turn, 1.0)
    move[:, 2] += rng.choice([-1, 1], 2) * rng.uniform(0.03, 0.07, 2) * size
    turned = cv2.warpAffine(image, move, (size, size), borderMode=cv2.BORDER_REFLECT)
    turned = np.asarray(turned, np.float32)
    tilted = 0.84 * turned if _bright(_colour_at(image, centre, half)) else 1.15 * turned + 0.045
    image = (
        image * (1 - 0.45 * blur(_moved(patch, 0.01, 0.01), 0.006 * size) * (1 - patch))[..., None]
    )
    lip = np.exp(-((distance / 0.006) ** 2)).astype(np.float32) * patch
    return mix(mix(image, tilted, patch), 0.25, 0.45 * lip)


def _burn(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    radius = _lean(0.07, 0.13, severity)
    centre = _spot(foreground, rng, radius)
    near = _colour_at(image, centre, radius)
    distance = _blob(rng, size, centre, 0.6 * radius, 0.25)
    soot = fractal(rng, size, (24, 24), 4, 0.7)
    reach = np.clip(distance / radius, -2, 3)
    heat = 1 / (1 + np.exp((reach - 0.22 + 0.06 * soot) * 9))
    char = 1 / (1 + np.exp((reach + 0.12 + 0.09 * soot) * 14))
    heat = np.where(heat < 0.07, 0, heat).astype(np.float32)
    scorched = image * _colour(0.62, 0.38, 0.2) + _colour(0.05, 0.02, 0.0)
    charred = float(near.mean()) > 0.15
    ash = _colour(0.05, 0.042, 0.036) if charred else _colour(0.6, 0.56, 0.5)
    flakes = 0.3 * np.clip(soot - 0.9, 0, 1)
    black = ash * (1 + 0.3 * soot)[..., None] + flakes[..., None]
    return mix(
        mix(image, scorched, 0.9 * heat),
        np.asarray(black, np.float32),
        0.94 * char.astype(np.float32),
    )


def _thread(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    centre = _spot(foreground, rng, 0.15)
    width = _lean(0.011, 0.018, severity)
    line = _walk(rng, centre, _lean(0.4, 0.7, severity), 1.6, 0.0, 64)
    strand = _line(size, line, width * np.clip(np.linspace(0.6, 5, 64), 0, 1))
    end = line[-1]
    for _ in range(4):
        fray = _walk(rng, (0, 0), rng.uniform(0.03, 0.06), 0.8, 0.1, 8)
        strand = np.maximum(strand, _line(size, fray - fray[0] + end, 0.3 * width))
    shadow = blur(_moved(strand, 0.012, 0.012), 0.006 * size) * (1 - strand)
    round_ = blur(strand, 0.35 * width * size)
    near = _colour_at(image, centre, 0.12)
    colour = 0.25 * near + (0.05 if float(near.mean()) > 0.55 else 0.68)
    twist = 1 + 0.1 * fractal(rng, size, (size / 3, size / 3), 1)
    body = colour * ((0.62 + 0.5 * round_) * twist)[..., None]
    image = image * (1 - 0.55 * shadow)[..., None]
    return mix(image, np.asarray(body, np.float32), strand)


def _scuff(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    radius = _lean(0.08, 0.15, severity)
    centre = _spot(foreground, rng, radius)
    turn = rng.uniform(0, np.pi)
    near = _colour_at(image, centre, radius)
    rub = np.zeros((size, size), np.float32)
    for _ in range(round(_lean(26, 48, severity))):
        dy, dx = rng.normal(0, 0.45 * radius, 2)
        way = turn + rng.normal(0, 0.13)
        reach = radius * rng.uniform(0.25, 0.8)
        ends = np.array([[-1.0], [1.0]]) * reach * np.array([[np.sin(way), np.cos(way)]])
        stroke = _line(size, ends + np.array([centre[0] + dy, centre[1] + dx]), 0.004)
        rub = np.maximum(rub, stroke * rng.uniform(0.5, 1))
    haze = 0.35 * blur(rub, 0.012 * size)
    worn = 0.45 * image + 0.5 if float(near.mean()) < 0.6 else 0.55 * image
    return mix(image, np.asarray(worn, np.float32), np.clip(rub * 0.8 + haze, 0, 1))


def _corrosion(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    radius = _lean(0.07, 0.13, severity)
    centre = _spot(foreground, rng, radius)
    distance = _blob(rng, size, centre, radius, 0.3)
    pits = fractal(rng, size, (18, 18), 5, 0.75)
    eaten = inside(distance + 0.035 * pits, size, 0.01 * size)
    tone = fractal(rng, size, (30, 30), 4, 0.7)
    rust = mix(_colour(0.42, 0.2, 0.09), _colour(0.72, 0.4, 0.16), np.clip(0.5 + 0.3 * tone, 0, 1))
    rust = rust * (1 - 0.3 * (pits > 0.9))[..., None]
    return mix(image, np.asarray(rust, np.float32), 0.88 * eaten)


def _glue(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    radius = _lean(0.065, 0.125, severity)
    centre = _spot(foreground, rng, radius)
    distance = _blob(rng, size, centre, radius, 0.16, 2.0)
    drop = inside(distance, size, 1.5)
    dome = np.sqrt(np.clip(-distance / (0.5 * radius), 0, 1)).astype(np.float32)
    slope_y, slope_x = np.gradient(blur(dome, 0.004 * size))
    y, x = grid(size)
    map_x = ((x + 0.18 * slope_x) * size - 0.5).astype(np.float32)
    map_y = ((y + 0.18 * slope_y) * size - 0.5).astype(np.float32)
    seen = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    amber = np.asarray(seen, np.float32) * _colour(0.86, 0.8, 0.6) + _colour(0.09, 0.075, 0.03)
    light = -(0.63 * slope_x + 0.77 * slope_y) * size * radius * 0.6
    gleam = np.exp(
        -(
            (np.hypot(y - centre[0] + 0.4 * radius, x - centre[1] + 0.4 * radius) / (0.16 * radius))
            ** 2
        )
    )
    wet = amber * (1 + 0.22 * np.clip(light, -1.5, 1.5))[..., None] + 0.75 * gleam[..., None]
    edge = blur(_moved(drop, 0.008, 0.008), 0.005 * size) * (1 - drop)
    return mix(image * (1 - 0.35 * edge)[..., None], np.asarray(wet, np.float32), drop)


def _discoloration(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    radius = _lean(0.07, 0.14, severity)
    centre = _spot(foreground, rng, radius)
    near = _colour_at(image, centre, radius)
    patch = inside(_blob(rng, size, centre, radius, 0.12), size, 0.035 * size)
    bleach = 0.6 * image + 0.4 * _colour(0.95, 0.93, 0.86)
    shades = (bleach, image[..., [1, 2, 0]] * 0.8, image * _colour(0.95, 0.8, 0.42))
    pick = 0 if float(near.mean()) < 0.5 else int(rng.integers(1, 3))
    return mix(image, shades[pick], 0.9 * patch)


def _marker(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    centre = _spot(foreground, rng, 0.14)
    line = _walk(rng, centre, _lean(0.5, 0.9, severity), 3.4, 0.02, 72)
    trace = _line(size, line, _lean(0.016, 0.024, severity))
    inks = (_colour(0.08, 0.1, 0.4), _colour(0.65, 0.06, 0.1), _colour(0.07, 0.07, 0.08))
    near = _colour_at(image, centre, 0.14)
    far = [float(np.abs(ink - near).sum()) for ink in inks]
    ink = inks[int(np.argmax(np.array(far) * rng.uniform(0.6, 1, 3)))]
    uneven = np.clip(0.85 + 0.06 * fractal(rng, size, (30, 30), 2), 0, 1)
    return mix(image, 0.12 * image + ink, trace * uneven)


def _crease(image: Array, foreground: Mask, rng: Rng, severity: float) -> Array:
    size = image.shape[0]
    centre = _spot(foreground, rng, 0.12)
    width = _lean(0.012, 0.02, severity)
    line = _walk(rng, centre, _lean(0.4, 0.7, severity), 0.35, 0.03)
    taper = np.sin(np.linspace(0.2, np.pi - 0.2, 24))
    ridge = blur(_line(size, line, width * taper), 0.3 * width * size)
    valley = np.clip(_moved(ridge, 0.8 * width, 0.8 * width) - 0.5 * ridge, 0, 1)
    image = mix(image, 0.45 * image, 0.85 * valley)
    return mix(image, 0.45 * image + 0.52, 0.85 * ridge)


_ALL = (
    Defect("scratch", ("with a scratch", "with scratches", "with a scratched surface"), _scratch),
    Defect("crack", ("with a crack", "with cracks", "that is cracked"), _crack),
    Defect("hole", ("with a hole", "with a puncture", "with a tear"), _hole),
    Defect("stain", ("with a stain", "with a dark spot", "with dirt on it"), _stain),
    Defect("dent", ("with a dent", "that is dented", "with a bump"), _dent),
    Defect(
        "contamination",
        ("with contamination", "with foreign particles", "with crumbs on it"),
        _contamination,
    ),
    Defect(
        "missing_piece", ("with a missing piece", "with a chipped part", "that is broken"), _missing
    ),
    Defect(
        "misplaced",
        ("with a misplaced part", "with a shifted piece", "with a misaligned area"),
        _shift,
    ),
    Defect("burn", ("with a burn", "with a burnt spot", "with a scorch mark"), _burn),
    Defect("thread", ("with a loose thread", "with a fibre on it", "with a bent wire"), _thread),
    Defect("scuff", ("with a scuff", "with an abrasion", "with a worn area"), _scuff),
    Defect("corrosion", ("with corrosion", "with rust", "with a rough patch"), _corrosion),
    Defect("glue", ("with a drop of glue", "with glue on it", "with a liquid drop"), _glue),
    Defect(
        "discoloration",
        ("with a discoloration", "with a faded patch", "with a wrong colour"),
        _discoloration,
    ),
    Defect("marker", ("with an ink mark", "with scribbles", "with a pen stroke"), _marker),
    Defect("crease", ("with a crease", "with a fold", "with a wrinkle"), _crease),
)

DEFECTS: Mapping[str, Defect] = {defect.name: defect for defect in _ALL}
RESERVED_DEFECTS: tuple[str, ...] = ("crack", "burn", "thread")
"""Defects that only the demo shows: no model of the demo is trained on them."""
TRAIN_DEFECTS: tuple[str, ...] = tuple(name for name in DEFECTS if name not in RESERVED_DEFECTS)
"""Defects that a model of the demo may be trained on."""
