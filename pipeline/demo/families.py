"""The surfaces and objects of the demo: a family draws its pictures from a style and fresh noise.

A *style* (colours, pitch, layout) is one product; a *render* is one picture of it, with the small
differences that two pieces off the same line have. Lengths are fractions of the picture's side.
"""

import colorsys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Rng = np.random.Generator
Style = Mapping[str, Any]
Picture = tuple[Array, Mask]

_LIGHT = np.array([-0.45, -0.55, 0.70], np.float32) / np.float32(np.sqrt(0.995))


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of product.

    ``words`` name it in captions. ``style(rng)`` draws a product; ``render(style, rng, size)``
    returns one picture of it, float32 RGB in [0, 1] of shape (size, size, 3), and the mask of its
    foreground, bool of shape (size, size). Surfaces fill the whole frame.
    """

    name: str
    words: tuple[str, ...]
    style: Callable[[Rng], Style]
    render: Callable[[Style, Rng, int], Picture]


# --- tools shared by families and defects -------------------------------------------------------


def grid(size: int) -> tuple[Array, Array]:
    """Pixel centres (y, x) in [0, 1], each of shape (size, size)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.asarray(y, np.float32), np.asarray(x, np.float32)


def hsv(hue: float, saturation: float, value: float) -> Array:
    """RGB colour of shape (3,)."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)


def mix(low: Any, high: Any, weight: Floats) -> Array:
    """``low`` where the weight (H, W) is 0, ``high`` where it is 1; colours or pictures."""
    # Three equal channels cost less than broadcasting over an axis of three.
    w = cv2.merge((weight, weight, weight)).astype(np.float32, copy=False)
    return np.asarray(low + (high - low) * w, np.float32)


def blur(values: Array, sigma: float) -> Array:
    """Gaussian blur, sigma in pixels, mirrored at the borders."""
    if sigma <= 0:
        return values
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))


def fractal(
    rng: Rng, size: int, cells: tuple[float, float], octaves: int = 4, gain: float = 0.5
) -> Array:
    """Smooth noise of mean 0 and deviation 1, shape (size, size).

    ``cells`` counts the bumps down and across in the coarsest octave; unequal counts give streaks.
    """
    total = np.zeros((size, size), np.float32)
    weight = 1.0
    for octave in range(octaves):
        rows = int(min(size, max(2, round(cells[0] * 2**octave)))) + 2
        columns = int(min(size, max(2, round(cells[1] * 2**octave)))) + 2
        bumps = rng.standard_normal((rows, columns)).astype(np.float32)
        total += weight * cv2.resize(bumps, (size, size), interpolation=cv2.INTER_CUBIC)
        weight *= gain
    total -= total.mean()
    return np.asarray(total / max(float(total.std()), 1e-6), np.float32)


def inside(distance: Floats, size: int, soft: float = 1.0) -> Array:
    """Coverage in [0, 1] of a shape from its signed distance (negative inside), edge in pixels."""
    return np.asarray(np.clip(0.5 - distance * size / soft, 0, 1), np.float32)


def shade(
    albedo: Array,
    height: Array,
    relief: float,
    specular: float = 0.0,
    gloss: float = 20.0,
    ambient: float = 0.45,
) -> Array:
    """Light a surface from the top left: Lambert's law and a Blinn-Phong highlight.

    ``height`` and the result's slopes are in fractions of the side; ``relief`` multiplies them. A
    flat surface keeps its albedo.
    """
    size = height.shape[0]
    scale = relief * size / 8
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REFLECT) * scale
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REFLECT) * scale
    norm = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    toward = (_LIGHT[2] - slope_x * _LIGHT[0] - slope_y * _LIGHT[1]) * norm
    diffuse = ambient + (1 - ambient) * np.clip(toward, 0, None) / _LIGHT[2]
    picture = albedo * diffuse[..., None]
    if specular > 0:
        half = _LIGHT + np.array([0, 0, 1], np.float32)
        half /= np.linalg.norm(half)
        facing = np.clip((half[2] - slope_x * half[0] - slope_y * half[1]) * norm, 0, 1)
        picture = picture + (specular * (facing**gloss - half[2] ** gloss))[..., None]
    return np.asarray(np.clip(picture, 0, 1), np.float32)


def cells(rng: Rng, size: int, count: int) -> tuple[Array, NDArray[np.int32]]:
    """Distance to the nearest of ``count * count`` scattered points, and which point it is."""
    step = size / count
    rows, columns = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    jitter = rng.uniform(0.08, 0.92, (2, count, count))
    ys = np.minimum((rows + jitter[0]) * step, size - 1).astype(int)
    xs = np.minimum((columns + jitter[1]) * step, size - 1).astype(int)
    seeds = np.full((size, size), 255, np.uint8)
    seeds[ys, xs] = 0
    distance, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    return np.asarray(distance / size, np.float32), np.asarray(labels, np.int32)


def text_mask(
    size: int, text: str, centre: tuple[float, float], height: float, stroke: float
) -> Array:
    """Coverage of a line of text centred at (y, x); letter height and stroke in fractions."""
    canvas = np.zeros((size, size), np.uint8)
    face = cv2.FONT_HERSHEY_DUPLEX
    scale = height * size / 22
    thick = max(1, round(stroke * size))
    (width, tall), _ = cv2.getTextSize(text, face, scale, thick)
    origin = (round(centre[1] * size - width / 2), round(centre[0] * size + tall / 2))
    cv2.putText(canvas, text, origin, face, scale, 255, thick, cv2.LINE_AA)
    return np.asarray(canvas / 255, np.float32)


def _strokes(size: int, lines: list[NDArray[np.float64]], width: float) -> Array:
    """Coverage of polylines of (y, x) points."""
    canvas = np.zeros((size, size), np.uint8)
    points = [np.round(line[:, ::-1] * size * 16).astype(np.int32) for line in lines]
    cv2.polylines(canvas, points, False, 255, max(1, round(width * size)), cv2.LINE_AA, 4)
    return np.asarray(canvas / 255, np.float32)


def _dots(size: int, centres: list[tuple[float, float]], radius: float) -> Array:
    """Coverage of discs at (y, x)."""
    canvas = np.zeros((size, size), np.uint8)
    for y, x in centres:
        place = (round(x * size * 16), round(y * size * 16))
        cv2.circle(canvas, place, round(radius * size * 16), 255, -1, cv2.LINE_AA, 4)
    return np.asarray(canvas / 255, np.float32)


def _window(size: int, y: float, x: float, reach: float) -> tuple[slice, slice]:
    """The square of pixels about a point, cut at the borders."""
    low = [max(0, int((c - reach) * size)) for c in (y, x)]
    high = [min(size, int((c + reach) * size) + 1) for c in (y, x)]
    return slice(low[0], high[0]), slice(low[1], high[1])


def _box(y: Array, x: Array, half_y: float, half_x: float, corner: float) -> Array:
    """Signed distance to a rounded box about the origin."""
    dy = np.abs(y) - (half_y - corner)
    dx = np.abs(x) - (half_x - corner)
    outside = np.hypot(np.maximum(dy, 0), np.maximum(dx, 0))
    return np.asarray(outside + np.minimum(np.maximum(dy, dx), 0) - corner, np.float32)


def _wander(rng: Rng, size: int, amount: float, count: float = 3) -> tuple[Array, Array]:
    """A smooth displacement field (dy, dx) of the given deviation."""
    return (
        amount * fractal(rng, size, (count, count), 2),
        amount * fractal(rng, size, (count, count), 2),
    )


def _table(rng: Rng, size: int, colour: Array, roughness: float = 0.012) -> Array:
    """The ground that objects lie on: a plain mat with a fine grain."""
    grain = roughness * fractal(rng, size, (size / 3, size / 3), 2)
    wash = 0.012 * fractal(rng, size, (2, 2), 2)
    return np.asarray(np.clip(colour * (1 + wash + grain)[..., None], 0, 1), np.float32)


def _place(ground: Array, thing: Array, coverage: Array, shadow: float = 0.45) -> Picture:
    """Lay a thing on the ground with a soft shadow towards the bottom right."""
    size = ground.shape[0]
    step = 0.012 * size
    move = np.array([[1, 0, step], [0, 1, step]], np.float32)
    cast = blur(np.asarray(cv2.warpAffine(coverage, move, (size, size)), np.float32), 0.014 * size)
    contact = blur(coverage, 0.006 * size)
    ground = ground * (1 - shadow * np.maximum(cast, 0.8 * contact))[..., None]
    return np.clip(mix(ground, thing, coverage), 0, 1), coverage > 0.5


def _everywhere(size: int) -> Mask:
    return np.ones((size, size), np.bool_)


def _tint(rng: Rng, colour: Array, amount: float = 0.012) -> Array:
    """The colour of one piece: the style's, a trifle off."""
    shift = rng.normal(0, 1.2 * amount) + rng.normal(0, 0.4 * amount, 3)
    return np.asarray(np.clip(colour + shift, 0, 1), np.float32)


