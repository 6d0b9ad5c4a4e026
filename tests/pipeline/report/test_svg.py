"""The axes of the page's plots: where marks lie, and which ticks are named."""

from __future__ import annotations

import doctest
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pipeline.report import svg
from pipeline.report.svg import BOTTOM, LEFT, RIGHT, TOP, Axes, round_ticks


def test_examples() -> None:
    assert doctest.testmod(svg).failed == 0


@pytest.mark.parametrize(
    ("low", "high", "names", "power"),
    [
        (0, 1, ["0.00", "0.25", "0.50", "0.75", "1.00"], ""),
        (-0.1, 0.11, ["-0.10", "-0.05", "0.00", "0.05", "0.10"], ""),
        (2e5, 8e5, ["2", "4", "6", "8"], " · 1e5"),
        (1e-6, 3e-6, ["1.0", "1.5", "2.0", "2.5", "3.0"], " · 1e-6"),
    ],
)
def test_ticks_are_round(low: float, high: float, names: list[str], power: str) -> None:
    ticks, left_out = round_ticks(low, high, 4 if high != 0.11 else 5)
    assert [name for _, name in ticks] == names
    assert left_out == power
    factor = float(power.removeprefix(" · ") or 1)
    for at, name in ticks:
        assert at == pytest.approx(float(name) * factor)
        assert low - abs(low) * 1e-9 <= at <= high * (1 + 1e-9)


def test_counts_have_whole_ticks() -> None:
    assert [name for _, name in round_ticks(0, 2.5, 5, whole=True)[0]] == ["0", "1", "2"]


def test_marks_lie_where_their_numbers_are() -> None:
    """A step of 1 between 2 and 4 of 0 to 10, on a logarithmic ordinate up to 100."""
    axes = Axes("<a & b>", "x", "y", (0, 10), (0.01, 100), log=True)
    axes.stairs(np.array([1.0, 0.0]), np.array([2.0, 4.0, 6.0]), "#123456", "one")
    text = axes.svg()
    at = [LEFT + (RIGHT - LEFT) * share for share in (0.2, 0.4, 0.6)]
    middle = (TOP + BOTTOM) / 2
    drawn = f"M{at[0]:.1f} {BOTTOM}V{middle:.1f}H{at[1]:.1f}V{BOTTOM:.1f}H{at[2]:.1f}V{BOTTOM}"
    assert f'd="{drawn}"' in text
    named = [element.text for element in ET.fromstring(text).iter() if element.text]
    assert "<a & b>" in named
    assert "one" in named


def test_long_names_of_ticks_do_not_overlap() -> None:
    axes = Axes("a", "x", "y")
    axes.x_ticks([(k / 10, f"{k / 10:.9f}") for k in range(11)])
    shown = [e.text for e in ET.fromstring(axes.svg()).iter() if (e.text or "").startswith("0.")]
    assert shown == ["0.000000000", "0.400000000", "0.800000000"]
