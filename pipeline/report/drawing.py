"""What all plots share: style, colours, empty figures, axes from 0 to 1."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LayoutName = Literal["constrained"] | None

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
GOOD, ANOMALOUS, INK, FAINT = "#2a7fb8", "#d1495b", "#1f2933", "#c9d1d9"
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
    "grid.color": "#edf0f3",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fade",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
}


@contextmanager
def own_style() -> Iterator[None]:
    """Draw in our style whatever the user's own settings are; glyphs a font lacks become boxes."""
    from matplotlib import style

    with warnings.catch_warnings(), style.context(["default", _STYLE]):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width: float, height: float, layout: LayoutName = "constrained") -> Figure:
    """Make a figure (inches) that never meets a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def unit_square(axes: Axes) -> None:
    """Let both axes go from 0 to 1."""
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))


def write_in_middle(axes: Axes, text: str) -> None:
    """Write into the middle of axes why they are empty."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color="#7b8794", transform=axes.transAxes)
