"""Colours of all plots, and the style of those that matplotlib draws."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LayoutName = Literal["constrained"] | None

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
GOOD, ANOMALOUS, INK, FAINT = "#2a7fb8", "#d1495b", "#1f2933", "#c9d1d9"
GRID, TICKS, MUTED = "#edf0f3", "#52606d", "#7b8794"
_STYLE: dict[str, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "font.sans-serif": ["DejaVu Sans", "Arial"],
    "font.size": 9,
    "grid.color": GRID,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": TICKS,
    "ytick.color": TICKS,
}


@contextmanager
def own_style() -> Iterator[None]:
    """Draw in our style whatever the user's own settings are; glyphs a font lacks become boxes."""
    from matplotlib import style

    with warnings.catch_warnings(), style.context(["default", _STYLE]):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width: float, height: float, layout: LayoutName = None) -> Figure:
    """Make a figure (inches) that never meets a window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout=layout)


def new_axes(
    width: float, height: float, count: int, *, left: float, bottom: float, shared: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """Make a figure with axes side by side; sizes in inches.

    Their places are given: matplotlib would measure every text twice to find them.

    Args:
        left: room before each of the axes; only before the first, if ``shared``.
        bottom: room below them.
        shared: whether they share their ordinate.
    """
    figure = new_figure(width, height)
    # the last tick of axes of their own is wider than they are
    right, gap = (0.04, 0.15) if shared else (0.18, left + 0.14)
    column = (width - left - right - (count - 1) * gap) / count
    axes = figure.subplots(
        1, count, sharey=shared,
        gridspec_kw={
            "left": left / width, "right": 1 - right / width, "bottom": bottom / height,
            "top": 1 - 0.23 / height, "wspace": gap / column,
        },
    )  # fmt: skip
    return figure, axes


def write_png(figure: Figure, file: Path) -> None:
    """Write a figure as PNG that names no program and no time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # savefig would lay the figure out and draw it a second time
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def unit_square(axes: Axes) -> None:
    """Let both axes go from 0 to 1."""
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))


def write_in_middle(axes: Axes, text: str) -> None:
    """Write into the middle of axes why they are empty."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=axes.transAxes)
