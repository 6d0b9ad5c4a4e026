"""QuickGELU or GELU: weights work with the one that they were trained with, and do not say which.

A checkpoint's tensors are the same for both, and with the wrong one features are quietly worse. So
what open_clip knows of weights is held against the model that they are loaded into.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fade.encoder.names import registered, repository_of
from fade.errors import ModelError
from fade.files import read_text
from fade.lean_import import open_clip_library

log = logging.getLogger("fade")

_SUFFIX = "-quickgelu"
_HASHES = (re.compile(r"/([0-9a-f]{60,64})/[^/]+$"), re.compile(r"-([0-9a-f]{8})\.\w+$"))
"""Patterns of addresses that hold (the beginning of) the weights' SHA-256."""

Known = tuple[str, str, Mapping[str, Any]]


def check_activation(weights: str, name: str, is_quick: bool, *, read: bool = True) -> None:
    """Refuse weights that are known to be trained with another activation than the model has.

    Where nothing is known of them, the log says so.

    Args:
        weights: a checkpoint's path, ``hf-hub:ORG/REPO``, or a tag of open_clip.
        name: of the model.
        is_quick: whether the model computes with QuickGELU.
        read: whether the weights are read for their hash; else names alone tell, and nothing is logged.

    Raises:
        ModelError: with the model to choose instead.

    Examples:
        >>> check_activation("openai", "ViT-B-16-quickgelu", is_quick=True)
        >>> check_activation("openai", "ViT-B-16", is_quick=False)
        Traceback (most recent call last):
            ...
        fade.errors.ModelError: model.pretrained: openai was trained with QuickGELU (...
    """
    if name.endswith(".json") and Path(name).with_suffix("") == Path(weights).with_suffix(""):
        return  # the config and the weights are of one model
    found = trained_with(weights, name, read=read)
    if found is None and not read:
        return
    if found is None:
        log.info(
            "whether %s was trained with QuickGELU cannot be told; %s computes with%s it. The wrong one "
            "makes features quietly worse: see docs/faq.md",
            weights, name, "" if is_quick else "out",
        )  # fmt: skip
        return
    was_quick, reason = found
    if was_quick != is_quick:
        how = "with" if was_quick else "without"
        raise ModelError(
            f"model.pretrained: {weights} was trained {how} QuickGELU ({reason}), unlike {name}: "
            f"{_way_out(name, was_quick)}"
        )


def _way_out(name: str, quick: bool) -> str:
    open_clip = open_clip_library()

    other = name.removesuffix(_SUFFIX) + (_SUFFIX if quick else "")
    if other in open_clip.list_models():
        return f"set model.name to {other}"
    return f'give a config file with "quick_gelu": {str(quick).lower()} as model.name'


def trained_with(weights: str, name: str, *, read: bool = True) -> tuple[bool, str] | None:
    """Whether weights were trained with QuickGELU, and how that is known; None where it is not.

    Known are the repositories, file names, tags in file names and hashes of open_clip's list, and the
    config that lies beside a checkpoint.
    """
    own = {name.removesuffix(_SUFFIX), name.removesuffix(_SUFFIX) + _SUFFIX}
    everything = list(registered())
    fitting = [entry for entry in everything if entry[0] in own]
    if weights.startswith("hf-hub:"):
        return _by_repository(weights.removeprefix("hf-hub:"), everything)
    if of_tag := [entry for entry in fitting if entry[:2] == (name, weights)]:
        return _agreed(of_tag, "open_clip says so")
    path = Path(weights)
    return (
        _by_cache(path, everything)
        or _by_config(path)
        or _by_file_name(path, everything)
        or _by_tag(path, fitting or [entry for entry in everything if _is_telling(entry[1])])
        or (_by_hash(path, fitting or everything) if read else None)
    )


def _is_telling(tag: str) -> bool:
    """Whether a tag means the same in the name of any model's file: short ones are common words."""
    return tag == "openai" or (len(tag) >= 8 and any(letter.isdigit() for letter in tag))


def _agreed(entries: Iterable[Known], reason: str) -> tuple[bool, str] | None:
    """What all entries say, if they say one thing."""
    flags = {bool(known.get("quick_gelu")) for _, _, known in entries}
    return (flags.pop(), reason) if len(flags) == 1 else None


def _by_repository(repository: str, entries: list[Known]) -> tuple[bool, str] | None:
    same = [one for one in entries if repository_of(one[2]).lower() == repository.lower()]
    return _agreed(same, f"open_clip knows {repository} as {same[0][1]}") if same else None


def _by_cache(path: Path, entries: list[Known]) -> tuple[bool, str] | None:
    """By the folder of the hub's cache that a file lies in."""
    for part in reversed(path.absolute().parts):
        if part.startswith("models--"):
            return _by_repository(part.removeprefix("models--").replace("--", "/", 1), entries)
    return None


def _by_config(path: Path) -> tuple[bool, str] | None:
    config = path.with_name("open_clip_config.json")
    try:
        content = json.loads(read_text(config))["model_cfg"]
        return bool(content.get("quick_gelu", False)), f"{config.name} beside it says so"
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def _by_file_name(path: Path, entries: list[Known]) -> tuple[bool, str] | None:
    # OpenAI's files are called after the architecture alone, as anyone's may be
    same = [
        one
        for one in entries
        if one[1] != "openai" and str(one[2].get("url") or "").rpartition("/")[2] == path.name
    ]
    return _agreed(same, f"open_clip's file of that name is {same[0][1]}") if same else None


def _by_tag(path: Path, entries: list[Known]) -> tuple[bool, str] | None:
    stem = re.sub(r"[^a-z0-9]+", "_", path.stem.lower())
    tags = sorted({tag for _, tag, _ in entries}, key=len, reverse=True)
    for tag in tags:
        word = re.sub(r"[^a-z0-9]+", "_", tag.lower())
        if re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", stem):
            same = [one for one in entries if one[1] == tag]
            return _agreed(same, f"its name holds the tag {tag}")
    return None


def _by_hash(path: Path, entries: list[Known]) -> tuple[bool, str] | None:
    hashes = {}
    for entry in entries:
        for form in _HASHES:
            if match := form.search(str(entry[2].get("url") or "")):
                hashes[match[1]] = entry
    if not hashes or not path.is_file():
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    same = [entry for start, entry in hashes.items() if digest.startswith(start)]
    return _agreed(same, f"by its hash it is open_clip's {same[0][1]}") if same else None
