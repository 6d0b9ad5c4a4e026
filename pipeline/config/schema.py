"""The parameters of params.yaml, typed and checked; that file says what each one asks."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from fade.errors import ParameterError
from fade.types import DatasetFormat, Device, Feature, Mode, Stream, Trial

PARAMS_FILE = Path("params.yaml")
MOST_VALUES = 100_000
"""That a parameter file may hold, aliases written out."""

LARGEST_SIZE = 8192
"""Pixels a side that a parameter may ask for."""
Size = Annotated[int, Field(ge=8, le=LARGEST_SIZE)]


def _size_or_image(value: Any) -> Any:
    known = type(value) is int and 8 <= value <= LARGEST_SIZE
    if not (known or value == "image"):
        raise ValueError(
            f"must be pixels from 8 to {LARGEST_SIZE}, or image for each image's own size, "
            f"not {_shown(value)}"
        )
    return value


EvaluationSize = Annotated[Size | Literal["image"], BeforeValidator(_size_or_image)]
"""Pixels a side, or each image's own size."""
Weight = Annotated[float, Field(ge=0, le=1)]
Multiplier = Annotated[float, Field(gt=0, le=1e6)]
Classifier = Literal["average", "softmax", "max", "lr", "mlp", "knn", "rf", "xgboost", "gmm"]
V = TypeVar("V")


