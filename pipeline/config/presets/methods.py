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

MUSC = Method(
    "musc",
    "MuSc: no references, test images score each other; CLIP ViT-L/14, four blocks, three poolings",
    {
        "features.segmentation_sizes": [518],
        "vision.encoder": "vit_large_patch14_clip_quickgelu_336.openai",
        "vision.layers": [5, 11, 17, 23],
        "vision.layer_fusion": "apart",
        "vision.layer_norm": True,
        "vision.pooling": [1, 3, 5],
        "vision.metric": "euclidean",
        "vision.bank": "batch",
        "vision.rule": "mutual",
        "vision.shots": [0],
        "vision.seeds": [0],
        "fusion.vision_multiplier": 0.5,  # vectors of unit length are at most 2 apart
        "evaluate.size": 518,
        "evaluate.resize": "corners",
    },
)
"""Li et al., ICLR 2024, arXiv 2401.16753."""

BEST_BATCH = Method(
    "best-batch",
    "the strongest published figures without references: MuSc's parts on DINOv2-L",
    {
        **MUSC.values,
        "vision.encoder": "vit_large_patch14_dinov2.lvd142m",
        "vision.norm": True,
    },
    MUSC.datasets,
)
"""MuSc on DINOv2-L, MVTec-AD | VisA: pixel AUROC 98.3 | 98.8, PRO 96.2 | 92.4 (as its authors say)."""

METHODS: tuple[Method, ...] = (ANOMALYDINO, MUSC, BEST_BATCH)
"""All methods, in the order in which they are listed."""
