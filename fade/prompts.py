"""Prompt ensembles: the sentences that describe flawless and damaged objects.

The states and templates of the WinCLIP ensemble are those of Jeong et al., "WinCLIP: Zero-/Few-Shot
Anomaly Classification and Segmentation", CVPR 2023, arXiv 2303.14814, kept word for word, so that
"a unblemished object" stays as it was measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fade.errors import DataError, FadeError, ParameterError
from fade.files import read_plain, readable

CLASSNAME = "{classname}"
"""Placeholder in a prompt: the category's name, or a plain word such as ``object``."""
PROMPT = "{prompt}"
"""Placeholder in a template: the filled prompt."""
DEFAULT_TEMPLATE = "a photo of a {prompt}."
"""What the official text encoder wraps around each prompt."""

SHIPPED: Mapping[str, str] = MappingProxyType(
    {
        "winclip": "WinCLIP's states in its templates: 154 normal and 88 abnormal prompts",
        "winclip_sizes": "winclip with eight size words for each flaw: 154 and 704 prompts",
        "winclip_places": "winclip with twelve places of each flaw: 154 and 1056 prompts",
        "winclip_sizes_places": "winclip with sizes and places of each flaw: 154 and 8448 prompts",
        "descriptions_1": "LLM-written short noun phrases, no object named",
        "descriptions_2": "LLM-written full sentences about a photo, no object named",
        "descriptions_3": "LLM-written descriptions of surface and texture, no object named",
        "descriptions_4": "LLM-written descriptions of shape and completeness, no object named",
        "descriptions_5": "LLM-written entries of inspection reports, no object named",
    }
)
"""Each shipped ensemble and what it holds, in one line."""

_WINCLIP_VARIANTS = {
    "winclip": (False, False),
    "winclip_sizes": (True, False),
    "winclip_places": (False, True),
    "winclip_sizes_places": (True, True),
}
_TEMPLATES = (
    "a cropped photo of the {}",
    "a cropped photo of a {}",
    "a close-up photo of a {}",
    "a close-up photo of the {}",
    "a bright photo of a {}",
    "a bright photo of the {}",
    "a dark photo of the {}",
    "a dark photo of a {}",
    "a jpeg corrupted photo of a {}",
    "a jpeg corrupted photo of the {}",
    "a blurry photo of the {}",
    "a blurry photo of a {}",
    "a photo of a {}",
    "a photo of the {}",
    "a photo of a small {}",
    "a photo of the small {}",
    "a photo of a large {}",
    "a photo of the large {}",
    "a photo of the {} for visual inspection",
    "a photo of a {} for visual inspection",
    "a photo of the {} for anomaly detection",
    "a photo of a {} for anomaly detection",
)
_NORMAL_STATES = (
    CLASSNAME,
    f"flawless {CLASSNAME}",
    f"perfect {CLASSNAME}",
    f"unblemished {CLASSNAME}",
    f"{CLASSNAME} without flaw",
    f"{CLASSNAME} without defect",
    f"{CLASSNAME} without damage",
)
# Both slots bring their own space, so that an empty word leaves no gap.
_ABNORMAL_STATES = (
    f"{{size}}damaged {CLASSNAME}{{place}}",
    f"{CLASSNAME} with {{size}}flaw{{place}}",
    f"{CLASSNAME} with {{size}}defect{{place}}",
    f"{CLASSNAME} with {{size}}damage{{place}}",
)
_SIZES = ("", "tiny", "small", "big", "large", "huge", "light", "severe")
_PLACES = (
    "",
    "in the middle",
    "in the center",
    "on the left",
    "on the right",
    "on the top",
    "on the bottom",
    "on the top left",
    "on the bottom left",
    "on the top right",
    "on the bottom right",
    "everywhere",
)
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Ensemble:
    """Prompts of both sides; each may contain ``{classname}`` and no other placeholder.

    Examples:
        >>> Ensemble("short", ("a {classname}",), ("a broken {classname}",)).abnormal
        ('a broken {classname}',)
    """

    name: str
    normal: tuple[str, ...]
    abnormal: tuple[str, ...]


