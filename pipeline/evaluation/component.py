"""Rows of the store that a block of images needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache.layout import RowLocation, Space


@dataclass(frozen=True, slots=True)
class Component:
    """Rows of a score component, or of a feature, for the images of a block."""

    space: Space
    places: Sequence[RowLocation]
