"""The reference of params.yaml: each leaf with its question, type, default, unit and readers.

Questions come from the comments of params.yaml, types and defaults from the schema, and the stages
from dvc.yaml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.schema import Params

ROOT = Path(__file__).resolve().parents[2]
UNITS = {
    "cluster.dashboard": "port number",
    "cluster.gpus": "GPUs",
    "cluster.memory": "bytes with a suffix, such as 8GiB",
    "cluster.threads_per_worker": "threads",
    "cluster.wait": "seconds",
    "cluster.walltime": "hours:minutes:seconds",
    "cluster.workers": "workers",
    "dataset.limit": "images of each defect and category",
    "evaluate.closing.angles": "orientations",
    "evaluate.closing.erosion": "pixels of the map",
    "evaluate.closing.lower": "share of the threshold",
    "evaluate.closing.radius": "pixels of the map",
    "evaluate.foreground_threshold": "units of the features",
    "evaluate.intervals": "bootstrap samples",
    "evaluate.pro_limit": "false positive rate",
    "evaluate.size": "pixels a side",
    "evaluate.sigma": "pixels of the map",
    "evaluate.smooth_similar": "images",
    "evaluate.top": "share of patches, or of pixels",
    "features.classification_size": "pixels a side",
    "features.segmentation_sizes": "pixels a side",
    "fusion.vision_multiplier": "factor",
    "fusion.vision_weight": "share",
    "model.gem.depth": "transformer blocks",
    "model.gem.iterations": "rounds",
    "model.gem.temperature": "factor",
    "runtime.batch_size": "images",
    "runtime.loader_workers": "threads",
    "threshold.factor": "factor",
    "threshold.images": "images of each category",
    "threshold.false_alarms": "share of good images",
    "threshold.quantile": "share of images, and of pixels",
    "vision.bank_size": "patches",
    "vision.components": "components",
    "vision.coreset": "share of patches",
    "vision.layers": "blocks or levels, counted from 0",
    "vision.neighbours": "patches",
    "vision.overlap": "patches",
    "vision.pooling": "patches a side",
    "vision.radius": "patches",
    "vision.lowest": "share of images",
    "vision.partners": "images",
    "vision.seeds": "random seeds",
    "vision.set_size": "images",
    "vision.shots": "images of each category",
    "vision.variance": "share of the variance",
    "vision.tile": "patches a side",
}
"""What a number counts or measures."""
UNWATCHED = ("runtime", "cluster")
"""Sections that change results by 1e-6 at most, so that no stage names them."""
_KEY = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z_]\w*):(?P<value>.*)$")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One parameter as the reference shows it.

    Attributes:
        name: with dots, such as ``fusion.vision_weight``.
        question: what it decides, as params.yaml asks it.
        type: which values it takes, in words.
        default: its value where params.yaml does not say it; None where it must.
        demo: its value in the repository's template, which the demo takes as it is.
        unit: of a number; None for words and switches.
        stages: that name it in dvc.yaml, so that DVC runs them again when it changes.
    """

    name: str
    question: str
    type: str
    default: str | None
    demo: str
    unit: str | None
    stages: tuple[str, ...]


def leaves(root: Path = ROOT) -> list[Leaf]:
    """Every leaf of the schema, in the schema's order.

    Raises:
        KeyError: a leaf that params.yaml does not ask about.
    """
    text = (root / "pipeline/config/params.yaml").read_text(encoding="utf-8")
    asked, demo, readers = questions(text), yaml.safe_load(text), stages_of(root / "dvc.yaml")
    found = []
    for name, part, required in _schema_leaves(Params.model_json_schema()):
        found.append(
            Leaf(
                name=name,
                question=asked[name],
                type=_phrase(part),
                default=None if required else _shown(part.get("default")),
                demo=_shown(_value(demo, name)),
                unit=UNITS.get(name),
                stages=tuple(
                    stage
                    for stage, prefixes in readers.items()
                    if any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
                ),
            )
        )
    return found


