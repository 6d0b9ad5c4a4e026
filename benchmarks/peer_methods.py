"""Methods that both FADE Pipeline and a peer have, and what makes them the same on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHOTS = 4


@dataclass(frozen=True)
class Method:
    """A method on both sides.

    Attributes:
        name: in the table.
        preset, leaves: ours, and what it sets otherwise.
        changed: a leaf, changed after the first run, and its value.
        peer, settings: anomalib's class and its arguments, or a method of ``peer_plain.py``.
        size: of the images, in pixels.
        network: where the class holds its network; empty where each side takes a seeded one of its own.
        timm: name of the network for weights by a seed; empty where a package has trained ones.
        shots: references of a category.
        categories, training, tests: how many images; fewer tests where the peer is slow.
        plain: whether the peer is the plain version, as only the authors' scripts have the method.
    """

    name: str
    preset: str
    leaves: Mapping[str, Any]
    changed: tuple[str, Any]
    peer: str
    settings: Mapping[str, Any]
    size: int
    network: str = ""
    timm: str = ""
    shots: int = SHOTS
    categories: int = 1
    training: int = 200
    tests: int = 100
    plain: bool = False

    @property
    def beside(self) -> str:
        """The peer, in words."""
        return "the authors' steps" if self.plain else "anomalib"

    @property
    def encoder(self) -> str:
        """The network of seeded weights, with the tag that names its mean and deviation."""
        return f"{self.timm}.{TAGS[self.timm]}"


PATCHCORE = Method(
    "PatchCore", "own-patchcore",
    {"vision.encoder": "efficientnet-lite0", "vision.coreset": 0.1, "threshold.images": 0},
    ("evaluate.sigma", 3), "Patchcore",
    {"backbone": "tf_efficientnet_lite0", "layers": ["blocks.2", "blocks.4"], "pre_trained": False,
     "coreset_sampling_ratio": 0.1, "num_neighbors": 9},
    256, "feature_extractor.feature_extractor", categories=3,
)  # fmt: skip
"""On trained weights; the layers are the network's levels 2 and 3 by timm's names."""
ANOMALYDINO = Method(
    "AnomalyDINO", "own-anomalydino",
    {"vision.transforms": "none", "evaluate.resize": "nearest", "threshold.images": 0},
    ("evaluate.sigma", 3), "AnomalyDINO", {}, 252, "feature_encoder.feature_extractor",
    "vit_small_patch14_dinov2",
)  # fmt: skip
"""Without rotations, which anomalib's has not, and with its maps, whose cells are not interpolated."""
SUPERADD = Method(
    "SuperADD", "own-superadd",
    {"vision.transforms": "none", "vision.layers": [3, 5, 8, 10], "vision.tile": 28,
     "vision.overlap": 1, "threshold.images": 0},
    ("evaluate.sigma", 3), "SuperADD", {"backbone": "vit_small_patch16_dinov3"}, 448, "backbone.dino",
    "vit_small_patch16_dinov3", tests=60,
)  # fmt: skip
"""An image is one tile."""
WINCLIP = Method(
    "WinCLIP beside zero-shot FADE", "own-zeroshot",
    {"features.classification_size": 240, "fusion.classification_mode": "language",
     "fusion.segmentation_mode": "language", "model.pretrained": "seeded",
     "text.segmentation.prompts": ["winclip"], "text.segmentation.use_classname": True,
     "threshold.images": 0},
    ("evaluate.size", 224), "WinClip", {}, 240, shots=0, tests=16,
)  # fmt: skip
"""Two methods of one task on one architecture, each with seeded weights: only times mean something."""
MUSC = Method(
    "MuSc", "own-musc",
    {"vision.layers": [2, 5, 8, 11], "threshold.images": 0}, ("evaluate.sigma", 3), "musc",
    {"blocks": [2, 5, 8, 11], "pooling": [1, 3, 5]}, 252, timm="vit_small_patch14_dinov2", shots=0,
    tests=60, plain=True,
)  # fmt: skip
SUBSPACEAD = Method(
    "SubspaceAD", "own-subspacead",
    {"vision.layers": [4, 5, 6, 7, 8, 9, 10], "vision.transforms": "none", "threshold.images": 0},
    ("evaluate.top", 0.02), "subspacead",
    {"blocks": [4, 5, 6, 7, 8, 9, 10]}, 252, timm="vit_small_patch14_dinov2", plain=True,
)  # fmt: skip
"""Without rotations, whose angles each side would draw by itself."""
METHODS = {
    "patchcore": PATCHCORE, "anomalydino": ANOMALYDINO, "superadd": SUPERADD, "winclip": WINCLIP,
    "musc": MUSC, "subspacead": SUBSPACEAD,
}  # fmt: skip

TAGS = {"vit_small_patch14_dinov2": "lvd142m", "vit_small_patch16_dinov3": "lvd1689m"}
"""Whose mean and deviation a network takes, by its name."""
