"""How often something is measured: less often where the machine takes long."""

from __future__ import annotations

import time
from collections.abc import Iterator

ENOUGH = 12.0
"""Seconds after which no further round of a measurement is begun."""


def rounds(most: int, enough: float = ENOUGH) -> Iterator[int]:
    """Numbers of rounds: at least one, and none is begun once those before took so many seconds.

    Examples:
        >>> list(rounds(3)), list(rounds(3, enough=0))
        ([0, 1, 2], [0])
    """
    start = time.perf_counter()
    for number in range(most):
        if number and time.perf_counter() - start >= enough:
            return
        yield number