def questions(text: str) -> dict[str, str]:
    """The comment above each leaf of params.yaml.

    A leaf without a comment belongs to the question of the leaf above it. A leaf of
    ``text.segmentation`` without one is asked as its twin of ``text.classification``.
    """
    asked: dict[str, str] = {}
    path: list[str] = []
    comment: list[str] = []
    last = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
        elif match := _KEY.match(line):
            path = [*path[: len(match["indent"]) // 2], match["name"]]
            name = ".".join(path)
            twin = asked.get(name.replace("text.segmentation.", "text.classification."), "")
            last = " ".join(comment) or twin or last
            comment = []
            if match["value"].strip():
                asked[name] = last
        else:
            comment = []
    return asked


def stages_of(file: Path) -> dict[str, list[str]]:
    """Which parameters each stage of a dvc.yaml names: leaves, or sections with all their leaves."""
    stages = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
    named: dict[str, list[str]] = {}
    for stage, content in stages.items():
        names: list[str] = []
        for entry in content.get("params", ()):
            files = entry if isinstance(entry, Mapping) else {"params.yaml": [entry]}
            names += files.get("params.yaml", [])
        named[stage] = names
    return named


def markdown(root: Path = ROOT) -> str:
    """The reference as a page's body: a section for each section of params.yaml."""
    parts: list[str] = []
    section = ""
    for leaf in leaves(root):
        if (top := leaf.name.split(".")[0]) != section:
            section = top
            parts.append(f"## {section}\n")
        parts.append(_leaf_markdown(leaf))
    return "\n".join(parts)


def _leaf_markdown(leaf: Leaf) -> str:
    if leaf.name.split(".")[0] in UNWATCHED:
        again = "none: results stay the same within 1e-6"
    else:
        again = ", ".join(f"`{stage}`" for stage in leaf.stages)
    default = "must be given" if leaf.default is None else f"`{leaf.default}`"
    question = re.sub(r"\bdocs/(\w[\w-]*\.md)", r"[\1](\1)", _escaped(leaf.question))
    rows = {"Type": leaf.type, "Default": default, "Demo": f"`{leaf.demo}`"}
    if leaf.unit:
        rows["Unit"] = leaf.unit
    rows["Runs again"] = again
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"### {leaf.name} {{#{leaf.name}}}\n\n{question}\n\n| | |\n|---|---|\n{table}\n"


def _escaped(text: str) -> str:
    return re.sub(r"(\{[^}]*\}|#\w+)", r"`\1`", text)


def _schema_leaves(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    definitions = schema["$defs"]

    def walk(part: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
        for name, one in part["properties"].items():
            full = f"{path}{name}"
            target = one.get("$ref", "").rpartition("/")[2]
            if target:
                yield from walk(definitions[target], full + ".")
            else:
                yield full, _resolved(one, definitions), name in part.get("required", ())

    yield from walk(schema, "")


def _resolved(part: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(part, Mapping):
        if "$ref" in part:
            return _resolved(definitions[part["$ref"].rpartition("/")[2]], definitions)
        return {name: _resolved(value, definitions) for name, value in part.items()}
    if isinstance(part, list):
        return [_resolved(one, definitions) for one in part]
    return part


def _phrase(part: Mapping[str, Any]) -> str:
    if "anyOf" in part:
        return " or ".join(_phrase(one) for one in part["anyOf"])
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return " or ".join(f"`{one}`" for one in part["enum"])
    kind = part.get("type")
    if kind == "array":
        return "list of " + _phrase(part["items"]).replace(" or ", " and ")
    if kind == "object" and "properties" in part:
        return "`{" + ", ".join(f"{name}:" for name in part["properties"]) + "}`"
    if kind == "object":
        return "names with values"
    words = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`",
             "string": "text", "null": "`null`"}  # fmt: skip
    return words[str(kind)] + _limits(part)


def _limits(part: Mapping[str, Any]) -> str:
    limits = [
        f"{words} {_number(part[name])}"
        for name, words in (
            ("minimum", "at least"), ("exclusiveMinimum", "above"),
            ("maximum", "at most"), ("exclusiveMaximum", "below"),
        ) if name in part
    ]  # fmt: skip
    return " " + " and ".join(limits) if limits else ""


def _number(value: float) -> str:
    if value != int(value):
        return f"{value:g}"
    whole = int(value)
    return f"{whole:,}" if whole < 10**9 else f"2^{whole.bit_length() - 1}"


def _value(content: Any, name: str) -> Any:
    for part in name.split("."):
        content = content[part]
    return content


def _shown(value: Any) -> str:
    """A value as params.yaml may hold it: words bare, other text in quotes."""
    if isinstance(value, str) and value[:1].isalpha() and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