def _ground_colour(rng: Rng) -> Array:
    """A mat: light, dark or tinted."""
    value = float(rng.choice([0.12, 0.2, 0.55, 0.78, 0.88]))
    return hsv(rng.uniform(), rng.uniform(0, 0.18), value)


# --- surfaces -----------------------------------------------------------------------------------


def _woven_style(rng: Rng) -> Style:
    hue = rng.uniform()
    return {
        "threads": int(rng.integers(20, 34)),
        "weave": int(rng.integers(0, 3)),
        "warp": hsv(hue, rng.uniform(0.1, 0.45), rng.uniform(0.4, 0.8)),
        "weft": hsv(hue + rng.normal(0, 0.06), rng.uniform(0.05, 0.4), rng.uniform(0.5, 0.85)),
        "stripe": int(rng.choice([0, 0, 8, 12])),
        "accent": hsv(hue + 0.45, 0.5, 0.6),
    }


def _woven(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    dy, dx = _wander(rng, size, 0.0022)
    threads = style["threads"]
    v = (y + dy) * threads + rng.uniform(0, 8)
    u = (x + dx) * threads + rng.uniform(0, 8)
    row, column = np.floor(v).astype(int), np.floor(u).astype(int)
    fv, fu = v - row - 0.5, u - column - 0.5
    pattern = style["weave"]
    over = (
        (row + column) % 2 == 0
        if pattern == 0
        else (row + column) % 4 < 2
        if pattern == 1
        else (row - column) % 3 == 0
    )
    lift = np.where(over, 1, -1) * 0.35 * np.cos(np.pi * fv) * np.cos(np.pi * fu)
    lean = rng.normal(1, 0.05, (2, 64)).astype(np.float32)
    warp = np.sqrt(np.clip(1 - (2.08 * fu / lean[0][column % 64]) ** 2, 0, 1)) + lift
    weft = np.sqrt(np.clip(1 - (2.08 * fv / lean[1][row % 64]) ** 2, 0, 1)) - lift
    upper = warp > weft
    height = np.maximum(warp, weft).astype(np.float32)
    shades = rng.normal(1, 0.045, (2, 64)).astype(np.float32)
    warp_colour = np.broadcast_to(_tint(rng, style["warp"]), (size, size, 3))
    if style["stripe"]:
        striped = (column % style["stripe"] < 2).astype(np.float32)
        warp_colour = mix(warp_colour, style["accent"], striped)
    weft_colour = np.broadcast_to(_tint(rng, style["weft"]), (size, size, 3))
    albedo = np.where(
        upper[..., None],
        warp_colour * shades[0][column % 64][..., None],
        weft_colour * shades[1][row % 64][..., None],
    )
    twist = np.sin(2 * np.pi * np.where(upper, v * 2.0 + fu * 2, u * 2.0 + fv * 2))
    fibre = 0.035 * fractal(rng, size, (size / 2, size / 2), 1) + 0.05 * twist
    albedo = albedo * (0.55 + 0.36 * np.clip(height, 0, 1.3) + fibre)[..., None]
    picture = shade(np.asarray(albedo, np.float32), height / threads, 0.55)
    return picture, _everywhere(size)


def _tile_style(rng: Rng) -> Style:
    hue = rng.uniform()
    return {
        "count": int(rng.integers(2, 5)),
        "stagger": float(rng.choice([0.0, 0.0, 0.5])),
        "base": hsv(hue, rng.uniform(0.08, 0.4), rng.uniform(0.62, 0.9)),
        "vein": hsv(hue + rng.normal(0, 0.08), rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.55)),
        "grout": hsv(rng.uniform(), 0.06, rng.uniform(0.35, 0.75)),
        "gap": rng.uniform(0.022, 0.04),
    }


