"""The parameters of sections evaluate and threshold of params.yaml, typed and checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fade.filters import MAX_SIGMA, Finish, Kernel, Resize
from pipeline.config.values import EvaluationSize, ParamsSection


class EvaluateParams(ParamsSection):
    """How image scores and finished maps come of patch scores, and how maps are measured."""

    size: EvaluationSize
    pro_limit: Annotated[float, Field(gt=0, le=1)] = 0.3
    top: Annotated[float, Field(ge=0, le=1)] = 0
    top_of: Literal["patches", "pixels"] = "patches"
    resize: Resize = "bilinear"
    sigma: Annotated[float, Field(ge=0, le=MAX_SIGMA)] = 0
    kernel: Kernel = "gaussian"

    @property
    def finish(self) -> Finish:
        """What makes a map of pixels from patch scores."""
        return Finish(self.resize, self.sigma, self.kernel)


class ThresholdParams(ParamsSection):
    """What makes a score or a pixel anomalous."""

    source: Literal["normal", "labels"] = "normal"
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.99
    images: Annotated[int, Field(ge=0)] = 50
    factor: Annotated[float, Field(gt=0, le=1e6)] = 1.0