def winclip(sizes: bool = False, places: bool = False) -> Ensemble:
    """WinCLIP's compositional ensemble: every state in every template.

    Order: template by template, in each the states; abnormal states vary slowest by kind (damaged,
    flaw, defect, damage), then by size word, then by place.

    Args:
        sizes: put each of eight size words (one of them empty) before the flaw.
        places: put each of twelve places (one of them empty) after the state.
    """
    size_words = [f"{size} " if size else "" for size in (_SIZES if sizes else ("",))]
    place_words = [f" {place}" if place else "" for place in (_PLACES if places else ("",))]
    abnormal = [
        state.replace("{size}", size).replace("{place}", place)
        for state in _ABNORMAL_STATES
        for size in size_words
        for place in place_words
    ]
    name = "winclip" + "_sizes" * sizes + "_places" * places
    return Ensemble(name, _in_templates(_NORMAL_STATES), _in_templates(abnormal))


def load_ensemble(name_or_path: str, base: Path | None = None) -> Ensemble:
    """A shipped ensemble by name, or the one in a JSON file of the official format.

    The format is ``{"normal": {"prompts": [...]}, "abnormal": {"prompts": [...]}}``; other keys,
    such as ``instruction``, are ignored. A shipped name wins over a file of the same name.

    Args:
        name_or_path: one of :data:`SHIPPED`, or a path.
        base: folder that a relative path starts from; the working directory if None.

    Raises:
        DataError: naming the file and what is wrong with it.

    Examples:
        >>> ensemble = load_ensemble("winclip")
        >>> len(ensemble.normal), len(ensemble.abnormal)
        (154, 88)
    """
    if name_or_path in _WINCLIP_VARIANTS:
        return winclip(*_WINCLIP_VARIANTS[name_or_path])
    if name_or_path in SHIPPED:
        file = resources.files("fade") / "ensembles" / f"{name_or_path}.json"
        return _parse(file.read_bytes(), name_or_path, f"shipped ensemble {name_or_path}")
    path = (base or Path()) / name_or_path
    if not name_or_path or not os.path.isfile(path):  # pathlib raises for names too long
        raise DataError(
            f"prompts: {name_or_path!r} is neither a shipped ensemble ({', '.join(SHIPPED)}) "
            f"nor a file (looked for {path})"
        )
    with readable(f"prompt file {path}"):
        content = read_plain(path)
    return _parse(content, name_or_path, f"prompt file {path}")


def manual(normal: Sequence[str], abnormal: Sequence[str]) -> Ensemble:
    """An ensemble of prompts given by hand, at least one a side.

    Raises:
        ParameterError: for an empty side, an empty or ill-typed prompt, an unknown placeholder.

    Examples:
        >>> manual(["a good {classname}"], ["a {classname} with a crack"])
        Ensemble(name='manual', normal=('a good {classname}',), abnormal=('a {classname} with a crack',))
    """
    return Ensemble(
        "manual",
        _checked_side(normal, "normal", "manual prompts", ParameterError),
        _checked_side(abnormal, "abnormal", "manual prompts", ParameterError),
    )


