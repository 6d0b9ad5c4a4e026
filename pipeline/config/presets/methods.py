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
RAW: Mapping[str, Any] = MappingProxyType({"vision.unit": False, "fusion.vision_multiplier": 1.0})
"""Vectors keep their length, and distances are taken as they are."""


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
    {
        "mvtec": {
            "evaluate.foreground_overrides": dict.fromkeys(
                ("capsule", "hazelnut", "pill", "screw", "toothbrush"), True
            )
        },
        "visa": {"evaluate.foreground": True},
    },
)
"""Damm et al., WACV 2025, arXiv 2405.14529: "agnostic" preprocessing; objects that are masked as in
the official code."""

SUBSPACEAD = Method(
    "subspacead",
    "SubspaceAD: DINOv2-g, components of 99 % of the variance, references in 30 rotations",
    {
        **RAW,
        "features.segmentation_sizes": [672],
        "features.dtype": "float32",
        "vision.encoder": "vit_giant_patch14_reg4_dinov2.lvd142m",
        # of 41 hidden states, the embedding first: -12 is what block 28 gives, -18 block 22
        "vision.layers": [22, 23, 24, 25, 26, 27, 28],
        "vision.layer_fusion": "mean",
        "vision.transforms": "random_rotations",
        "vision.rule": "subspace",
        "evaluate.size": 672,
        "evaluate.top": 0.01,
        "evaluate.top_of": "pixels",
        "evaluate.sigma": 4,
        "evaluate.kernel": "small",
    },
    {"mvtec": {"vision.transform_overrides": {"transistor": "none"}}},
)
"""Lendering et al., CVPR 2026, arXiv 2602.23013."""

SUPERADD = Method(
    "superadd",
    "SuperADD: DINOv3-H+, four blocks apart, references in 5 brightnesses",
    {
        **RAW,
        "features.segmentation_sizes": [640],
        "vision.encoder": "vit_huge_plus_patch16_dinov3.lvd1689m",
        "vision.layers": [7, 15, 23, 31],
        "vision.layer_fusion": "apart",
        "vision.tile": 40,
        "vision.overlap": 8,
        "vision.transforms": "brightness",
        "vision.metric": "euclidean",
        "vision.per_dimension": True,
        "vision.thinning": "superadd",
        "vision.bank_size": 100_000,
        "evaluate.size": 640,
        "evaluate.top": 0.001,
        "evaluate.top_of": "pixels",
        "evaluate.sigma": 4,
        "evaluate.kernel": "reflect",
        "evaluate.closing.radius": 26,
        "evaluate.closing.angles": 16,
        "evaluate.closing.lower": 0.8,
        "evaluate.closing.erosion": 1,
        "threshold.quantile": 0.95,
        "threshold.factor": 1.421,
    },
)
"""Roming et al., 2026, arXiv 2605.14808; score and filter as in anomalib's port. An image of 640
pixels is one of its tiles."""

PATCHCORE = Method(
    "patchcore",
    "PatchCore: WideResNet-50, levels 2 and 3, a coreset of 10 %, re-weighted scores",
    {
        **RAW,
        "features.segmentation_sizes": [224],
        "features.dtype": "float32",
        "vision.encoder": "wide_resnet50_2.tv_in1k",
        "vision.layers": [2, 3],
        "vision.pooling": [3],
        "vision.metric": "euclidean",
        "vision.coreset": 0.1,
        "evaluate.size": 224,
        "evaluate.reweighted": True,
        "evaluate.resize": "nearest",
        "evaluate.sigma": 4,
    },
)
"""Roth et al., CVPR 2022, arXiv 2106.08265; without its crop and its projection to 1,024 dimensions."""

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
    {
        "mvtec": {"evaluate.smooth_similar": [1, 2, 3]},
        "visa": {"evaluate.smooth_similar": [1, 8, 9]},
    },
)
"""Li et al., ICLR 2024, arXiv 2401.16753. Smoothed scores decide on no single image, so own data do
without."""

BEST_FEWSHOT = Method(
    "best-fewshot",
    "the strongest published few-shot figures: SubspaceAD's parts",
    SUBSPACEAD.values,
    SUBSPACEAD.datasets,
)
"""1 shot, image AUROC on MVTec-AD | VisA: 97.1 | 93.4, AnomalyDINO 96.6 | 87.4 (as their authors say)."""

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

METHODS: tuple[Method, ...] = (
    ANOMALYDINO,
    SUBSPACEAD,
    SUPERADD,
    PATCHCORE,
    MUSC,
    BEST_FEWSHOT,
    BEST_BATCH,
)
"""All methods, in the order in which they are listed."""