def _tile(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    count = style["count"]
    v = (y - 0.5) * count + 0.5 * count
    row = np.floor(v).astype(int)
    u = (x - 0.5) * count + 0.5 * count + style["stagger"] * (row % 2)
    column = np.floor(u).astype(int)
    distance = _box(v - row - 0.5, u - column - 0.5, 0.5 - style["gap"], 0.5 - style["gap"], 0.06)
    coverage = inside(distance / count, size, 1.5)
    cloud = fractal(rng, size, (3, 3), 4)
    swirl = fractal(rng, size, (3, 3), 4, 0.45)
    veins = np.exp(-(((np.abs(swirl)) / (0.12 + 0.1 * np.abs(cloud))) ** 1.2))
    tones = rng.normal(1, 0.025, (8, 8)).astype(np.float32)
    glaze = mix(_tint(rng, style["base"]), style["vein"], np.clip(0.42 * veins, 0, 1))
    glaze = glaze * (tones[row % 8, column % 8] + 0.035 * cloud)[..., None]
    grout = style["grout"] * (1 + 0.1 * fractal(rng, size, (size / 4, size / 4), 2))[..., None]
    edge = np.clip(-distance / 0.055, 0, 1)
    height = np.sqrt(np.clip(1 - (1 - edge) ** 2, 0, 1)) * 0.035 / count
    albedo = mix(grout, glaze, coverage)
    wave = 0.0008 * fractal(rng, size, (5, 5), 2)
    lit = shade(albedo, np.asarray(height + wave * coverage, np.float32), 1.0, 0.35, 40)
    lit = lit * (1 - 0.3 * blur(1 - coverage, 0.004 * size) * (1 - coverage))[..., None]
    return np.clip(lit, 0, 1).astype(np.float32), _everywhere(size)


def _brushed_style(rng: Rng) -> Style:
    return {
        "metal": hsv(
            float(rng.choice([0.09, 0.12, 0.6, 0.58])), rng.uniform(0.0, 0.3), rng.uniform(0.5, 0.8)
        ),
        "upright": bool(rng.integers(0, 2)),
        "streak": rng.uniform(0.035, 0.085),
        "bands": int(rng.integers(1, 4)),
    }


def _brushed(style: Style, rng: Rng, size: int) -> Picture:
    long = fractal(rng, size, (size / 1.5, 1.5), 1) + 0.7 * fractal(rng, size, (size / 2, 7), 1)
    fine = fractal(rng, size, (size, 24), 1)
    sheen = fractal(rng, size, (style["bands"], 1), 2)
    value = 1 + style["streak"] * (long + 0.7 * fine) + 0.06 * sheen
    if style["upright"]:
        value = value.T
    picture = _tint(rng, style["metal"], 0.006) * value[..., None]
    return np.clip(picture, 0, 1).astype(np.float32), _everywhere(size)


def _wood_style(rng: Rng) -> Style:
    hue = rng.uniform(0.05, 0.1)
    value = rng.uniform(0.45, 0.85)
    return {
        "light": hsv(hue, rng.uniform(0.35, 0.6), value),
        "dark": hsv(hue - 0.015, rng.uniform(0.5, 0.75), value * rng.uniform(0.5, 0.72)),
        "rings": rng.uniform(7, 20),
        "bow": rng.uniform(0.2, 1.2),
        "boards": int(rng.choice([0, 0, 3, 4])),
    }


def _wood(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    boards = style["boards"]
    board = np.floor(x * boards).astype(int) if boards else np.zeros((size, size), int)
    offset = rng.uniform(-2, 2, 8)[board % 8]
    curve = style["bow"] * (y - 0.5 + 0.2 * offset) ** 2 * np.sin(2 * (x + offset))
    warp = 0.035 * fractal(rng, size, (1.5, 4), 3)
    phase = (x + offset + curve + warp) * style["rings"]
    ring = phase - np.floor(phase)
    late = np.clip(ring**2.5 * 1.1 - (ring > 0.93) * 0.9, 0, 1).astype(np.float32)
    grain = fractal(rng, size, (4, size / 2), 2)
    pores = (fractal(rng, size, (14, size), 1) > 2.0).astype(np.float32)
    colour = mix(_tint(rng, style["light"]), style["dark"], np.clip(0.6 * late + 0.1 * grain, 0, 1))
    colour = colour * (1 + 0.045 * grain - 0.22 * blur(pores, 0.6))[..., None]
    if boards:
        seam = np.abs(x * boards - np.round(x * boards)) / boards
        colour = colour * (1 - 0.7 * inside(seam - 0.003, size, 2))[..., None]
        colour = colour * rng.normal(1, 0.05, 8).astype(np.float32)[board % 8][..., None]
    return np.clip(colour, 0, 1).astype(np.float32), _everywhere(size)


def _leather_style(rng: Rng) -> Style:
    return {
        "colour": hsv(
            float(rng.choice([0.02, 0.06, 0.08, 0.6, 0.98])),
            rng.uniform(0.2, 0.7),
            rng.uniform(0.25, 0.7),
        ),
        "pebbles": int(rng.integers(26, 52)),
        "relief": rng.uniform(0.5, 1.0),
    }


def _leather(style: Style, rng: Rng, size: int) -> Picture:
    count = style["pebbles"]
    distance, _ = cells(rng, size, count)
    bump = blur(-distance * count, 0.12 * size / count)
    pore = fractal(rng, size, (size / 3, size / 3), 2)
    height = (bump * 0.9 + 0.09 * fractal(rng, size, (count / 3, count / 3), 2)) / count
    tone = 1 + 0.05 * fractal(rng, size, (3, 3), 3) + 0.02 * pore + 0.22 * (bump + 0.38)
    albedo = _tint(rng, style["colour"]) * tone[..., None]
    picture = shade(
        np.asarray(albedo, np.float32), height.astype(np.float32), style["relief"], 0.14, 14
    )
    return picture, _everywhere(size)


def _mesh_style(rng: Rng) -> Style:
    return {
        "pitch": int(rng.integers(9, 18)),
        "wire": rng.uniform(0.14, 0.26),
        "slant": float(rng.choice([0.0, 0.0, np.pi / 4])),
        "metal": hsv(float(rng.choice([0.1, 0.6])), rng.uniform(0, 0.25), rng.uniform(0.6, 0.85)),
        "behind": hsv(rng.uniform(), rng.uniform(0, 0.25), float(rng.choice([0.08, 0.15, 0.85]))),
    }


def _mesh(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    dy, dx = _wander(rng, size, 0.0018)
    cos, sin = np.cos(style["slant"]), np.sin(style["slant"])
    v = ((y + dy) * cos - (x + dx) * sin) * style["pitch"] + rng.uniform(0, 4)
    u = ((y + dy) * sin + (x + dx) * cos) * style["pitch"] + rng.uniform(0, 4)
    fv, fu = v - np.floor(v) - 0.5, u - np.floor(u) - 0.5
    sign = np.where((np.floor(v + 0.5) + np.floor(u + 0.5)) % 2 == 0, 1, -1)
    nv, nu = np.abs(0.5 - np.abs(fv)), np.abs(0.5 - np.abs(fu))
    half = style["wire"] / 2
    crossing = np.exp(-((nv**2 + nu**2) / (2 * (2 * half) ** 2))) * sign
    warp = np.where(nu < half, np.sqrt(np.clip(1 - (nu / half) ** 2, 0, 1)) + 0.6 * crossing, -2)
    weft = np.where(nv < half, np.sqrt(np.clip(1 - (nv / half) ** 2, 0, 1)) - 0.6 * crossing, -2)
    height = np.maximum(warp, weft)
    coverage = inside((np.minimum(nu, nv) - half).astype(np.float32) / style["pitch"], size)
    streak = 1 + 0.06 * fractal(rng, size, (size / 2, size / 2), 1)
    albedo = style["metal"] * (streak * (0.55 + 0.4 * np.clip(height, 0, 1.5)))[..., None]
    surface = np.clip(height, -0.3, 2).astype(np.float32) * half / style["pitch"]
    wires = shade(np.asarray(albedo, np.float32), surface, 0.7, 0.35, 10)
    ground = _table(rng, size, style["behind"])
    return _place(ground, wires, coverage, 0.5)[0], _everywhere(size)


def _granule_style(rng: Rng) -> Style:
    hue = rng.uniform()
    return {
        "radius": rng.uniform(0.016, 0.032),
        "length": rng.uniform(1.0, 1.7),
        "colour": hsv(hue, rng.uniform(0.1, 0.7), rng.uniform(0.55, 0.92)),
        "spread": rng.uniform(0.02, 0.06),
    }


def _granules(style: Style, rng: Rng, size: int) -> Picture:
    radius, length = style["radius"] * size, style["length"]
    across = int(1.25 / (style["radius"] * np.sqrt(np.pi * length)))
    count = 2 * across**2
    canvas = np.tile(0.2 * style["colour"], (size, size, 1)).astype(np.float32)
    # Two layers on jittered grids leave no gap, which would look like a defect.
    nodes = np.indices((across, across)).reshape(2, -1).T
    layers = np.concatenate([rng.permutation(nodes), rng.permutation(nodes)]) + 0.5
    centres = (layers + rng.uniform(-0.55, 0.55, (count, 2))) * (1.06 * size / across) - 0.03 * size
    angles = rng.uniform(0, 180, count)
    sizes = radius * rng.normal(1, 0.07, count)
    depth = np.linspace(0.55, 1.0, count)
    tones = rng.normal(0, style["spread"], (count, 3)) + rng.normal(0, style["spread"], (count, 1))
    # Painter's algorithm, deepest first: a dark rim, the body, a lit cap and a glint.
    coats = ((1.12, 0.35, 0.0), (1.0, 0.78, 0.0), (0.72, 1.0, -0.16), (0.4, 1.15, -0.26))
    for (cy, cx), angle, r, deep, tone in zip(centres, angles, sizes, depth, tones, strict=True):
        body = np.clip(style["colour"] + tone, 0, 1) * deep
        for grow, light, off in coats:
            axes = (round(r * grow * length * 16), round(r * grow * 16))
            place = (round((cx + off * r) * 16), round((cy + off * r) * 16))
            paint = tuple(float(c) for c in np.clip(body * light, 0, 1))
            box = cv2.ellipse2Poly((0, 0), axes, round(float(angle)), 0, 360, 24)
            cv2.fillConvexPoly(canvas, box + np.array(place, np.int32), paint, cv2.LINE_8, 4)
    return np.clip(blur(canvas, 0.0035 * size), 0, 1), _everywhere(size)


def _granite_style(rng: Rng) -> Style:
    hue = rng.uniform()
    return {
        "colours": np.stack(
            [
                hsv(hue, rng.uniform(0, 0.25), rng.uniform(0.5, 0.7)),
                hsv(hue + rng.normal(0, 0.1), rng.uniform(0, 0.3), rng.uniform(0.7, 0.92)),
                hsv(rng.uniform(), rng.uniform(0, 0.1), rng.uniform(0.08, 0.3)),
                hsv(hue + 0.05, rng.uniform(0.1, 0.45), rng.uniform(0.35, 0.6)),
            ]
        ),
        "shares": rng.dirichlet([6, 4, 2, 2]),
        "grains": int(rng.integers(45, 95)),
    }


def _granite(style: Style, rng: Rng, size: int) -> Picture:
    _, coarse = cells(rng, size, min(style["grains"], size // 2))
    kinds = rng.choice(4, int(coarse.max()) + 1, p=style["shares"])
    tone = rng.normal(1, 0.08, int(coarse.max()) + 1).astype(np.float32)
    picture = style["colours"][kinds[coarse]] * tone[coarse][..., None]
    picture = blur(np.asarray(picture, np.float32), 0.002 * size)
    picture = picture * (1 + 0.05 * fractal(rng, size, (size / 2, size / 2), 2))[..., None]
    return np.clip(picture, 0, 1).astype(np.float32), _everywhere(size)


def _perforated_style(rng: Rng) -> Style:
    return {
        "count": int(rng.integers(6, 12)),
        "radius": rng.uniform(0.22, 0.34),
        "hex": bool(rng.integers(0, 2)),
        "metal": hsv(float(rng.choice([0.1, 0.6])), rng.uniform(0, 0.2), rng.uniform(0.5, 0.82)),
        "behind": hsv(rng.uniform(), 0.1, float(rng.choice([0.05, 0.12, 0.2]))),
    }


def _perforated(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    count = style["count"]
    v = y * count + rng.uniform(-0.1, 0.1)
    row = np.floor(v)
    u = x * count + (0.5 * (row % 2) if style["hex"] else 0.0)
    distance = (style["radius"] - np.hypot(v - row - 0.5, u - np.floor(u) - 0.5)) / count
    coverage = inside(distance.astype(np.float32), size)
    sheet = _brushed(
        {"metal": style["metal"], "upright": False, "streak": 0.025, "bands": 2}, rng, size
    )[0]
    height = np.clip(-distance * 60, 0, 1).astype(np.float32) * 0.006
    picture, _ = _place(
        _table(rng, size, style["behind"]), shade(sheet, height, 1.0, 0.2, 12), coverage, 0.7
    )
    return picture, _everywhere(size)


def _carpet_style(rng: Rng) -> Style:
    hue = rng.uniform()
    return {
        "colour": hsv(hue, rng.uniform(0.05, 0.5), rng.uniform(0.35, 0.7)),
        "fleck": hsv(hue + rng.normal(0, 0.1), rng.uniform(0.1, 0.5), rng.uniform(0.5, 0.9)),
        "tufts": int(rng.integers(40, 75)),
        "share": rng.uniform(0.1, 0.45),
    }


def _carpet(style: Style, rng: Rng, size: int) -> Picture:
    count = min(style["tufts"], size // 2)
    distance, label = cells(rng, size, count)
    number = int(label.max()) + 1
    fleck = (rng.uniform(size=number) < style["share"]).astype(np.float32)[label]
    tone = rng.normal(1, 0.1, number).astype(np.float32)[label]
    albedo = mix(_tint(rng, style["colour"]), style["fleck"], blur(fleck, 0.003 * size))
    fuzz = 1 + 0.12 * fractal(rng, size, (size / 2, size / 2), 2)
    albedo = albedo * (tone * fuzz * (1.12 - 0.5 * distance * count))[..., None]
    picture = shade(np.asarray(albedo, np.float32), blur(-distance, 0.004 * size), 0.7)
    return picture, _everywhere(size)


def _cardboard_style(rng: Rng) -> Style:
    return {
        "paper": hsv(rng.uniform(0.06, 0.1), rng.uniform(0.25, 0.5), rng.uniform(0.55, 0.78)),
        "flutes": rng.uniform(12, 26),
        "upright": bool(rng.integers(0, 2)),
        "depth": rng.uniform(0.08, 0.3),
    }


def _cardboard(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    along = x if style["upright"] else y
    wobble = 0.004 * fractal(rng, size, (3, 3), 2)
    height = (
        np.sin(2 * np.pi * style["flutes"] * (along + wobble)) * style["depth"] / style["flutes"]
    )
    fibres = fractal(rng, size, (size / 3, size / 9), 2) + fractal(
        rng, size, (size / 9, size / 3), 2
    )
    specks = (fractal(rng, size, (size / 2, size / 2), 1) > 2.7).astype(np.float32)
    tone = 1 + 0.022 * fibres + 0.03 * fractal(rng, size, (3, 3), 3) - 0.3 * blur(specks, 0.7)
    albedo = _tint(rng, style["paper"]) * tone[..., None]
    picture = shade(np.asarray(albedo, np.float32), height.astype(np.float32), 0.8)
    return picture, _everywhere(size)


def _brick_style(rng: Rng) -> Style:
    return {
        "rows": int(rng.integers(4, 8)),
        "brick": hsv(rng.uniform(0.0, 0.09), rng.uniform(0.25, 0.65), rng.uniform(0.45, 0.7)),
        "mortar": hsv(0.1, rng.uniform(0, 0.15), rng.uniform(0.5, 0.8)),
        "spread": rng.uniform(0.04, 0.12),
    }


def _brick(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    dy, dx = _wander(rng, size, 0.002, 12)
    rows = style["rows"]
    v = (y + dy) * rows
    row = np.floor(v).astype(int)
    u = (x + dx) * rows / 2.2 + 0.5 * (row % 2) + 0.13
    column = np.floor(u).astype(int)
    distance = _box(v - row - 0.5, (u - column - 0.5) * 2.2, 0.43, 1.03, 0.07) / rows
    coverage = inside(distance, size, 2.5)
    rough = fractal(rng, size, (30, 30), 4, 0.7)
    tones = rng.normal(1, style["spread"], (16, 16)).astype(np.float32)[row % 16, column % 16]
    brick = _tint(rng, style["brick"]) * (tones + 0.06 * rough)[..., None]
    mortar = style["mortar"] * (1 + 0.06 * fractal(rng, size, (size / 3, size / 3), 2))[..., None]
    height = 0.012 * np.clip(-distance * 40, 0, 1) + 0.0012 * rough
    picture = shade(mix(mortar, brick, coverage), height.astype(np.float32), 0.9)
    return picture, _everywhere(size)


# --- objects ------------------------------------------------------------------------------------


def _washer_style(rng: Rng) -> Style:
    return {
        "outer": rng.uniform(0.36, 0.39),
        "inner": rng.uniform(0.13, 0.18),
        "metal": hsv(
            float(rng.choice([0.09, 0.11, 0.58, 0.6])),
            rng.uniform(0.02, 0.25),
            rng.uniform(0.55, 0.75),
        ),
        "ground": _ground_colour(rng),
        "grooves": rng.uniform(0.03, 0.07),
    }


def _washer(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    cy, cx = 0.5 + rng.normal(0, 0.006, 2)
    radius = np.hypot(y - cy, x - cx)
    angle = np.arctan2(y - cy, x - cx)
    middle = (style["outer"] + style["inner"]) / 2
    half = (style["outer"] - style["inner"]) / 2
    distance = (np.abs(radius - middle) - half).astype(np.float32)
    coverage = inside(distance, size)
    # Turned metal: fine circles, and two bright fans where the grooves face the light.
    profile = rng.standard_normal(size).astype(np.float32)
    index = np.clip(radius * size * 1.3, 0, size - 1)
    circles = np.interp(index.ravel(), np.arange(size), profile).reshape(size, size)
    spin = fractal(rng, size, (size / 2, size / 2), 1)
    turn = 0.9 + rng.normal(0, 0.12)
    fans = np.abs(np.cos(angle - turn)) ** 6 + 0.35 * np.abs(np.cos(angle - turn - 1.2)) ** 14
    value = 0.78 + 0.42 * fans + style["grooves"] * circles * (0.6 + fans) + 0.012 * spin
    face = _tint(rng, style["metal"], 0.006) * value[..., None]
    bevel = np.clip(1 + distance / 0.018, 0, 1)
    height = -0.009 * bevel**2
    thing = shade(np.asarray(face, np.float32), height.astype(np.float32), 1.0, 0.4, 18)
    return _place(_table(rng, size, style["ground"]), thing, coverage, 0.55)


def _capsule_style(rng: Rng) -> Style:
    hue = rng.uniform()
    return {
        "cap": hsv(hue, rng.uniform(0.55, 0.85), rng.uniform(0.5, 0.8)),
        "body": hsv(hue + rng.uniform(0.2, 0.6), rng.uniform(0.05, 0.35), rng.uniform(0.82, 0.95)),
        "length": rng.uniform(0.39, 0.42),
        "radius": rng.uniform(0.155, 0.175),
        "text": str(int(rng.integers(10, 99) * 10)),
        "ground": hsv(rng.uniform(), rng.uniform(0, 0.06), float(rng.choice([0.82, 0.88, 0.22]))),
        "tilt": rng.uniform(-0.5, 0.5),
    }


def _capsule(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    tilt = style["tilt"] + rng.normal(0, 0.03)
    cy, cx = 0.5 + rng.normal(0, 0.006, 2)
    along = (x - cx) * np.cos(tilt) + (y - cy) * np.sin(tilt)
    across = -(x - cx) * np.sin(tilt) + (y - cy) * np.cos(tilt)
    seam = 0.03 + rng.normal(0, 0.004)
    is_cap = inside((along - seam).astype(np.float32), size, 1.5)
    radius = style["radius"] * (0.965 + 0.035 * is_cap)
    reach = np.maximum(np.abs(along) - (style["length"] - style["radius"]), 0)
    ratio = np.hypot(reach, across) / radius
    coverage = inside(((ratio - 1) * radius).astype(np.float32), size)
    dome = np.sqrt(np.clip(1 - ratio**2, 0, 1))
    gel = mix(_tint(rng, style["body"]), _tint(rng, style["cap"]), is_cap)
    gel = gel * (0.62 + 0.42 * dome + 0.008 * fractal(rng, size, (40, 40), 2))[..., None]
    # Print follows the capsule's axis.
    ink = text_mask(size, style["text"], (0.5, 0.5 + 0.17), 0.075, 0.008)
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), -float(np.degrees(tilt)), 1.0)
    turn[:, 2] += (np.array([cx, cy]) - 0.5) * size
    ink = np.asarray(cv2.warpAffine(ink, turn, (size, size)), np.float32)
    gel = gel * (1 - 0.75 * ink)[..., None]
    thing = shade(gel.astype(np.float32), (dome * style["radius"]).astype(np.float32), 0.55, 0.0)
    glint = np.exp(-(((across + 0.5 * style["radius"]) / (0.13 * style["radius"])) ** 2))
    glint = glint * inside(
        (np.abs(along) - style["length"] * 0.74).astype(np.float32), size, 0.06 * size
    )
    groove = np.exp(-(((along - seam) / 0.0035) ** 2)) + 0.5 * np.exp(
        -(((along - seam - 0.05) / 0.004) ** 2)
    )
    thing = thing * (1 - 0.3 * groove)[..., None] + 0.5 * glint[..., None]
    return _place(_table(rng, size, style["ground"], 0.006), np.clip(thing, 0, 1), coverage, 0.4)


def _circuit_style(rng: Rng) -> Style:
    board = hsv(
        float(rng.choice([0.36, 0.4, 0.6, 0.43, 0.33])),
        rng.uniform(0.6, 0.85),
        rng.uniform(0.25, 0.42),
    )
    lines: list[NDArray[np.float64]] = []
    below: list[NDArray[np.float64]] = []
    vias: list[tuple[float, float]] = []
    for lane in (i / 16 for i in range(1, 16)):
        if rng.uniform() < 0.2:
            continue
        jog = int(rng.integers(-2, 3)) / 16
        start, bend = rng.uniform(0, 0.15), rng.uniform(0.25, 0.7)
        stop = rng.uniform(0.8, 1.0)
        points = [(lane, start), (lane, bend), (lane + jog, bend + abs(jog)), (lane + jog, stop)]
        line = np.array(points)
        # Tracks run across on the upper copper layer and down on the lower one.
        upper = rng.uniform() < 0.6
        line = line if upper else line[:, ::-1]
        (lines if upper else below).append(line)
        vias += [(float(line[0, 0]), float(line[0, 1])), (float(line[-1, 0]), float(line[-1, 1]))]
    spots = [(0.27, 0.3), (0.27, 0.74), (0.7, 0.26), (0.72, 0.7)]
    chips = [spots[i] for i in rng.permutation(4)[:2]]
    parts = [spots[i] for i in range(4) if spots[i] not in chips]
    return {
        "board": board,
        "copper": np.clip(board * 1.35 + 0.1, 0, 1),
        "lines": lines,
        "below": below,
        "vias": vias,
        "width": rng.uniform(0.012, 0.018),
        "chips": [(y, x, rng.uniform(0.075, 0.1), rng.uniform(0.1, 0.13)) for y, x in chips],
        "parts": [(y + dy, x) for y, x in parts for dy in (-0.07, 0.0, 0.07)],
        "label": "".join(rng.choice(list("ABCRUX"), 2)) + str(int(rng.integers(10, 99))),
        "ink": _tint(rng, np.array([0.9, 0.9, 0.86], np.float32)),
    }


def _circuit(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    copper = _strokes(size, style["lines"], style["width"])
    below = _strokes(size, style["below"], style["width"])
    ring = _dots(size, style["vias"], 0.018)
    drill = _dots(size, style["vias"], 0.008)
    weave = 0.02 * np.sin(2 * np.pi * 64 * y) * np.sin(2 * np.pi * 64 * x)
    tone = 1 + weave + 0.03 * fractal(rng, size, (3, 3), 2) + 0.02 * fractal(rng, size, (90, 90), 1)
    tracks = np.maximum(copper, 0.4 * below)
    albedo = mix(_tint(rng, style["board"], 0.006), style["copper"], tracks) * tone[..., None]
    tin = np.array([0.78, 0.74, 0.62], np.float32)
    albedo = mix(mix(albedo, tin, ring), np.float32(0.04), drill)
    height = 0.0022 * blur(np.maximum(copper, ring), 0.8) - 0.004 * drill
    shadow = np.zeros((size, size), np.float32)

    def lay(at: tuple[slice, slice], distance: Array, colour: Array, thick: float) -> None:
        cover = inside(distance, size)
        albedo[at] = mix(albedo[at], colour, cover)
        dome = thick * np.clip(-distance / 0.008, 0, 1)
        height[at] = height[at] * (1 - cover) + dome * cover
        shadow[at] = np.maximum(shadow[at], thick / 0.012 * cover)

    for cy, cx, half_y, half_x in style["chips"]:
        at = _window(size, cy, cx, 0.15)
        oy, ox = y[at] - cy - rng.normal(0, 0.0015), x[at] - cx - rng.normal(0, 0.0015)
        pins = np.abs((ox * 26 + 0.5) % 1 - 0.5) / 26
        legs = np.maximum(
            pins - 0.009, np.maximum(np.abs(oy) - half_y - 0.028, np.abs(ox) - half_x + 0.012)
        )
        lay(at, legs.astype(np.float32), np.float32(0.72) * np.ones(3, np.float32), 0.004)
        lay(
            at,
            _box(oy, ox, half_y, half_x, 0.008),
            np.float32(0.13) * np.ones(3, np.float32),
            0.012,
        )
        name = text_mask(size, style["label"], (cy, cx), 0.04, 0.004)[at]
        dot = inside(np.hypot(oy - half_y + 0.022, ox + half_x - 0.022) - 0.008, size)
        albedo[at] = mix(albedo[at], np.float32(0.5), 0.8 * np.maximum(name, dot))
    for cy, cx in style["parts"]:
        at = _window(size, cy, cx, 0.08)
        oy, ox = y[at] - cy - rng.normal(0, 0.0015), x[at] - cx - rng.normal(0, 0.0015)
        lay(at, _box(oy, ox, 0.02, 0.05, 0.004), tin * 1.1, 0.006)
        lay(at, _box(oy, ox, 0.021, 0.03, 0.002), np.array([0.22, 0.17, 0.14], np.float32), 0.007)
        outline = np.abs(_box(oy, ox, 0.03, 0.062, 0.006)) - 0.0015
        albedo[at] = mix(albedo[at], style["ink"], 0.8 * inside(outline, size))
    drop = blur(np.roll(shadow, round(0.008 * size), (0, 1)), 0.005 * size) * (shadow < 0.3)
    albedo = albedo * (1 - 0.5 * np.clip(drop, 0, 1))[..., None]
    picture = shade(albedo.astype(np.float32), height, 1.0, 0.35, 22)
    return picture, _everywhere(size)


def _label_style(rng: Rng) -> Style:
    letters = np.array(list("ABCDEFGHIKLMNOPRSTUVXZ"))
    words = ["".join(rng.choice(letters, int(n))) for n in rng.integers(4, 9, 12)]
    return {
        "paper": hsv(rng.uniform(), rng.uniform(0, 0.12), rng.uniform(0.85, 0.96)),
        "ink": hsv(rng.uniform(), rng.uniform(0.1, 0.8), rng.uniform(0.08, 0.4)),
        "accent": hsv(rng.uniform(), rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.8)),
        "words": words,
        "bars": rng.choice([0.004, 0.008, 0.012], 56),
        "ground": _ground_colour(rng),
        "top": bool(rng.integers(0, 2)),
    }


def _label(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    coverage = inside(_box(y - 0.5, x - 0.5, 0.4, 0.42, 0.025), size)
    banner_y = 0.2 if style["top"] else 0.8
    banner = inside(_box(y - banner_y, x - 0.5, 0.07, 0.38, 0.012), size)
    paper = style["paper"] * (1 + 0.012 * fractal(rng, size, (size / 3, size / 3), 2))[..., None]
    offset = rng.normal(0, 0.002, 2)
    sign = 1 if style["top"] else -1
    ink = np.zeros((size, size), np.float32)
    for i in range(4):
        line = f"{style['words'][2 * i]} {style['words'][2 * i + 1]}"
        at = (banner_y + sign * (0.14 + 0.068 * i) + offset[0], 0.5 + offset[1])
        ink = np.maximum(ink, text_mask(size, line, at, 0.034, 0.005))
    edges = 0.18 + np.cumsum(style["bars"]) + offset[1]
    bar = np.searchsorted(edges, x.ravel()).reshape(size, size) % 2 == 1
    far = banner_y + sign * 0.51
    code = (np.abs(y - far) < 0.085) & (x > 0.18) & (x < min(0.82, float(edges[-1])))
    ink = np.maximum(ink, (bar & code).astype(np.float32))
    title = text_mask(size, style["words"][9][:6], (banner_y, 0.5), 0.07, 0.01)
    face = mix(mix(paper, style["ink"], 0.95 * ink), style["accent"], banner * 0.95)
    face = mix(face, style["paper"], title)
    return _place(_table(rng, size, style["ground"]), face, coverage, 0.3)


def _part_style(rng: Rng) -> Style:
    return {
        "colour": hsv(rng.uniform(), rng.uniform(0.05, 0.75), rng.uniform(0.3, 0.85)),
        "half": (rng.uniform(0.26, 0.38), rng.uniform(0.3, 0.4)),
        "corner": rng.uniform(0.03, 0.14),
        "hole": rng.uniform(0.025, 0.045),
        "boss": rng.uniform(0.07, 0.12),
        "ribs": int(rng.integers(0, 5)),
        "ground": _ground_colour(rng),
    }


def _part(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    oy, ox = y - 0.5 - rng.normal(0, 0.005), x - 0.5 - rng.normal(0, 0.005)
    half_y, half_x = style["half"]
    body = _box(oy, ox, half_y, half_x, style["corner"])
    hole_at = np.hypot(np.abs(oy) - half_y + 0.08, np.abs(ox) - half_x + 0.08) - style["hole"]
    distance = np.maximum(body, -hole_at)
    coverage = inside(distance.astype(np.float32), size)

    def step(d: Array, tall: float, wide: float = 0.016) -> Array:
        t = np.clip(0.5 - d / wide, 0, 1)
        return np.asarray(tall * t * t * (3 - 2 * t), np.float32)

    radius = np.hypot(oy, ox)
    height = step(body + 0.012, 0.02) - step(body + 0.045, 0.012)
    height = height + step(hole_at - 0.018, 0.012)
    height = (
        height
        + step(np.abs(radius - style["boss"]) - 0.014, 0.016)
        - step(radius - style["boss"] * 0.6, 0.008)
    )
    for i in range(style["ribs"]):
        rib = _box(oy, ox - (i - (style["ribs"] - 1) / 2) * 0.1, half_y - 0.09, 0.008, 0.006)
        height = np.maximum(height, step(rib, 0.016) + 0.008 * (rib < 0))
    grain = 0.00025 * fractal(rng, size, (size / 3, size / 3), 2)
    albedo = np.broadcast_to(_tint(rng, style["colour"]), (size, size, 3))
    surface = blur(height.astype(np.float32), 0.003 * size) + grain
    thing = shade(albedo.astype(np.float32), surface.astype(np.float32), 0.9, 0.3, 16)
    return _place(_table(rng, size, style["ground"]), thing, coverage, 0.5)


def _tablet_style(rng: Rng) -> Style:
    return {
        "count": int(rng.integers(1, 4)),
        "colour": hsv(rng.uniform(), rng.uniform(0.02, 0.35), rng.uniform(0.8, 0.95)),
        "fleck": hsv(rng.uniform(), 0.6, 0.55),
        "flecks": rng.uniform(1.8, 3.0),
        "score": bool(rng.integers(0, 2)),
        "ground": _ground_colour(rng) * 0.8,
        "size": rng.uniform(0.36, 0.42),
    }


def _tablet(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    count = style["count"]
    pitch = 0.84 / count
    v, u = (y - 0.08) / pitch, (x - 0.08) / pitch
    row, column = np.clip(np.floor(v), 0, count - 1), np.clip(np.floor(u), 0, count - 1)
    jitter = rng.normal(0, 0.01, (2, 4, 4))
    r, c = row.astype(int), column.astype(int)
    oy, ox = v - row - 0.5 - jitter[0][r, c], u - column - 0.5 - jitter[1][r, c]
    distance = np.hypot(oy, ox) - style["size"]
    coverage = inside((distance * pitch).astype(np.float32), size)
    rim = np.clip(-distance / 0.1, 0, 1)
    height = 0.09 * np.sqrt(np.clip(1 - (1 - rim) ** 2, 0, 1))
    if style["score"]:
        turn = rng.uniform(0, np.pi, (4, 4))[r, c] if count > 1 else np.full_like(y, 0.4)
        height = height - 0.03 * np.exp(-(((oy * np.cos(turn) + ox * np.sin(turn)) / 0.02) ** 2))
    speck = blur((fractal(rng, size, (70, 70), 2) > style["flecks"]).astype(np.float32), 0.8)
    chalk = 1 + 0.015 * fractal(rng, size, (size / 3, size / 3), 2)
    albedo = mix(_tint(rng, style["colour"]), style["fleck"], 0.5 * speck) * chalk[..., None]
    thing = shade(albedo.astype(np.float32), (height * pitch).astype(np.float32), 0.7, 0.05, 10)
    return _place(_table(rng, size, style["ground"]), thing, coverage, 0.5)


def _gear_style(rng: Rng) -> Style:
    return {
        "teeth": int(rng.integers(14, 30)),
        "outer": rng.uniform(0.36, 0.4),
        "tooth": rng.uniform(0.03, 0.05),
        "bore": rng.uniform(0.06, 0.1),
        "holes": int(rng.choice([0, 4, 5, 6])),
        "metal": hsv(
            float(rng.choice([0.1, 0.12, 0.6])), rng.uniform(0, 0.45), rng.uniform(0.45, 0.75)
        ),
        "ground": _ground_colour(rng),
    }


def _gear(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    oy, ox = y - 0.5 - rng.normal(0, 0.005), x - 0.5 - rng.normal(0, 0.005)
    radius = np.hypot(oy, ox)
    angle = np.arctan2(oy, ox) + rng.uniform(0, 0.08)
    tooth = np.clip(1.8 * np.cos(angle * style["teeth"]), -1, 1) * style["tooth"] / 2
    distance = radius - (style["outer"] - style["tooth"] / 2 + tooth)
    distance = np.maximum(distance, style["bore"] - radius)
    web = (style["outer"] - style["tooth"] + style["bore"]) / 2
    if style["holes"]:
        sector = 2 * np.pi / style["holes"]
        local = (angle + sector / 2) % sector - sector / 2
        hole = np.hypot(radius * np.cos(local) - web, radius * np.sin(local)) - 0.05
        distance = np.maximum(distance, -hole)
    coverage = inside(distance.astype(np.float32), size)
    recess = np.clip((np.abs(radius - web) - 0.08) / 0.012, 0, 1)
    height = 0.012 * np.clip(-distance / 0.012, 0, 1) + 0.01 * recess
    cast = fractal(rng, size, (60, 60), 3, 0.8)
    albedo = _tint(rng, style["metal"], 0.008) * (1 + 0.035 * cast * (1.2 - recess))[..., None]
    thing = shade(albedo.astype(np.float32), blur(height.astype(np.float32), 0.8), 0.9, 0.4, 12)
    return _place(_table(rng, size, style["ground"]), thing, coverage, 0.55)


def _biscuit_style(rng: Rng) -> Style:
    hue = rng.uniform(0.06, 0.1)
    return {
        "dough": hsv(hue, rng.uniform(0.35, 0.6), rng.uniform(0.6, 0.85)),
        "square": bool(rng.integers(0, 2)),
        "waves": int(rng.integers(16, 32)),
        "holes": int(rng.integers(3, 6)),
        "chips": bool(rng.integers(0, 2)),
        "ground": _ground_colour(rng),
    }


def _biscuit(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    oy, ox = y - 0.5 - rng.normal(0, 0.005), x - 0.5 - rng.normal(0, 0.005)
    ripple = 0.008 * np.cos(np.arctan2(oy, ox) * style["waves"])
    base = _box(oy, ox, 0.36, 0.36, 0.08) if style["square"] else np.hypot(oy, ox) - 0.38
    distance = (base + ripple + 0.003 * fractal(rng, size, (8, 8), 3)).astype(np.float32)
    coverage = inside(distance, size)
    bumps = fractal(rng, size, (14, 14), 4, 0.6)
    height = 0.03 * np.sqrt(np.clip(-distance / 0.08, 0, 1)) + 0.0016 * bumps
    tone = 1 + 0.05 * bumps - 0.3 * np.clip(1 + distance / 0.06, 0, 1)
    albedo = _tint(rng, style["dough"]) * tone[..., None]
    if style["chips"]:
        for cy, cx in rng.uniform(-0.24, 0.24, (14, 2)):
            warped = np.hypot(oy - cy, ox - cx) - rng.uniform(0.016, 0.03) + 0.004 * bumps
            dot = inside(warped.astype(np.float32), size, 2)
            albedo = mix(albedo, np.array([0.2, 0.11, 0.07], np.float32), dot)
            height = height + 0.006 * dot
    else:
        pitch = 0.5 / style["holes"]
        gy = oy / pitch - np.round(oy / pitch)
        gx = ox / pitch - np.round(ox / pitch)
        prick = inside((np.hypot(gy, gx) * pitch - 0.012).astype(np.float32), size, 3)
        prick = prick * (np.maximum(np.abs(oy), np.abs(ox)) < 0.25)
        height, albedo = height - 0.012 * blur(prick, 1.0), albedo * (1 - 0.45 * prick)[..., None]
    thing = shade(albedo.astype(np.float32), height.astype(np.float32), 0.8)
    return _place(_table(rng, size, style["ground"]), thing, coverage, 0.5)


def _cable_style(rng: Rng) -> Style:
    start = rng.uniform()
    return {
        "sheath": hsv(rng.uniform(), rng.uniform(0, 0.3), rng.uniform(0.25, 0.85)),
        "cores": [
            hsv(start + i * rng.uniform(0.25, 0.4), 0.65, rng.uniform(0.4, 0.8)) for i in range(4)
        ],
        "count": int(rng.choice([2, 3, 3, 4])),
        "turn": rng.uniform(0, np.pi),
        "ground": _ground_colour(rng),
    }


def _cable(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    dy, dx = _wander(rng, size, 0.002)
    oy, ox = y + dy - 0.5, x + dx - 0.5
    radius = np.hypot(oy, ox)
    coverage = inside(radius - 0.4, size)
    thing = np.broadcast_to(_tint(rng, style["sheath"]), (size, size, 3)).astype(np.float32)
    height = 0.014 * np.clip((0.4 - radius) / 0.02, 0, 1) - 0.02 * np.clip(
        (0.34 - radius) / 0.015, 0, 1
    )
    thing = thing * (1 - 0.45 * inside(radius - 0.335, size, 3))[..., None]
    count = style["count"]
    core, at = {2: 0.155, 3: 0.145, 4: 0.128}[count], {2: 0.165, 3: 0.172, 4: 0.187}[count]
    strand = 0.02
    for i in range(count):
        turn = style["turn"] + 2 * np.pi * i / count + rng.normal(0, 0.02)
        cy, cx = oy - at * np.sin(turn), ox - at * np.cos(turn)
        r = np.hypot(cy, cx)
        cover = inside(r - core, size)
        thing = mix(thing, style["cores"][i], cover)
        height = height * (1 - cover) + cover * 0.016 * np.clip((core - r) / 0.02, 0, 1)
        copper = inside(r - core * 0.62, size)
        phase = rng.uniform(0, 1, 2)
        v = cy / (strand * 0.87) + phase[0]
        row = np.round(v)
        u = cx / strand + 0.5 * (row % 2) + phase[1]
        wire = np.sqrt(np.clip(1 - 3.6 * ((v - row) ** 2 + (u - np.round(u)) ** 2), 0, 1))
        metal = np.array([0.85, 0.55, 0.36], np.float32) * (0.25 + 0.8 * wire)[..., None]
        thing = mix(thing, metal, copper)
        height = height * (1 - copper) + copper * 0.008 * wire
    thing = thing * (1 + 0.02 * fractal(rng, size, (size / 3, size / 3), 2))[..., None]
    thing = shade(thing.astype(np.float32), height.astype(np.float32), 0.8, 0.2, 14)
    return _place(_table(rng, size, style["ground"]), thing, coverage, 0.5)


def _keypad_style(rng: Rng) -> Style:
    return {
        "columns": int(rng.integers(3, 5)),
        "key": hsv(rng.uniform(), rng.uniform(0, 0.4), float(rng.choice([0.2, 0.35, 0.8, 0.9]))),
        "plate": hsv(rng.uniform(), rng.uniform(0, 0.3), rng.uniform(0.2, 0.6)),
        "corner": rng.uniform(0.05, 0.3),
        "legends": list(rng.permutation(list("1234567890ABCDEF"))),
    }


def _keypad(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    n = style["columns"]
    pitch = 0.92 / n
    v, u = (y - 0.04) / pitch, (x - 0.04) / pitch
    row, column = np.clip(np.floor(v), 0, n - 1), np.clip(np.floor(u), 0, n - 1)
    distance = _box(v - row - 0.5, u - column - 0.5, 0.4, 0.4, style["corner"]) * pitch
    key = inside(distance, size)
    rough = 1 + 0.02 * fractal(rng, size, (size / 3, size / 3), 2)
    albedo = mix(_tint(rng, style["plate"]), _tint(rng, style["key"]), key) * rough[..., None]
    legend = np.float32(0.1 if float(style["key"].max()) > 0.5 else 0.9)
    for i in range(n * n):
        at = (0.04 + pitch * (i // n + 0.5), 0.04 + pitch * (i % n + 0.5))
        albedo = mix(
            albedo, legend, text_mask(size, str(style["legends"][i]), at, 0.3 * pitch, 0.008)
        )
    dish = np.hypot(v - row - 0.5, u - column - 0.5)
    height = 0.02 * np.clip(-distance / 0.02, 0, 1) + 0.02 * pitch * dish**2 * key
    gap = blur(np.roll(key, round(0.012 * size), (0, 1)), 0.008 * size) * (1 - key)
    albedo = albedo * (1 - 0.5 * gap)[..., None]
    picture = shade(albedo.astype(np.float32), height.astype(np.float32), 0.8, 0.25, 16)
    return picture, _everywhere(size)


def _panel_style(rng: Rng) -> Style:
    hue = rng.uniform()
    marks = []
    for _ in range(int(rng.integers(8, 26))):
        kind = str(rng.choice(["box", "disc", "ring", "line", "polygon", "text"]))
        marks.append(
            {
                "kind": kind,
                "at": rng.uniform(0.08, 0.92, 2),
                "reach": rng.uniform(0.03, 0.16),
                "turn": float(rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])),
                "ratio": rng.uniform(0.25, 1),
                "corners": np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7)))),
                "word": "".join(rng.choice(list("ABCDEFGHKLMNPRSTUXZ0123456789"), 4)),
                "ink": hsv(hue + rng.normal(0, 0.25), rng.uniform(0, 0.9), rng.uniform(0.05, 0.95)),
                "raised": float(rng.choice([0, 0, 0.004, 0.008])),
            }
        )
    return {
        "ground": hsv(hue, rng.uniform(0, 0.6), rng.uniform(0.15, 0.95)),
        "marks": marks,
        "rows": int(rng.choice([0, 0, 6, 10, 16])),
        "rule": hsv(hue + 0.5, rng.uniform(0, 0.6), rng.uniform(0.1, 0.9)),
        "grain": rng.uniform(0.005, 0.03),
    }


def _panel(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    grain = 1 + style["grain"] * fractal(rng, size, (size / 3, size / 3), 2)
    albedo = np.broadcast_to(_tint(rng, style["ground"]), (size, size, 3)).astype(np.float32)
    if style["rows"]:
        ruled = np.abs(y * style["rows"] - np.round(y * style["rows"])) / style["rows"]
        albedo = mix(albedo, style["rule"], 0.6 * inside(ruled - 0.002, size))
    height = np.zeros((size, size), np.float32)
    for mark in style["marks"]:
        cy, cx = mark["at"] + rng.normal(0, 0.0015, 2)
        reach, cos, sin = mark["reach"], np.cos(mark["turn"]), np.sin(mark["turn"])
        along = (x - cx) * cos + (y - cy) * sin
        across = (y - cy) * cos - (x - cx) * sin
        radius = np.hypot(along, across)
        if mark["kind"] == "text":
            cover = text_mask(size, mark["word"], (cy, cx), 0.5 * reach + 0.02, 0.006)
        elif mark["kind"] == "polygon":
            canvas = np.zeros((size, size), np.uint8)
            corners = np.stack([np.cos(mark["corners"]), np.sin(mark["corners"])], 1) * reach
            points = np.round((corners + np.array([cx, cy])) * size * 16).astype(np.int32)
            cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, 4)
            cover = np.asarray(canvas / 255, np.float32)
        else:
            distance = {
                "box": _box(across, along, reach * mark["ratio"], reach, 0.008),
                "disc": radius - 0.6 * reach,
                "ring": np.abs(radius - 0.7 * reach) - 0.012,
                "line": np.maximum(np.abs(across) - 0.006, np.abs(along) - 2 * reach),
            }[mark["kind"]]
            cover = inside(distance, size, 1.5)
        albedo = mix(albedo, mark["ink"], 0.95 * cover)
        height = np.maximum(height, mark["raised"] * cover)
    picture = shade(albedo * grain[..., None], blur(height, 0.003 * size), 1.0, 0.2, 16)
    return picture, _everywhere(size)


def _stamping_style(rng: Rng) -> Style:
    orders = np.arange(2, 9)
    return {
        "waves": rng.normal(0, 0.16, (2, orders.size)) / orders**0.8,
        "reach": rng.uniform(0.28, 0.36),
        "holes": rng.uniform(-0.16, 0.16, (int(rng.integers(0, 5)), 2)),
        "hole": rng.uniform(0.02, 0.05),
        "colour": hsv(rng.uniform(), rng.uniform(0, 0.7), rng.uniform(0.3, 0.9)),
        "bead": rng.uniform(0.03, 0.1),
        "streaks": tuple(rng.choice([3.0, 12.0, 60.0], 2)),
        "rough": rng.uniform(0.01, 0.06),
        "gloss": rng.uniform(0, 0.4),
        "ground": _ground_colour(rng),
    }


def _stamping(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    oy, ox = y - 0.5 - rng.normal(0, 0.005), x - 0.5 - rng.normal(0, 0.005)
    angle = np.arctan2(oy, ox)
    bound = np.ones((size, size), np.float32)
    for i, (c, s) in enumerate(style["waves"].T):
        bound += (c * np.cos((i + 2) * angle) + s * np.sin((i + 2) * angle)).astype(np.float32)
    distance = np.hypot(oy, ox) - style["reach"] * np.clip(bound, 0.45, 1.3)
    outline = distance
    for cy, cx in style["holes"]:
        distance = np.maximum(distance, style["hole"] - np.hypot(oy - cy, ox - cx))
    coverage = inside(distance.astype(np.float32), size)
    grain = fractal(rng, size, style["streaks"], 4, 0.7)
    bead = np.exp(-(((outline + style["bead"]) / 0.015) ** 2))
    height = 0.01 * np.clip(-distance / 0.015, 0, 1) + 0.006 * bead
    albedo = _tint(rng, style["colour"]) * (1 + style["rough"] * grain)[..., None]
    surface = blur(height.astype(np.float32), 0.003 * size)
    thing = shade(albedo.astype(np.float32), surface, 0.9, style["gloss"], 14)
    return _place(_table(rng, size, style["ground"]), thing, coverage, 0.5)


def _embossed_style(rng: Rng) -> Style:
    count = int(rng.integers(1, 4))
    return {
        "waves": [
            (float(rng.integers(3, 24)), float(rng.integers(-12, 12)), rng.uniform(0, 6.28))
            for _ in range(count)
        ],
        "sharp": rng.uniform(0.5, 4),
        "relief": rng.uniform(0.1, 0.6),
        "low": hsv(rng.uniform(), rng.uniform(0, 0.6), rng.uniform(0.2, 0.9)),
        "high": hsv(rng.uniform(), rng.uniform(0, 0.6), rng.uniform(0.2, 0.9)),
        "contrast": rng.uniform(0.0, 0.7),
        "gloss": rng.uniform(0, 0.4),
        "grain": rng.uniform(0.005, 0.05),
        "upright": bool(rng.integers(0, 2)),
    }


def _embossed(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    dy, dx = _wander(rng, size, 0.0015)
    y, x = y + dy, x + dx
    if style["upright"]:
        y, x = x, y
    waves = [np.cos(2 * np.pi * (fy * y + fx * x) + start) for fy, fx, start in style["waves"]]
    pattern = np.tanh(style["sharp"] * sum(waves) / len(waves)).astype(np.float32)
    fastest = max(np.hypot(fy, fx) for fy, fx, _ in style["waves"])
    colours = mix(
        _tint(rng, style["low"]), style["high"], style["contrast"] * (0.5 + 0.5 * pattern)
    )
    grain = 1 + style["grain"] * fractal(rng, size, (size / 2, size / 2), 2)
    height = (pattern * style["relief"] / (6 * fastest)).astype(np.float32)
    return shade(colours * grain[..., None], height, 1.0, style["gloss"], 14), _everywhere(size)


def _foam_style(rng: Rng) -> Style:
    return {
        "colour": hsv(rng.uniform(), rng.uniform(0, 0.7), rng.uniform(0.25, 0.95)),
        "bumps": rng.uniform(8, 70, 2),
        "gain": rng.uniform(0.4, 0.9),
        "relief": rng.uniform(0.0, 0.3),
        "mottle": rng.uniform(0.01, 0.14),
        "pores": rng.uniform(1.6, 3.5),
        "tone": rng.uniform(0.4, 1.4),
    }


def _foam(style: Style, rng: Rng, size: int) -> Picture:
    bumps = fractal(rng, size, tuple(style["bumps"]), 4, style["gain"])
    pores = (fractal(rng, size, tuple(1.5 * style["bumps"]), 2) > style["pores"]).astype(np.float32)
    albedo = _tint(rng, style["colour"]) * (1 + style["mottle"] * bumps)[..., None]
    albedo = mix(albedo, albedo * np.float32(style["tone"]), blur(pores, 0.002 * size))
    height = bumps * style["relief"] / (4 * float(style["bumps"].max()))
    picture = shade(np.asarray(albedo, np.float32), height.astype(np.float32), 1.0, 0.1, 12)
    return picture, _everywhere(size)


def _dial_style(rng: Rng) -> Style:
    return {
        "face": hsv(rng.uniform(), rng.uniform(0, 0.3), float(rng.choice([0.12, 0.85, 0.95]))),
        "ink": hsv(rng.uniform(), rng.uniform(0, 0.9), rng.uniform(0.3, 0.7)),
        "rim": hsv(rng.uniform(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.8)),
        "ticks": int(rng.integers(4, 13)) * 4,
        "numbers": int(rng.choice([4, 6, 8, 12])),
        "sweep": rng.uniform(0.7, 1.0) * 2 * np.pi,
        "word": "".join(rng.choice(list("ABCHKLMNPRSV"), 3)),
        "pointer": rng.uniform(0, 2 * np.pi),
        "ground": _ground_colour(rng),
    }


def _dial(style: Style, rng: Rng, size: int) -> Picture:
    y, x = grid(size)
    oy, ox = y - 0.5 - rng.normal(0, 0.004), x - 0.5 - rng.normal(0, 0.004)
    radius, angle = np.hypot(oy, ox), np.arctan2(oy, ox) + rng.normal(0, 0.02)
    coverage = inside((radius - 0.42).astype(np.float32), size)
    paper = 1 + 0.01 * fractal(rng, size, (size / 3, size / 3), 2)
    albedo = _tint(rng, style["face"]) * paper[..., None]
    ink = _tint(rng, 1 - style["face"] * 0.9 if style["face"].max() > 0.5 else style["ink"] + 0.3)
    sector = style["sweep"] / style["ticks"]
    turned = angle % (2 * np.pi)
    offset = (turned / sector - np.round(turned / sector)) * sector * radius
    tick = np.maximum(np.abs(offset) - 0.004, np.abs(radius - 0.33) - 0.022)
    tick = np.maximum(tick, turned - style["sweep"] - 0.02)
    albedo = mix(albedo, ink, inside(tick.astype(np.float32), size))
    for i in range(style["numbers"]):
        turn = i * style["sweep"] / style["numbers"]
        at = (0.5 + 0.25 * np.sin(turn), 0.5 + 0.25 * np.cos(turn))
        albedo = mix(albedo, ink, text_mask(size, str(i * 5), at, 0.045, 0.006))
    albedo = mix(albedo, ink, text_mask(size, style["word"], (0.62, 0.5), 0.05, 0.006))
    turn = style["pointer"] + rng.normal(0, 0.03)
    along, across = ox * np.cos(turn) + oy * np.sin(turn), oy * np.cos(turn) - ox * np.sin(turn)
    pointer = np.maximum(np.abs(across) - 0.012 + 0.03 * np.abs(along), np.abs(along - 0.1) - 0.16)
    pointer = np.minimum(pointer, radius - 0.035)
    albedo = mix(albedo, style["ink"], inside(pointer.astype(np.float32), size))
    rim = inside((np.abs(radius - 0.395) - 0.025).astype(np.float32), size)
    albedo = mix(albedo, _tint(rng, style["rim"]), rim)
    bulge = np.sqrt(np.clip(1 - ((radius - 0.395) / 0.03) ** 2, 0, 1))
    height = 0.014 * bulge + 0.004 * inside(pointer.astype(np.float32), size, 2)
    thing = shade(albedo.astype(np.float32), height.astype(np.float32), 1.0, 0.25, 14)
    return _place(_table(rng, size, style["ground"]), thing, coverage, 0.5)


_ALL = (
    Family("fabric", ("woven fabric", "fabric", "cloth", "textile"), _woven_style, _woven),
    Family("washer", ("metal washer", "washer", "steel ring"), _washer_style, _washer),
    Family("capsule", ("capsule", "medicine capsule", "gel capsule"), _capsule_style, _capsule),
    Family(
        "circuit_board",
        ("circuit board", "printed circuit board", "electronic board"),
        _circuit_style,
        _circuit,
    ),
    Family("tile", ("tile", "ceramic tile", "marble tile"), _tile_style, _tile),
    Family(
        "brushed_metal", ("brushed metal", "metal plate", "steel sheet"), _brushed_style, _brushed
    ),
    Family("wood", ("wood", "wooden board", "wood surface"), _wood_style, _wood),
    Family("leather", ("leather", "leather surface", "hide"), _leather_style, _leather),
    Family("wire_mesh", ("wire mesh", "metal grid", "wire screen"), _mesh_style, _mesh),
    Family("granules", ("granules", "beads", "grains"), _granule_style, _granules),
    Family("granite", ("granite", "stone", "stone surface"), _granite_style, _granite),
    Family(
        "perforated_sheet", ("perforated sheet", "perforated metal"), _perforated_style, _perforated
    ),
    Family("carpet", ("carpet", "rug", "pile carpet"), _carpet_style, _carpet),
    Family("cardboard", ("cardboard", "corrugated cardboard"), _cardboard_style, _cardboard),
    Family("brick", ("brick wall", "bricks", "masonry"), _brick_style, _brick),
    Family("label", ("printed label", "label", "sticker"), _label_style, _label),
    Family("moulded_part", ("plastic part", "moulded part", "plastic housing"), _part_style, _part),
    Family("tablet", ("tablet", "pill", "medicine pill"), _tablet_style, _tablet),
    Family("gear", ("gear", "gear wheel", "cogwheel"), _gear_style, _gear),
    Family("biscuit", ("biscuit", "cookie"), _biscuit_style, _biscuit),
    Family("cable", ("cable", "cable cross-section", "electric cable"), _cable_style, _cable),
    Family("keypad", ("keypad", "keyboard", "push buttons"), _keypad_style, _keypad),
    Family("front_panel", ("front panel", "control panel", "poster"), _panel_style, _panel),
    Family("stamping", ("stamped part", "sheet metal part", "bracket"), _stamping_style, _stamping),
    Family("embossed_sheet", ("embossed sheet", "foil"), _embossed_style, _embossed),
    Family("foam", ("foam", "sponge", "plaster"), _foam_style, _foam),
    Family("dial", ("dial", "gauge", "meter"), _dial_style, _dial),
)

FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
DEMO_FAMILIES: tuple[str, ...] = ("fabric", "washer", "capsule", "circuit_board", "tile")
"""Families of the demo data set, held out of training."""
TRAIN_FAMILIES: tuple[str, ...] = tuple(name for name in FAMILIES if name not in DEMO_FAMILIES)
"""Families that a model of the demo may be trained on."""