class Section(BaseModel):
    """A section of params.yaml: unknown keys and ill-typed values are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @field_validator("*")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        """Text that no file name or sentence can hold."""
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and "\0" in text:
                raise ValueError("text must not hold a NUL character")
        return value


class ByShots(Section, Generic[V]):
    """A value that differs between zero shots and some."""

    zero_shot: V
    few_shot: V


def by_shots(value: V | ByShots[V], shots: int) -> V:
    """The value that holds for so many shots."""
    if isinstance(value, ByShots):
        return value.few_shot if shots else value.zero_shot
    return value


def _each_once(values: list[int]) -> list[int]:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice: take one out")
    return values


class DatasetParams(Section):
    """Which images."""

    format: DatasetFormat
    path: str = Field(min_length=1)
    watch: str = Field(min_length=1)
    categories: list[str] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    exif_rotation: bool = False
    on_bad_image: Literal["fail", "skip"] = "fail"

    @field_validator("categories", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        for name in value if isinstance(value, list) else ():
            if not isinstance(name, str):
                raise ValueError(
                    f"YAML reads one of the names as {_shown(name)}, which is no text: put names that "
                    'look like numbers, dates, true or false in quotes, as in ["01"]'
                )
        return value

    @field_validator("path", "watch")
    @classmethod
    def _whole(cls, value: str) -> str:
        """Neither DVC nor the stages know whose home ``~`` is."""
        if value.startswith("~"):
            raise ValueError(
                f"~ is not read as your home folder: write {os.path.expanduser(value)}"
            )
        return value


class GemParams(Section):
    """How the gem stream is computed, see :class:`fade.gem.GemConfig`."""

    depth: Annotated[int, Field(ge=2)] = 7
    iterations: Annotated[int, Field(ge=0)] = 1
    temperature: Annotated[float, Field(gt=0, le=1e4)] | None = None  # finite in float16, too


class ModelParams(Section):
    """Which CLIP model."""

    name: str = Field(min_length=1)
    pretrained: str
    gem: GemParams = GemParams()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"


class FeatureParams(Section):
    """At which sizes images are encoded, and how features are kept."""

    classification_size: Size
    segmentation_sizes: Annotated[list[Size], Field(min_length=1)]
    aspect: Literal["square", "keep"] = "square"
    dtype: Literal["float32", "float16"] = "float16"
    keep: bool = True
    store: str | None = None

    @field_validator("segmentation_sizes")
    @classmethod
    def _distinct(cls, sizes: list[int]) -> list[int]:
        return _each_once(sizes)


class ManualPrompts(Section):
    """Prompts written into the parameters themselves."""

    normal: Annotated[list[str], Field(min_length=1)]
    abnormal: Annotated[list[str], Field(min_length=1)]


Prompts = Annotated[list[str | ManualPrompts], Field(min_length=1)]


class TextUseParams(Section):
    """Prompts, classifier and image feature for one use of text."""

    prompts: Prompts
    use_classname: bool
    classifier: Classifier = "average"
    feature: Stream


class OverrideParams(Section):
    """Other prompts for one category."""

    classification: Prompts | None = None
    segmentation: Prompts | None = None


class TextParams(Section):
    """How text tells normal from abnormal."""

    template: str = "a photo of a {prompt}."
    classification: TextUseParams
    segmentation: TextUseParams
    overrides: dict[str, OverrideParams] = {}


class VisionParams(Section):
    """How reference images tell normal from abnormal."""

    feature: Stream
    shots: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
    query_in_bank: bool | ByShots[bool] = False
    index: str = "flat"
    coreset: Annotated[float, Field(gt=0, le=1)] = 1.0

    @field_validator("shots", "seeds")
    @classmethod
    def _distinct(cls, values: list[int]) -> list[int]:
        return _each_once(values)


class FusionParams(Section):
    """How language and vision are put together."""

    classification_mode: Mode
    segmentation_mode: Mode
    vision_multiplier: Multiplier | ByShots[Multiplier] = 3.5
    vision_weight: Weight | ByShots[Weight] = 0.85
    normalize: bool = False


class EvaluateParams(Section):
    """How maps are measured."""

    size: EvaluationSize
    pro_limit: Annotated[float, Field(gt=0, le=1)] = 0.3


class ThresholdParams(Section):
    """What makes a score or a pixel anomalous."""

    source: Literal["normal", "labels"] = "normal"
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.99
    images: Annotated[int, Field(ge=0)] = 50


class RuntimeParams(Section):
    """How this machine computes; changes no result, so never a DVC parameter."""

    device: Device = "auto"
    batch_size: Annotated[int, Field(ge=1)] = 8
    loader_workers: Annotated[int, Field(ge=1)] = 2


class ClusterParams(Section):
    """Who computes what is wide; changes no result, so never a DVC parameter."""

    kind: Literal["synchronous", "threads", "processes", "address", "slurm", "gpu"] = "threads"
    workers: Annotated[int, Field(ge=1)] = 2
    threads_per_worker: Annotated[int, Field(ge=1)] = 1
    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?[kMGT]i?B$")] | None = None
    address: Annotated[str, Field(min_length=1)] | None = None
    gpus: Annotated[int, Field(ge=1)] | None = None
    walltime: str = "01:00:00"
    queue: str | None = None
    account: str | None = None
    directives: list[str] = []
    prologue: list[str] = []
    interface: str | None = None
    dashboard: Annotated[int, Field(ge=0, lt=2**16)] = 0
    wait: Annotated[int, Field(ge=1)] = 3600

    @field_validator("directives", "prologue", "walltime", "queue", "account", "interface")
    @classmethod
    def _single_lines(cls, value: Any) -> Any:
        for text in [value] if isinstance(value, str) else value or []:
            if not text.strip() or "\n" in text or "\r" in text:
                raise ValueError(
                    f"a job script takes lines that are neither empty nor broken, not {_shown(text)}"
                )
        return value

    @property
    def distributed(self) -> bool:
        """Whether workers are those of a dask.distributed scheduler."""
        return self.kind in ("address", "slurm", "gpu")


class Params(Section):
    """All parameters of a run, and what follows from them."""

    dataset: DatasetParams
    model: ModelParams
    features: FeatureParams
    text: TextParams
    vision: VisionParams
    fusion: FusionParams
    evaluate: EvaluateParams
    threshold: ThresholdParams = ThresholdParams()
    runtime: RuntimeParams = RuntimeParams()
    cluster: ClusterParams = ClusterParams()

    @property
    def needs_language_score(self) -> bool:
        """Whether image scores need the text side."""
        return self.fusion.classification_mode in ("language", "both")

    @property
    def needs_language_map(self) -> bool:
        """Whether maps need the text side."""
        return self.fusion.segmentation_mode in ("language", "both")

    @property
    def needs_vision(self) -> bool:
        """Whether anything needs the memory banks."""
        modes = (self.fusion.classification_mode, self.fusion.segmentation_mode)
        return any(mode in ("vision", "both") for mode in modes)

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
        return self.vision_features()

    def vision_features(self) -> list[Feature]:
        """Patches that vision maps compare, one for each size in ascending order."""
        return [
            Feature(size, self.vision.feature, "patch")
            for size in sorted(self.features.segmentation_sizes)
        ]

    def language_features(self) -> list[Feature]:
        """Patches that language maps classify, one for each size in ascending order."""
        return [
            Feature(size, self.text.segmentation.feature, "patch")
            for size in sorted(self.features.segmentation_sizes)
        ]

    def classification_feature(self) -> Feature:
        """The token that language scores classify."""
        return Feature(self.features.classification_size, self.text.classification.feature, "cls")

    def test_features(self) -> list[Feature]:
        """What must be known of test images; nothing that nobody reads."""
        wanted: list[Feature] = []
        if self.needs_language_score:
            wanted.append(self.classification_feature())
        if self.needs_language_map:
            wanted += self.language_features()
        if self.needs_vision:
            wanted += [f for f in self.vision_features() if f not in wanted]
        return wanted

    def check(self) -> None:
        """Refuse combinations that contradict each other.

        Raises:
            ParameterError: with what to change.
        """
        fusion = self.fusion
        if fusion.classification_mode == fusion.segmentation_mode == "none":
            raise ParameterError(
                "fusion.classification_mode and fusion.segmentation_mode are both none: nothing "
                "would be computed; set one to language, vision or both"
            )
        if self.needs_vision:
            for trial in self.trials():
                if trial.shots == 0 and not self.query_in_bank(trial):
                    mode = (
                        f"segmentation_mode {fusion.segmentation_mode}"
                        if fusion.segmentation_mode in ("vision", "both")
                        else f"classification_mode {fusion.classification_mode}"
                    )
                    raise ParameterError(
                        f"vision.shots holds 0 and vision.query_in_bank is false, so that {mode} has "
                        "nothing to compare with: set vision.query_in_bank to true (or "
                        "{zero_shot: true, few_shot: false}), take 0 out of vision.shots, or use "
                        "mode language"
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
                    f"{name} is {_shown(place)}, and DVC would put a parameter in for ${{...}}: write "
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


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check a parameter file.

    Raises:
        ParameterError: no such file, no YAML, or values that are unknown, ill-typed or at odds.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(
            f"no {path} here ({Path.cwd()}): run in a project folder, or make one with "
            "`fade new DIR`"
        ) from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())
        raise ParameterError(f"{path} is no readable YAML: {detail}") from None
    return parse_params(content, str(path))


class _Loader(yaml.SafeLoader):
    """Plain YAML 1.2, as DVC reads it: `no` and 1:30 are text, 1e-5 and 010 (ten) are numbers."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as something else."""


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node).replace("_", "")
    return int(digits, {"0b": 2, "0o": 8, "0x": 16}.get(digits.lstrip("+-")[:2], 10))


