"""Score components in the store: language scores, language maps and vision maps of images.

A component's key is the image's key and what it was compared with, so that a changed classifier
or another choice of references is another row, and the old one is found again later.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any, Literal

from cache.layout import Space
from fade.aspect import Shape
from fade.maps import largest_grid

COMPONENT_VERSION = 2
"""Raised by hand when the scoring code gives other numbers."""


def component_key(image: str, against: str) -> str:
    """Key of a component of an image, compared with a classifier or a set of references.

    Examples:
        >>> component_key("9f2c", "41fb")
        '9f2c:41fb'
    """
    return f"{image}:{against}"


def language_score_space(feature: Space) -> Space:
    """P(abnormal) of the cls token."""
    description = {
        "kind": "language-score", "version": COMPONENT_VERSION, "feature": feature.fingerprint,
        "tokens": "alone",
    }  # fmt: skip
    return Space("language-score", description, (), "float64")


def map_space(
    kind: Literal["language-map", "vision-map"], features: Sequence[Space], **more: Any
) -> Space:
    """P(abnormal) of each patch, or its distance to what is normal, merged on the largest grid.

    Args:
        features: that it is made of.
        more: what else it depends on, as JSON has it; None where that is as in FADE.
    """
    description: dict[str, Any] = {
        "kind": kind,
        "version": COMPONENT_VERSION,
        "features": [feature.fingerprint for feature in features],
        **{name: value for name, value in more.items() if value is not None},
    }
    grid = largest_grid([patch_grid(feature) for feature in features])
    return Space(kind, description, grid, "float32")


def patch_grid(feature: Space) -> Shape:
    """(rows, columns) of a space of patches: a square, unless it says otherwise.

    Examples:
        >>> patch_grid(Space("gem", {}, (196, 512), "float16"))
        (14, 14)
        >>> patch_grid(Space("gem", {"grid": [10, 20]}, (200, 512), "float16"))
        (10, 20)
    """
    if "grid" in feature.description:
        rows, columns = feature.description["grid"]
        return rows, columns
    side = isqrt(feature.shape[0])
    return side, side
