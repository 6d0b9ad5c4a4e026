"""Section ``model`` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fade.types import Precision
from pipeline.config.values import ParamsSection


class GemParams(ParamsSection):
    """How the gem stream is computed, see :class:`fade.gem.GemConfig`."""

    depth: Annotated[int, Field(ge=2)] = 7
    iterations: Annotated[int, Field(ge=0)] = 1
    temperature: Annotated[float, Field(gt=0, le=1e4)] | None = None  # finite in float16, too


class ModelParams(ParamsSection):
    """Which CLIP model."""

    name: str = Field(min_length=1)
    pretrained: str
    gem: GemParams = Field(default_factory=GemParams)
    precision: Precision = "fp32"