def _read_as_yaml_1_2() -> None:
    tags = {kind: f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float")}
    _Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in known if tag not in tags.values()]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _Loader.add_constructor(tags["int"], _integer)
    for kind, first, form in (
        ("bool", "tTfF", r"true|True|TRUE|false|False|FALSE"),
        ("int", "-+0123456789", r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)"),
        (
            "float",
            "-+0123456789.",
            r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        ),
    ):
        for way in (_Loader, _Dumper):
            way.add_implicit_resolver(tags[kind], re.compile(rf"^(?:{form})$"), list(first))


_read_as_yaml_1_2()


def load_yaml(text: str) -> Any:
    """Plain YAML 1.2 as DVC reads it, whatever has a meaning in YAML 1.1 alone being text.

    Raises:
        ValueError: a key is given twice, or anchors unfold without end.
        yaml.YAMLError: it is no YAML, or holds other objects than plain ones.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _unfolded(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def dump_yaml(content: Any, **how: Any) -> str:
    """Content as YAML that :func:`load_yaml` and DVC read as the same; options are those of PyYAML."""
    text: str = yaml.dump(content, Dumper=_Dumper, **how)
    return text


def leaf(content: Any, name: str) -> Any:
    """A value of nested mappings by its dotted name; None where there is none."""
    for key in name.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return content


def differing(then: Any, now: Any, name: str = "") -> list[str]:
    """Dotted names of the leaves in which two values differ, mappings within mappings looked into."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return [] if then == now else [name]
    keys = dict.fromkeys((*then, *now))
    return [
        found
        for key in keys
        for found in differing(then.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    ]


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for once its aliases are written out.

    Raises:
        ValueError: more than :data:`MOST_VALUES`, or a key is given twice.
    """
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST_VALUES + 1  # for an alias inside of what it names
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(
                    f"{key.value} is given twice, in line {lines[key.value]} and again in line {line}"
                )
            lines[key.value] = line
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    count = 1 + sum(_unfolded(part, known) for part in parts)
    if count > MOST_VALUES:
        raise ValueError(
            f"it unfolds to more than {MOST_VALUES:,} values, line {node.start_mark.line + 1} on: "
            "write less, or fewer *aliases"
        )
    known[id(node)] = count
    return count


def parse_params(content: Any, source: str = "params.yaml") -> Params:
    """Check parameters that were read from YAML.

    Raises:
        ParameterError: naming each key at fault and what it takes.
    """
    if not isinstance(content, dict):
        raise ParameterError(f"{source} must hold sections such as dataset: and model:")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        lines = dict.fromkeys(map(_explain, _relevant(error.errors())))
        raise ParameterError(f"{source}: " + "; ".join(lines)) from None
    params.check()
    return params


def _keys(error: Any) -> tuple[str, ...]:
    """The path of keys of one of pydantic's errors, without the branches of unions in it."""
    branches = ("ByShots", "function", "ManualPrompts", "list[", "constrained")
    parts = (str(part) for part in error["loc"])
    return tuple(
        part
        for part in parts
        if not part.startswith(branches) and part not in ("bool", "float", "int", "str")
    )


def _relevant(errors: Sequence[Any]) -> list[Any]:
    """Of a value that may be one of several types, only the errors of the type that it has."""
    by_key: dict[tuple[str, ...], list[Any]] = {}
    for error in errors:
        by_key.setdefault(_keys(error), []).append(error)
    kept = []
    for keys, group in by_key.items():
        inside = any(other != keys and other[: len(keys)] == keys for other in by_key)
        fitting = [e for e in group if e["type"] not in ("model_type", "model_attributes_type")]
        if not (inside and isinstance(group[0]["input"], dict)):
            kept += fitting or group
    return kept


def _explain(error: Any) -> str:
    """One clause for one of pydantic's errors: the key, what it holds, what it takes."""
    keys = list(_keys(error))
    name = ".".join(keys)
    if error["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        close = get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return f"unknown parameter {name} ({hint})"
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] == "model_type":
        return f"{name} must hold {', '.join(_known_keys(keys)) or 'keys'}, not {error['input']!r}"
    if error["type"] == "value_error":  # our own, which names what is wrong
        return f"{name}: {error['ctx']['error']}"
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "bool_type":  # yes and no were booleans in YAML 1.1
        message += " (true or false)"
    return f"{name}: {message}, not {_shown(error['input'])}"


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _known_keys(keys: list[str]) -> list[str]:
    section: type[Section] = Params
    for key in keys:
        field = section.model_fields.get(key)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return []
        section = annotation
    return list(section.model_fields)
