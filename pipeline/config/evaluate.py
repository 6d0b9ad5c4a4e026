"""The parameters of sections evaluate and threshold of params.yaml, typed and checked."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fade.errors import ParameterError
from fade.filters import MAX_SIGMA, Finish, Kernel, Resize
from pipeline.config.values import EvaluationSize, ParamsSection, shown
from pipeline.config.vision import VisionParams


class ClosingParams(ParamsSection):
    """How masks of what is anomalous are closed, see :func:`fade.closing.closed_mask`."""

    radius: Annotated[int, Field(ge=0, le=100)] = 0
    angles: Annotated[int, Field(ge=1, le=64)] = 8
    lower: Annotated[float, Field(ge=0, le=1)] | None = None
    erosion: Annotated[int, Field(ge=0, le=100)] = 0


MIN_SAMPLES = 40
"""Fewest bootstrap samples from which the middle 95 % can be told."""
ProLimit = Annotated[float, Field(gt=0, le=1)]


class EvaluateParams(ParamsSection):
    """How image scores and finished maps come of patch scores, and how maps are measured."""

    size: EvaluationSize
    intervals: Annotated[int, Field(ge=0, le=10_000)] = 200
    pro_limit: ProLimit | Annotated[list[ProLimit], Field(min_length=1)] = 0.3
    top: Annotated[float, Field(ge=0, le=1)] = 0
    top_of: Literal["patches", "pixels"] = "patches"
    foreground: bool = False
    foreground_overrides: dict[str, bool] = Field(default_factory=dict)
    foreground_threshold: Annotated[float, Field(gt=0, le=1e6)] = 10.0
    group: Annotated[str, Field(min_length=1)] | None = None
    labels: Annotated[str, Field(min_length=1)] | None = None
    reweighted: bool = False
    smooth_similar: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    resize: Resize = "bilinear"
    sigma: Annotated[float, Field(ge=0, le=MAX_SIGMA)] = 0
    kernel: Kernel = "gaussian"
    closing: ClosingParams = Field(default_factory=ClosingParams)

    @field_validator("intervals")
    @classmethod
    def _tell_an_interval(cls, samples: int) -> int:
        if 0 < samples < MIN_SAMPLES:
            raise ValueError(
                f"{samples} are too few: an interval leaves out one sample in {MIN_SAMPLES} at either "
                f"end; set it to {MIN_SAMPLES} or more, or to 0 for no intervals"
            )
        return samples

    @field_validator("pro_limit")
    @classmethod
    def _limits_differ(cls, limits: float | list[float]) -> float | list[float]:
        if isinstance(limits, list) and len({f"{limit:g}" for limit in limits}) < len(limits):
            raise ValueError("a limit is there twice: remove one")
        return limits

    @field_validator("group")
    @classmethod
    def _is_pattern(cls, group: str | None) -> str | None:
        try:
            re.compile(group or "")
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"{group!r} is no regular expression ({error}): write folder, or a valid one"
            ) from None
        return group

    @property
    def pro_limits(self) -> tuple[float, ...]:
        """The limits of AUPRO; the first is that of the metric without a limit in its name."""
        return tuple(self.pro_limit) if isinstance(self.pro_limit, list) else (self.pro_limit,)

    def masks_background(self, category: str) -> bool:
        """Whether the background of a category's images scores 0."""
        return self.foreground_overrides.get(category, self.foreground)

    @property
    def masks_any_background(self) -> bool:
        """Whether that may be so in any category."""
        return self.foreground or any(self.foreground_overrides.values())

    @property
    def finish(self) -> Finish:
        """What makes a map of pixels from patch scores."""
        return Finish(self.resize, self.sigma, self.kernel)


def check_features_read(
    evaluate: EvaluateParams, *, needs_vision: bool, keep: bool, tile: int
) -> None:
    """Refuse what is made of the features of test images where these are not there.

    Args:
        needs_vision: whether vision has a part.
        keep: ``features.keep``.
        tile: ``vision.tile``.

    Raises:
        ParameterError: with what to change.
    """
    for name, wanted, off in (
        ("smooth_similar", bool(evaluate.smooth_similar), "[]"),
        ("foreground", evaluate.masks_any_background, "false"),
    ):
        if wanted and not needs_vision:
            raise ParameterError(
                f"evaluate.{name} needs vision, which has no part: set it to {off}, or a mode to vision"
            )
        if wanted and not keep:
            raise ParameterError(
                f"evaluate.{name} needs the features of test images, and features.keep is false: set it "
                f"to true, or evaluate.{name} to {off}"
            )
    if evaluate.smooth_similar and tile:
        raise ParameterError(
            f"evaluate.smooth_similar needs class tokens of whole images, and vision.tile is {tile}: set "
            "it to 0, or evaluate.smooth_similar to []"
        )


def check_reweighted(
    vision: VisionParams, evaluate: EvaluateParams, *, views: int, keep: bool
) -> None:
    """Refuse a re-weighted image score where it is not defined.

    Args:
        views: how many views there are.
        keep: ``features.keep``.

    Raises:
        ParameterError: with what to change.
    """
    if not evaluate.reweighted:
        return
    wanted = {
        "vision.metric": (vision.metric, "euclidean"),
        "vision.per_dimension": (vision.per_dimension, False),
        "vision.rule": (vision.rule, "nearest"),
        "vision.bank": (vision.bank, "references"),
        "vision.index": (vision.index, "flat"),
        "vision.radius": (vision.radius, None),
        "vision.query_in_bank": (vision.query_in_bank, False),
        "evaluate.top": (evaluate.top, 0),
        "evaluate.top_of": (evaluate.top_of, "patches"),
        "features.keep": (keep, True),
    }
    for name, (value, needed) in wanted.items():
        if value != needed:
            raise ParameterError(
                f"evaluate.reweighted is true, PatchCore's image score, and {name} is {shown(value)}: "
                f"set it to {needed if isinstance(needed, str) else shown(needed)}, or "
                "evaluate.reweighted to false"
            )
    if views > 1:
        raise ParameterError(
            f"evaluate.reweighted is true and vision looks at images in {views} ways: keep one of "
            "features.segmentation_sizes, of vision.pooling, and layer_fusion concat or mean"
        )


class ThresholdParams(ParamsSection):
    """What makes a score or a pixel anomalous."""

    source: Literal["normal", "labels"] = "normal"
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.99
    images: Annotated[int, Field(ge=0)] = 50
    factor: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    false_alarms: Annotated[float, Field(ge=1e-9, lt=1)] | None = None
    overrides: dict[str, Annotated[float, Field(ge=-1e300, le=1e300)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rate_is_kept(self) -> ThresholdParams:
        if self.false_alarms is None:
            return self
        if self.source == "labels":
            raise ValueError(
                "threshold.false_alarms asks for a rate on normal images, and threshold.source is "
                "labels: set source to normal, or false_alarms to null"
            )
        if self.factor < 1:
            raise ValueError(
                f"threshold.factor is {self.factor:g}, and what is below 1 takes back the rate that "
                "threshold.false_alarms asks for: set factor to 1, or false_alarms to null"
            )
        return self
