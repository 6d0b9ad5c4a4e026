"""Scores and distances as people read them."""

from __future__ import annotations


def score_text(value: float, decimals: int = 3) -> str:
    """A score with so many decimals; a small one, as SuperADD's are, with so many digits.

    Examples:
        >>> score_text(0.81234), score_text(12.3), score_text(0.00123456), score_text(0.0)
        ('0.812', '12.300', '0.00123', '0.000')
    """
    if 0 < abs(value) < 0.1:
        return f"{value:.{decimals}g}"
    return f"{value:.{decimals}f}"
