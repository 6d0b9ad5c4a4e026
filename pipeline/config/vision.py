"""The parameters of section vision of params.yaml, typed and checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fade.errors import ParameterError
from fade.types import ClipStream
from pipeline.config.values import ByShots, ParamsSection, each_once, shown


class VisionParams(ParamsSection):
    """How reference images tell normal from abnormal."""

    feature: ClipStream
    encoder: Annotated[str, Field(min_length=1)] | None = None
    encoder_weights: Annotated[str, Field(min_length=1)] | None = None
    layers: Annotated[list[int], Field(min_length=1)] = Field(default_factory=lambda: [-1])
    layer_fusion: Literal["concat", "mean"] = "concat"
    norm: bool = False
    transforms: Literal["none", "flips", "turns_and_mirrors"] = "none"
    shots: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
    query_in_bank: bool | ByShots[bool] = False
    index: str = "flat"
    coreset: Annotated[float, Field(gt=0, le=1)] = 1.0

    @field_validator("shots", "seeds", "layers")
    @classmethod
    def _distinct(cls, values: list[int]) -> list[int]:
        return each_once(values)


def check_encoder(
    vision: VisionParams, *, needs_language: bool, needs_vision: bool, aspect: str
) -> None:
    """Refuse what an encoder for vision cannot do, and its settings where none is named.

    Args:
        vision: the section to check.
        needs_language: whether anything needs the text side.
        needs_vision: whether anything needs the section.
        aspect: ``features.aspect``.

    Raises:
        ParameterError: with what to change.
    """
    if vision.encoder is None:
        own = VisionParams.model_fields
        for name in ("encoder_weights", "layers", "layer_fusion", "norm", "transforms"):
            if (value := getattr(vision, name)) != own[name].get_default(call_default_factory=True):
                raise ParameterError(
                    f"vision.{name} is {shown(value)}, but vision.encoder is null, which means the CLIP "
                    f"of model and knows no {name}: name an encoder such as efficientnet-lite0, or "
                    "leave it at its default"
                )
        return
    if needs_language:
        raise ParameterError(
            f"vision.encoder is {vision.encoder}, which works without text: set "
            "fusion.classification_mode and fusion.segmentation_mode to vision or none"
        )
    if needs_vision and aspect == "keep":
        raise ParameterError(
            f"features.aspect is keep, but vision.encoder {vision.encoder} takes squares: set it to "
            "square"
        )
