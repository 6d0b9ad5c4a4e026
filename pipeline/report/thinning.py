"""Curves by as many points as a plot can show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fade.metrics import LEVELS, Curve

_POINTS = 200


def along_way(curve: Curve, limit: float) -> Curve:
    """A curve of 65,536 levels by a few points, evenly along its way up to an abscissa."""
    across, up = curve
    if len(across) <= 2 * LEVELS:
        return curve
    upto = min(int(np.searchsorted(across, limit)) + 1, len(across))
    way = np.abs(np.diff(across[:upto], prepend=0)) / limit + np.abs(np.diff(up[:upto], prepend=0))
    way = np.cumsum(way)
    chosen = np.unique(np.searchsorted(way, np.linspace(0, way[-1], _POINTS)).clip(0, upto - 1))
    return across[chosen], up[chosen]


def thinned(curve: Curve) -> Curve:
    """A curve's points, or as many of them, ends included, as a plot can show."""
    across, up = curve
    return _even(across), _even(up)


def _even(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(values) <= _POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, _POINTS).round().astype(np.intp)]
