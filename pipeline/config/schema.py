"""The parameters of params.yaml, typed and checked; that file says what each one asks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from fade.aspect import AspectRatio, SmallerEdge
from fade.errors import ParameterError
from fade.types import ClipStream, DatasetFormat, Device, Feature, Mode, Stream, Trial
from fade.views import View
from pipeline.config.cluster import ClusterParams
from pipeline.config.evaluate import (
    EvaluateParams,
    ThresholdParams,
    check_features_read,
    check_reweighted,
)
from pipeline.config.model import ModelParams
from pipeline.config.rule_checks import check_rules
from pipeline.config.values import (
    DEMO_MODEL,
    ByShots,
    Classifier,
    Multiplier,
    ParamsSection,
    Size,
    Weight,
    by_shots,
    each_once,
    shown,
)
from pipeline.config.vision import VisionParams, check_encoder, check_nearest


class DatasetParams(ParamsSection):
    """Which images."""

    format: DatasetFormat
    path: str = Field(min_length=1)
    watch: str = Field(min_length=1)
    categories: Annotated[list[str], Field(min_length=1)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    exif_rotation: bool = False
    on_bad_image: Literal["fail", "skip"] = "fail"

    @field_validator("categories", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        for name in value if isinstance(value, list) else ():
            if not isinstance(name, str):
                raise ValueError(
                    f"YAML reads one of the names as {name!r:.200}, which is no text: put names that "
                    'look like numbers, dates, true or false in quotes, as in ["01"]'
                )
        return value


class FeatureParams(ParamsSection):
    """At which sizes images are encoded, and how features are kept."""

    classification_size: Size
    segmentation_sizes: Annotated[list[Size], Field(min_length=1)]
    aspect: Literal["square", "keep", "smaller_edge"] = "square"
    dtype: Literal["float32", "float16"] = "float16"
    keep: bool = True
    store: str | None = None

    @property
    def keeps_aspect(self) -> bool:
        """Whether images keep their aspect ratio, which is then one for all."""
        return self.aspect != "square"

    def kept(self, aspect: AspectRatio) -> AspectRatio:
        """What sizes stand for where images keep an aspect ratio."""
        if self.aspect == "smaller_edge":
            return SmallerEdge(aspect.width, aspect.height)
        return aspect

    @field_validator("segmentation_sizes")
    @classmethod
    def _distinct(cls, sizes: list[int]) -> list[int]:
        return each_once(sizes)


class ManualPrompts(ParamsSection):
    """Prompts written into the parameters themselves."""

    normal: Annotated[list[str], Field(min_length=1)]
    abnormal: Annotated[list[str], Field(min_length=1)]


Prompts = Annotated[list[str | ManualPrompts], Field(min_length=1)]


class TextUseParams(ParamsSection):
    """Prompts, classifier and image feature for one use of text."""

    prompts: Prompts
    use_classname: bool
    classifier: Classifier = "average"
    feature: ClipStream


class OverrideParams(ParamsSection):
    """Other prompts for one category."""

    classification: Prompts | None = None
    segmentation: Prompts | None = None


class TextParams(ParamsSection):
    """How text tells normal from abnormal."""

    template: str = "a photo of a {prompt}."
    classification: TextUseParams
    segmentation: TextUseParams
    overrides: dict[str, OverrideParams] = Field(default_factory=dict)

    def named_prompts(self) -> Iterator[tuple[str, str]]:
        """Leaves that name prompts, each with the name of an ensemble or a file."""
        used: list[tuple[str, Prompts | None]] = [
            ("text.classification.prompts", self.classification.prompts),
            ("text.segmentation.prompts", self.segmentation.prompts),
        ]
        for category, override in self.overrides.items():
            used.append((f"text.overrides.{category}.classification", override.classification))
            used.append((f"text.overrides.{category}.segmentation", override.segmentation))
        for name, prompts in used:
            for prompt in prompts or ():
                if isinstance(prompt, str):
                    yield name, prompt


class FusionParams(ParamsSection):
    """How language and vision are put together."""

    classification_mode: Mode
    segmentation_mode: Mode
    vision_multiplier: Multiplier | ByShots[Multiplier] = 3.5
    vision_weight: Weight | ByShots[Weight] = 0.85
    normalize: bool = False


class RuntimeParams(ParamsSection):
    """How this machine computes; never a DVC parameter, as results stay the same within 1e-6."""

    device: Device = "auto"
    batch_size: Annotated[int, Field(ge=1)] = 8
    loader_workers: Annotated[int, Field(ge=1)] = 2


class Params(ParamsSection):
    """All parameters of a run, and what follows from them."""

    dataset: DatasetParams
    model: ModelParams
    features: FeatureParams
    text: TextParams
    vision: VisionParams
    fusion: FusionParams
    evaluate: EvaluateParams
    threshold: ThresholdParams = Field(default_factory=ThresholdParams)
    runtime: RuntimeParams = Field(default_factory=RuntimeParams)
    cluster: ClusterParams = Field(default_factory=ClusterParams)

    @property
    def needs_language_score(self) -> bool:
        """Whether image scores need the text side."""
        return self.fusion.classification_mode in ("language", "both")

    @property
    def needs_language_map(self) -> bool:
        """Whether maps need the text side."""
        return self.fusion.segmentation_mode in ("language", "both")

    @property
    def needs_language(self) -> bool:
        """Whether anything needs the text side."""
        return self.needs_language_score or self.needs_language_map

    @property
    def needs_vision(self) -> bool:
        """Whether anything needs the memory banks."""
        modes = (self.fusion.classification_mode, self.fusion.segmentation_mode)
        return any(mode in ("vision", "both") for mode in modes)

    @property
    def needs_network(self) -> bool:
        """Whether images are compared by another model than CLIP."""
        return self.needs_vision and self.vision.encoder is not None

    @property
    def needs_clip(self) -> bool:
        """Whether CLIP has a part, for texts or for images."""
        return self.needs_language or not self.needs_network

    @property
    def needs_batch(self) -> bool:
        """Whether the test images of a category are compared with each other in any trial."""
        return self.needs_vision and any(
            self.vision.has_batch(trial.shots) for trial in self.trials()
        )

    def trials(self) -> list[Trial]:
        """The experiments of the sweep, zero shots first; one with 0, 0 where vision has no part."""
        if not self.needs_vision:
            return [Trial(0, 0)]
        return [
            Trial(shots, seed)
            for shots in sorted(self.vision.shots)
            for seed in (sorted(self.vision.seeds) if shots else [0])
        ]

    @property
    def max_shots(self) -> int:
        """The largest number of reference images of any trial."""
        return max(trial.shots for trial in self.trials())

    def query_in_bank(self, trial: Trial) -> bool:
        """Whether the query image's own patches count as references in this trial."""
        return by_shots(self.vision.query_in_bank, trial.shots)

    def vision_weight(self, trial: Trial) -> float:
        """Share of the vision map in the fused map."""
        return by_shots(self.fusion.vision_weight, trial.shots)

    def vision_multiplier(self, trial: Trial) -> float:
        """Factor on the vision map."""
        return by_shots(self.fusion.vision_multiplier, trial.shots)

    def reference_features(self) -> list[Feature]:
        """What must be known of reference images."""
        if not self.needs_vision or not self.max_shots:
            return []
        categories = [None, *self.vision.transform_overrides]
        features = (one for category in categories for one in self.bank_features(category))
        return list(dict.fromkeys(features))

    def bank_features(self, category: str | None) -> list[Feature]:
        """Patches that banks hold: those that vision maps compare, of each transform of a reference.

        Args:
            category: whose bank; None for those without an override.
        """
        return [
            replace(feature, transform=transform)
            for transform in self.vision.bank_transforms(category)
            for feature in self.vision_features()
        ]

    def views(self) -> list[View]:
        """How vision looks at images, sizes in ascending order."""
        return self.vision.views(self.features.segmentation_sizes)

    def vision_features(self) -> list[Feature]:
        """Patches that vision maps are made of, each once, sizes in ascending order."""
        return self.vision.features(self.features.segmentation_sizes)

    def foreground_feature(self) -> Feature:
        """The patches that tell objects from their background: the last layer at the largest size."""
        return self.vision_features()[-1]

    def language_features(self) -> list[Feature]:
        """Patches that language maps classify, one for each size in ascending order."""
        return [
            Feature(size, self.text.segmentation.feature, "patch")
            for size in sorted(self.features.segmentation_sizes)
        ]

    def classification_feature(self) -> Feature:
        """The token that language scores classify."""
        return Feature(self.features.classification_size, self.text.classification.feature, "cls")

    def similarity_feature(self) -> Feature:
        """The class token that says which images look alike."""
        stream: Stream = self.vision.feature if self.vision.encoder is None else "vision"
        return Feature(max(self.features.segmentation_sizes), stream, "cls")

    def test_features(self) -> list[Feature]:
        """What must be known of test images; nothing that nobody reads."""
        wanted: list[Feature] = []
        if self.needs_language_score:
            wanted.append(self.classification_feature())
        if self.needs_language_map:
            wanted += self.language_features()
        if self.needs_vision:
            wanted += [f for f in self.vision_features() if f not in wanted]
        if self.evaluate.smooth_similar and (token := self.similarity_feature()) not in wanted:
            wanted.append(token)
        return wanted

    def _paths(self) -> Iterator[tuple[str, str]]:
        """Leaves that may name a file or folder."""
        yield "dataset.path", self.dataset.path
        yield "dataset.watch", self.dataset.watch
        yield "features.store", self.features.store or ""
        yield "model.name", self.model.name
        yield "model.pretrained", self.model.pretrained
        yield "vision.encoder", self.vision.encoder or ""
        yield "vision.encoder_weights", self.vision.encoder_weights or ""
        yield from self.text.named_prompts()

    def check(self) -> None:
        """Refuse combinations that contradict each other.

        Raises:
            ParameterError: with what to change.
        """
        for name, place in self._paths():
            if (whole := os.path.expanduser(place)) != place:
                raise ParameterError(f"{name}: ~ is not read as your home folder: write {whole}")
        fusion = self.fusion
        if fusion.classification_mode == fusion.segmentation_mode == "none":
            raise ParameterError(
                "fusion.classification_mode and fusion.segmentation_mode are both none: nothing "
                "would be computed; set one to language, vision or both"
            )
        if self.needs_vision:
            vision = self.vision
            alone = not vision.has_batch(0) and vision.rule_at(0) == "nearest"
            for trial in self.trials():
                if alone and not trial.shots and not self.query_in_bank(trial):
                    mode = (
                        f"segmentation_mode {fusion.segmentation_mode}"
                        if fusion.segmentation_mode in ("vision", "both")
                        else f"classification_mode {fusion.classification_mode}"
                    )
                    raise ParameterError(
                        f"vision.shots holds 0 and vision.query_in_bank is false, so that {mode} has "
                        "nothing to compare with: set vision.query_in_bank to true (or "
                        "{zero_shot: true, few_shot: false}), take 0 out of vision.shots, set "
                        "vision.bank to {zero_shot: batch, few_shot: references}, or use mode language"
                    )
        rules = {self.vision.rule_at(shots) for shots in self.vision.shots}
        if self.needs_vision and rules != {"subspace"}:
            check_nearest(self.vision)
        check_features_read(
            self.evaluate, needs_vision=self.needs_vision, keep=self.features.keep,
            tile=self.vision.tile,
        )  # fmt: skip
        if self.needs_vision:
            check_reweighted(
                self.vision, self.evaluate, views=len(self.views()), keep=self.features.keep
            )
        check_encoder(
            self.vision,
            needs_vision=self.needs_vision,
            aspect=self.features.aspect,
        )
        if self.needs_vision:
            shots = sorted({trial.shots for trial in self.trials()})
            check_rules(self.vision, shots, keep=self.features.keep)
        if self.model.pretrained == DEMO_MODEL != self.model.name:
            raise ParameterError(
                f"model.pretrained is {DEMO_MODEL}, and those weights fit model.name {DEMO_MODEL} "
                f"alone, not {self.model.name}: set both, as `fade new DIR --weights {DEMO_MODEL}` "
                f"does, or name weights of {self.model.name}"
            )
        if "://" in self.dataset.watch:
            raise ParameterError(
                "dataset.watch is a URL, which DVC cannot watch: name a local file that lists what "
                "lies there and changes with it (docs/data.md)"
            )
        for name, place in (
            ("dataset.path", self.dataset.path),
            ("dataset.watch", self.dataset.watch),
            ("features.store", self.features.store or ""),
        ):
            if re.search(r"://([^/]*@|.*[?#])", place):  # not repeated: it may be a password
                raise ParameterError(
                    f"{name} is a URL with a user, password or query in it: give s3://bucket/prefix or "
                    "the like, and put credentials into the environment (docs/store.md)"
                )
            if "${" in place:
                raise ParameterError(
                    f"{name} is {shown(place)}, and DVC would put a parameter in for ${{...}}: write "
                    "the path out"
                )
        if self.cluster.kind == "address" and not self.cluster.address:
            raise ParameterError(
                "cluster.kind is address and cluster.address is null: give the address of a running "
                "dask scheduler, such as tcp://10.0.0.1:8786"
            )
        if self.cluster.kind == "slurm" and not self.cluster.memory:
            raise ParameterError(
                "cluster.kind is slurm and cluster.memory is null: say how much memory a job gets, "
                "such as 8GiB"
            )
        if self.dataset.exif_rotation and self.dataset.format in ("mvtec", "visa"):
            raise ParameterError(
                f"dataset.exif_rotation is true, but images of {self.dataset.format} are never "
                "rotated (their masks are not): set it to false, or dataset.format to folder"
            )
