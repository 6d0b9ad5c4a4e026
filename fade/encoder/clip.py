"""A CLIP model as an encoder takes it: the vision tower at once, the rest when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fade.channels import channel_statistics
from fade.encoder.checkpoint import require_plain_vit
from fade.lean_import import open_clip_library

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Clip:
    """The parts of a model.

    Attributes:
        visual: the vision tower on the CPU in float32, its layers by open_clip's names.
        mean, std: of its input, after pixels are divided by 255.
        whole: gives open_clip's model with the same weights, and its tokenizer; where it is given None
            for the vision tower, that may be left out.
    """

    visual: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    whole: Callable[[Any], tuple[nn.Module, Any]]

    @classmethod
    def of(cls, model: nn.Module, tokenizer: Any, name: str) -> Clip:
        """The parts of open_clip's model.

        Raises:
            ModelError: its vision tower is no plain ViT, or its pixels cannot be normalised.
        """
        require_plain_vit(model, name)
        preprocess = open_clip_library().get_model_preprocess_cfg(model)
        mean, std = channel_statistics(preprocess["mean"], preprocess["std"], f"model.name: {name}")
        return cls(model.visual, mean, std, lambda _: (model, tokenizer))
