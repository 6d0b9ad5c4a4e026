"""Presets of training-free methods: what each sets otherwise than the template, with its source.

Values are those of the papers and of the official code; docs/methods.md has the formulas. No accuracy is
claimed: what a preset reaches depends on its encoder, whose weights most of them download.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

VISION_ALONE: Mapping[str, Any] = MappingProxyType(
    {"fusion.classification_mode": "vision", "fusion.segmentation_mode": "vision"}
)
"""Text has no part."""


@dataclass(frozen=True)
class Method:
    """A published method.

    Attributes:
        name: of the preset, behind the data set's.
        summary: in a line.
        values: leaves that differ from the template, on every data set.
        datasets: leaves by data set, ``mvtec``, ``visa`` or ``own``, where they differ again.
    """

    name: str
    summary: str
    values: Mapping[str, Any]
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


ANOMALYDINO = Method(
    "anomalydino",
    "AnomalyDINO: DINOv2-S, references in 8 rotations, mean of the worst 1 % of patches",
    {
        "features.segmentation_sizes": [448],
        "vision.encoder": "vit_small_patch14_dinov2.lvd142m",
        "vision.norm": True,
        "vision.transforms": "rotations",
        "fusion.vision_multiplier": 2.0,  # 1 - cos
        "evaluate.size": "image",
        "evaluate.top": 0.01,
        "evaluate.sigma": 4,
    },
)
"""Damm et al., WACV 2025, arXiv 2405.14529: "agnostic" preprocessing, without the mask."""

METHODS: tuple[Method, ...] = (ANOMALYDINO,)
"""All methods, in the order in which they are listed."""
