"""The parameters of section vision of params.yaml, typed and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from fade.errors import ParameterError
from fade.transforms import Augmentation, Transform, transforms_of
from fade.types import ClipStream, Feature
from fade.views import Join, Metric, View, check_pooling, expand_views
from pipeline.config.rules import RuleParams
from pipeline.config.values import ByShots, each_once, shown


class VisionParams(RuleParams):
    """How reference images tell normal from abnormal."""

    feature: ClipStream
    encoder: Annotated[str, Field(min_length=1)] | None = None
    encoder_weights: Annotated[str, Field(min_length=1)] | None = None
    layers: Annotated[list[int], Field(min_length=1)] = Field(default_factory=lambda: [-1])
    layer_fusion: Literal["concat", "mean", "apart"] = "concat"
    norm: bool = False
    layer_norm: bool = False
    pooling: Annotated[list[int], Field(min_length=1)] = Field(default_factory=lambda: [1])
    unit: bool = True
    tile: Annotated[int, Field(ge=0)] = 0
    overlap: Annotated[int, Field(ge=0)] = 0
    transforms: Augmentation = "none"
    transform_overrides: dict[str, Augmentation] = Field(default_factory=dict)
    metric: Metric = "cosine"
    per_dimension: bool = False
    neighbours: Annotated[int, Field(ge=1)] = 1
    radius: Annotated[int, Field(ge=0)] | None = None
    shots: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
    query_in_bank: bool | ByShots[bool] = False
    index: str = "flat"
    coreset: Annotated[float, Field(gt=0, le=1)] = 1.0

    @field_validator("shots", "seeds", "layers", "pooling")
    @classmethod
    def _distinct(cls, values: list[int]) -> list[int]:
        return each_once(values)

    @field_validator("pooling")
    @classmethod
    def _centred(cls, values: list[int]) -> list[int]:
        try:
            for value in values:
                check_pooling(value)
        except ParameterError as error:
            raise ValueError(str(error)) from None
        return values

    def views(self, sizes: Sequence[int]) -> list[View]:
        """How images are looked at; scores of all views are averaged.

        Args:
            sizes: pixels a side, see ``features.segmentation_sizes``.
        """
        joins: dict[str, Join] = {"concat": "concatenated", "mean": "mean", "apart": "apart"}
        return expand_views(
            sorted(sizes), self.layers, join=joins[self.layer_fusion], pooling=self.pooling,
            layer_norm=self.layer_norm, unit=self.unit,
        )  # fmt: skip

    def features(self, sizes: Sequence[int]) -> list[Feature]:
        """What the store keeps for all views, see :meth:`views`: of each layer, or of their mean."""
        mean = self.layer_fusion == "mean"
        groups = [tuple(self.layers)] if mean else [(layer,) for layer in self.layers]
        return [one for size in sorted(sizes) for one in self._features(size, groups)]

    def features_of(self, view: View) -> list[Feature]:
        """What the store keeps for a view."""
        mean = view.join == "mean"
        return self._features(
            view.size, [view.layers] if mean else [(layer,) for layer in view.layers]
        )

    @property
    def network(self) -> bool:
        """Whether layers of a network are compared, of another one or CLIP's own, not its streams."""
        return self.encoder is not None or self.layers != [-1]

    def _features(self, size: int, groups: Sequence[tuple[int, ...]]) -> list[Feature]:
        if not self.network:
            return [Feature(size, self.feature, "patch")]
        return [Feature(size, "vision", "patch", layers) for layers in groups]

    def bounded(self, shots: int) -> bool:
        """Whether distances of patches at so many shots are within [0, 1], as half of 1 - cosine is."""
        return self.metric == "cosine" and self.rule_at(shots) != "subspace"

    def bank_transforms(self, category: str | None) -> list[Transform]:
        """What becomes of each reference of a category, itself among them; None: of the usual ones."""
        return transforms_of(self.transform_overrides.get(category or "", self.transforms))


def check_nearest(vision: VisionParams) -> None:
    """Refuse forms of rule nearest that contradict each other.

    Raises:
        ParameterError: with what to change.
    """
    if vision.metric == "cosine":
        if vision.network and not vision.unit:
            raise ParameterError(
                "vision.metric is cosine and vision.unit false, but cosines are of vectors of length 1: "
                "set vision.unit to true, or vision.metric to euclidean"
            )
        if vision.per_dimension:
            raise ParameterError(
                "vision.per_dimension is true, which cosines do not depend on: set it to false, or "
                "vision.metric to euclidean"
            )
    if vision.radius is None:
        return
    other = (
        ("neighbours", vision.neighbours, 1, "the nearest patch alone"),
        ("index", vision.index, "flat", "all patches by their places"),
        ("coreset", vision.coreset, 1.0, "all patches by their places"),
        ("thinning", vision.thinning, "greedy", "all patches by their places"),
        ("query_in_bank", vision.query_in_bank, False, "the references alone"),
    )
    for name, value, needed, what in other:
        if value != needed and value != ByShots(zero_shot=needed, few_shot=needed):
            raise ParameterError(
                f"vision.radius is {vision.radius}, which compares with {what}, and vision.{name} is "
                f"{shown(value)}: set that to {shown(needed)}, or vision.radius to null"
            )
    for name in (vision.transforms, *vision.transform_overrides.values()):
        if name not in ("none", "brightness"):
            raise ParameterError(
                f"vision.radius is {vision.radius}, and vision.transforms {name} moves patches to other "
                "places: use none or brightness, or set vision.radius to null"
            )


def check_encoder(vision: VisionParams, *, needs_vision: bool, aspect: str) -> None:
    """Refuse what an encoder for vision cannot do, and its settings where none is named.

    Args:
        vision: the section to check.
        needs_vision: whether anything needs the section.
        aspect: ``features.aspect``.

    Raises:
        ParameterError: with what to change.
    """
    if vision.overlap and vision.tile <= 2 * vision.overlap:
        raise ParameterError(
            f"vision.overlap is {vision.overlap} and vision.tile {vision.tile}: a tile must be longer "
            "than twice the overlap"
        )
    if vision.layer_norm and vision.layer_fusion == "mean" and len(vision.layers) > 1:
        raise ParameterError(
            "vision.layer_norm is true and vision.layer_fusion mean, but the store keeps the mean of "
            "layers as they are: set layer_fusion to concat or apart, or layer_norm to false"
        )
    own = VisionParams.model_fields
    settings = ["encoder_weights"] if vision.encoder is None else []
    settings += [] if vision.network else ["layer_fusion", "norm", "tile"]
    for name in settings:
        if (value := getattr(vision, name)) != own[name].get_default(call_default_factory=True):
            raise ParameterError(
                f"vision.{name} is {shown(value)}, but vision.encoder is null and vision.layers [-1], "
                f"which means the streams of the CLIP of model, and these know no {name}: name an "
                "encoder such as efficientnet-lite0, or leave it at its default"
            )
    if not needs_vision or aspect == "square":
        return
    for used in (vision.transforms, *vision.transform_overrides.values()):
        if used == "turns_and_mirrors":
            raise ParameterError(
                f"features.aspect is {aspect} and vision.transforms turns_and_mirrors, but a turned "
                "rectangle is another one: set aspect to square, or transforms to flips or rotations"
            )