def fill(ensembles: Sequence[Ensemble], word: str, template: str) -> tuple[list[str], np.ndarray]:
    """The sentences to embed, in the official order, which some classifiers depend on.

    Ensembles in the given order, in each the normal prompts first, then the abnormal ones. Repeated
    sentences are kept: they weigh more.

    Args:
        ensembles: at least one.
        word: put in for ``{classname}``, underscores read as spaces.
        template: wrapped around each prompt; contains ``{prompt}``.

    Returns:
        m sentences, and their labels: (m,) int8, 1 = abnormal.

    Raises:
        ParameterError: no ensembles, an empty word, or a template without ``{prompt}`` or with
            another placeholder.

    Examples:
        >>> ensemble = manual(["a good {classname}"], ["a broken {classname}"])
        >>> sentences, labels = fill([ensemble], "metal_nut", "a photo of {prompt}")
        >>> sentences, labels.tolist()
        (['a photo of a good metal nut', 'a photo of a broken metal nut'], [0, 1])
    """
    if not ensembles:
        raise ParameterError("prompts: no ensemble is named: give at least one")
    name = word.replace("_", " ").strip()
    if not name:
        raise ParameterError(f"prompts: the word for {CLASSNAME} is {word!r}: give a name")
    check_template(template)
    sentences: list[str] = []
    labels: list[int] = []
    for ensemble in ensembles:
        for label, prompts in enumerate((ensemble.normal, ensemble.abnormal)):
            sentences += [template.replace(PROMPT, p.replace(CLASSNAME, name)) for p in prompts]
            labels += [label] * len(prompts)
    return sentences, np.array(labels, dtype=np.int8)


def check_template(template: str) -> None:
    """Refuse a template without ``{prompt}`` or with another placeholder (ParameterError).

    Examples:
        >>> check_template("a photo.")
        Traceback (most recent call last):
            ...
        fade.errors.ParameterError: text.template 'a photo.' lacks {prompt}: the official one is ...
    """
    unknown = _unknown_placeholder(template, PROMPT)
    if unknown:
        raise ParameterError(
            f"text.template {template!r} contains {unknown!r}: only {PROMPT} may stand in braces"
        )
    if PROMPT not in template:
        raise ParameterError(
            f"text.template {template!r} lacks {PROMPT}: the official one is {DEFAULT_TEMPLATE!r}"
        )


def ensemble_digest(ensembles: Sequence[Ensemble]) -> str:
    """Hex SHA-256 of the prompts and their order; the ensembles' names do not count.

    Examples:
        >>> first, second = manual(["good"], ["bad"]), manual(["bad"], ["good"])
        >>> ensemble_digest([first]) == ensemble_digest([second])
        False
    """
    content = [[ensemble.normal, ensemble.abnormal] for ensemble in ensembles]
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _in_templates(states: Sequence[str]) -> tuple[str, ...]:
    return tuple(template.replace("{}", state) for template in _TEMPLATES for state in states)


def _parse(content: bytes, name: str, source: str) -> Ensemble:
    try:
        document = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON in UTF-8: {error}") from error
    sides = []
    for side in ("normal", "abnormal"):
        block = document.get(side) if isinstance(document, dict) else None
        if not isinstance(block, dict) or "prompts" not in block:
            raise DataError(f'{source} lacks "{side}": {{"prompts": [...]}}')
        sides.append(_checked_side(block["prompts"], side, source, DataError))
    return Ensemble(name, sides[0], sides[1])


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a key given twice one value would be lost without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice in an object")
    return found


def _checked_side(prompts: Any, side: str, source: str, error: type[FadeError]) -> tuple[str, ...]:
    if not isinstance(prompts, list | tuple):
        raise error(f"{source}: {side} prompts are a {type(prompts).__name__}: give a list")
    if not prompts:
        raise error(f"{source}: there are no {side} prompts: give at least one")
    for number, prompt in enumerate(prompts, start=1):
        where = f"{source}: {side} prompt {number}"
        if not isinstance(prompt, str):
            raise error(f"{where} is {json.dumps(prompt, default=repr)}: give a string")
        if not prompt.strip():
            raise error(f"{where} is empty: write it or remove it")
        if _HALF_CHARACTER.search(prompt):
            raise error(f"{where} is {json.dumps(prompt)}, half a character: write it anew")
        unknown = _unknown_placeholder(prompt, CLASSNAME)
        if unknown:
            raise error(f"{where} contains {unknown!r}: only {CLASSNAME} may stand in braces")
    return tuple(prompts)


def _unknown_placeholder(text: str, known: str) -> str | None:
    return next((found for found in _BRACES.findall(text) if found != known), None)
