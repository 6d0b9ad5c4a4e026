"""A small plot as SVG text: two axes, lines, areas, histograms, a legend.

The page holds five such plots for each category, and the files for ``dvc plots`` hold more. They are
written straight away, since a drawing library takes a tenth of a second for each and three times the
bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.report.drawing import FAINT, GRID, INK, MUTED, TICKS

WIDTH, HEIGHT = 230.4, 194.4
LEFT, RIGHT, TOP, BOTTOM = 39.2, 218.9, 21.4, 161.4
"""The frame in points: one place for all, so that plots side by side line up."""
FONT = "'DejaVu Sans', Arial, sans-serif"
DASHED = (3.7, 1.6)
"""Lengths of dash and gap in units of a line's width."""
_CHARACTER = 0.62
"""Mean width of a character in units of the font's size."""

Dashes = Sequence[float]
"""Lengths of dashes and gaps in turn, in units of a line's width; none of a whole line."""


class Axes:
    """The axes of a plot, which marks are drawn on and which become SVG text.

    Args:
        title: above the frame.
        across: what the abscissa shows.
        up: what the ordinate shows.
        x: its ends on the abscissa.
        y: its ends on the ordinate, both above 0 if ``log``.
        log: whether the ordinate is logarithmic.
    """

    def __init__(
        self,
        title: str,
        across: str,
        up: str,
        x: tuple[float, float] = (0, 1),
        y: tuple[float, float] = (0, 1),
        *,
        log: bool = False,
    ) -> None:
        self._x, self._y, self._scale = x, y, np.log10 if log else np.asarray
        self.title, self._across, self._up = title, across, up
        self._behind: list[str] = []
        self._marks: list[str] = []
        self._legend: list[tuple[str, str]] = []
        self._indent = 0.0

    def x_ticks(self, ticks: Sequence[tuple[float, str]]) -> None:
        """Mark and name places on the abscissa, or only some where the names are long."""
        while sum(text_width(name, 9) + 4 for _, name in ticks) > RIGHT - LEFT + 20:
            ticks = ticks[::2]
        for at, name in ticks:
            (x,) = self._columns([at])
            self._behind += [
                _path(f"M{x:.1f} {BOTTOM}V{TOP}", GRID, 0.8),
                _path(f"M{x:.1f} {BOTTOM}v3.5", TICKS, 0.8),
                write_text(x, BOTTOM + 13.7, name, colour=TICKS, anchor="middle"),
            ]

    def y_ticks(self, ticks: Sequence[tuple[float, str]]) -> None:
        """Mark and name places on the ordinate."""
        for at, name in ticks:
            (y,) = self._rows([at])
            self._behind += [
                _path(f"M{LEFT} {y:.1f}H{RIGHT}", GRID, 0.8),
                _path(f"M{LEFT} {y:.1f}h-3.5", TICKS, 0.8),
                write_text(LEFT - 7, y + 3.3, name, colour=TICKS, anchor="end"),
            ]
            self._indent = max(self._indent, text_width(name, 9))

    def line(
        self,
        across: ArrayLike,
        up: ArrayLike,
        colour: str,
        width: float = 1.6,
        dashes: Dashes = (),
    ) -> None:
        """Join points by a line."""
        self._marks.append(_path("M" + self._points(across, up), colour, width, dashes=dashes))

    def dots(
        self, across: ArrayLike, up: ArrayLike, around: NDArray[np.float64], colour: str
    ) -> None:
        """Mark points (N,), each with a line as far up and down as ``around`` (N,) says."""
        up = np.asarray(up, dtype=np.float64)
        places = (self._columns(across), *map(self._rows, (up, up + around, up - around)))
        for x, y, high, low in zip(*places, strict=True):
            ends = "".join(f"M{x - 2.5:.1f} {end:.1f}h5" for end in (low, high))
            self._marks.append(_path(f"M{x:.1f} {low:.1f}V{high:.1f}{ends}", colour, 1))
            self._marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>')

    def area(self, across: ArrayLike, up: ArrayLike, colour: str) -> None:
        """Tint what lies below points (N,)."""
        columns = self._columns(across)
        if len(columns):
            path = f"M{columns[0]:.1f} {BOTTOM}L{self._points(across, up)}V{BOTTOM}z"
            self._marks.append(f'<path d="{path}" fill="{colour}" fill-opacity=".12"/>')

    def band(self, across: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str) -> None:
        """Tint what lies between two rows of points (N,)."""
        back = self._points(np.asarray(across)[::-1], np.asarray(low)[::-1])
        path = f"M{self._points(across, high)}L{back}z"
        self._marks.append(f'<path d="{path}" fill="{colour}" fill-opacity=".25"/>')

    def stairs(
        self, heights: ArrayLike, edges: NDArray[np.float64], colour: str, name: str
    ) -> None:
        """Draw a histogram of heights (N,) between edges (N + 1,), with a line in the legend."""
        rows, columns = self._rows(heights), self._columns(edges)
        steps = "".join(f"V{y:.1f}H{x:.1f}" for y, x in zip(rows, columns[1:], strict=True))
        path = f"M{columns[0]:.1f} {BOTTOM}{steps}V{BOTTOM}"
        self._marks.append(_path(path, colour, 1, fill=colour))
        self._legend.append((name, colour))

    def rule(self, at: float) -> None:
        """Draw a dashed upright line, which ends below the legend."""
        (x,) = self._columns([at])
        top = BOTTOM - 0.84 * (BOTTOM - TOP)
        self._marks.append(_path(f"M{x:.1f} {BOTTOM}V{top:.1f}", INK, 1.2, dashes=DASHED))

    def level(self, at: float) -> None:
        """Draw a faint dashed line across."""
        self.line(self._x, (at, at), FAINT, 1, DASHED)

    def say(self, text: str) -> None:
        """Write into the middle why there is nothing to see."""
        lines = text.splitlines()
        for number, line in enumerate(lines):
            y = (TOP + BOTTOM) / 2 + 3 + 12 * (number - (len(lines) - 1) / 2)
            middle = (LEFT + RIGHT) / 2
            self._marks.append(write_text(middle, y, line, colour=MUTED, anchor="middle"))

    def svg(self, x: float | None = None) -> str:
        """The plot as SVG text; equal marks give equal text.

        Args:
            x: where it stands within another drawing.
        """
        middle, height = (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2
        beside = max(LEFT - 12 - self._indent, 9.0)
        parts = [
            _opened(WIDTH, HEIGHT, x),
            f'<clipPath id="frame"><path d="M{LEFT} {TOP}H{RIGHT}V{BOTTOM}H{LEFT}z"/></clipPath>',
            *self._behind,
            '<g clip-path="url(#frame)">', *self._marks, "</g>",
            _path(f"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}", FAINT, 0.8),
            f'<text x="{LEFT}" y="{TOP - 6:.1f}" font-size="10" font-weight="bold">'
            f"{escape(self.title)}</text>",
            write_text(middle, BOTTOM + 26.7, self._across, anchor="middle"),
            f'<text transform="translate({beside:.1f} {height:.1f}) rotate(-90)" '
            f'text-anchor="middle">{escape(self._up)}</text>',
            *self._key(),
            "</svg>\n",
        ]  # fmt: skip
        return "\n".join(parts)

    def _key(self) -> list[str]:
        widths = [15 + text_width(name, 8) for name, _ in self._legend]
        x = (LEFT + RIGHT - sum(widths) - 10 * (len(widths) - 1)) / 2
        parts = []
        for (name, colour), width in zip(self._legend, widths, strict=True):
            parts += [
                f'<path d="M{x:.1f} {TOP + 6.5:.1f}h10v6h-10z" fill="{colour}" fill-opacity=".3" '
                f'stroke="{colour}"/>',
                f'<text x="{x + 14:.1f}" y="{TOP + 12.5:.1f}" font-size="8">{escape(name)}</text>',
            ]
            x += width + 10
        return parts

    def _columns(self, across: ArrayLike) -> NDArray[np.float64]:
        low, high = self._x
        at = np.asarray(across, dtype=np.float64)
        return LEFT + (RIGHT - LEFT) * (at - low) / (high - low)

    def _rows(self, up: ArrayLike) -> NDArray[np.float64]:
        low, high = self._scale(np.asarray(self._y, dtype=np.float64))
        # below the frame nothing is drawn, and a logarithm needs a number above 0
        at = self._scale(np.maximum(np.asarray(up, dtype=np.float64), self._y[0]))
        return BOTTOM - (BOTTOM - TOP) * (at - low) / (high - low)

    def _points(self, across: ArrayLike, up: ArrayLike) -> str:
        pairs = zip(self._columns(across), self._rows(up), strict=True)
        return " ".join(f"{x:.1f} {y:.1f}" for x, y in pairs)


def round_ticks(
    low: float, high: float, most: int, *, whole: bool = False
) -> tuple[list[tuple[float, str]], str]:
    """Round numbers between two, with their names, and the power of ten that the names leave out.

    Args:
        low: least number.
        high: largest number, above ``low``.
        most: largest number of steps.
        whole: whether only whole numbers are asked for.

    Returns:
        numbers and names; and ``" · 1e5"``, or nothing where the numbers are near 1.

    >>> round_ticks(0.31, 0.82, 5)
    ([(0.4, '0.4'), (0.6, '0.6'), (0.8, '0.8')], '')
    >>> round_ticks(0, 3e6, 3)
    ([(0.0, '0'), (1000000.0, '1'), (2000000.0, '2'), (3000000.0, '3')], ' · 1e6')
    """
    size = math.floor(math.log10(max(abs(low), abs(high))))
    power = size if not -3 <= size <= 3 else 0
    rough = (high - low) / most
    ten = 10.0 ** math.floor(math.log10(rough))
    factors = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(factor * ten for factor in factors if factor * ten >= rough * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    places = max(0, power - math.floor(math.log10(step)) + (round(step / ten, 6) == 2.5))
    found = [(float(f"{n * step:.12g}"), f"{n * step / 10.0**power:.{places}f}") for n in numbers]
    return found, f" \u00b7 1e{power}" if power else ""


def drawing(width: float, height: float, *marks: str) -> str:
    """Marks as SVG text on white ground of so many points."""
    ground = f'<path d="M0 0H{width:.1f}V{height:.1f}H0z" fill="#fff"/>'
    return "\n".join([_opened(width, height), ground, *marks, "</svg>\n"])


def _opened(width: float, height: float, x: float | None = None) -> str:
    # within another drawing a length has no unit: it is in that drawing's points
    unit, place = ("pt", "") if x is None else ("", f' x="{x:.1f}"')
    width, height = round(width, 1), round(height, 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg"{place} width="{width}{unit}" height="{height}{unit}" '
        f'viewBox="0 0 {width} {height}" font-family="{FONT}" font-size="9" fill="{INK}" '
        'stroke-linejoin="round">'
    )


def line_key(
    names: Sequence[str], styles: Sequence[tuple[str, Dashes]], width: float
) -> tuple[list[str], float]:
    """A legend of lines, each with its colour and dashes, in columns of equal width; and its height."""
    column = 40 + max((text_width(name, 8) for name in names), default=0)
    columns = max(1, int((width - 16) / column))
    marks = []
    for number, (name, (colour, dashes)) in enumerate(zip(names, styles, strict=True)):
        row, place = divmod(number, columns)
        x, y = 8 + place * column, 8 + 13 * row
        marks.append(_path(f"M{x:.1f} {y}h20", colour, 1.5, dashes=dashes))
        marks.append(f'<text x="{x + 25:.1f}" y="{y + 3}" font-size="8">{escape(name)}</text>')
    return marks, 13.0 * -(-len(names) // columns) + 8


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in points as its font's size is."""
    return _CHARACTER * size * len(text)


def _path(
    path: str, colour: str, width: float, *, dashes: Dashes = (), fill: str | None = None
) -> str:
    lengths = " ".join(f"{length * width:.1f}" for length in dashes)
    pattern = f' stroke-dasharray="{lengths}"' if dashes else ""
    inside = f'"{fill}" fill-opacity=".3"' if fill else '"none"'
    return f'<path d="{path}" fill={inside} stroke="{colour}" stroke-width="{width}"{pattern}/>'


def write_text(x: float, y: float, text: str, *, colour: str = INK, anchor: str = "start") -> str:
    """A line of text of 9 points, which ``anchor`` (start, middle or end) lays at a place."""
    tint = "" if colour == INK else f' fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{tint}>{escape(text)}</text>'
