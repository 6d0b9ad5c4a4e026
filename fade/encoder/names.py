"""Names of models: which are refused before anything is fetched, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fade.errors import ModelError
from fade.lean_import import open_clip_library

CHOICE = "choose one such as ViT-B-16-plus-240, ViT-B-16 or ViT-L-14"

_OPENAI = {
    "openai/clip-vit-base-patch32": "ViT-B-32-quickgelu",
    "openai/clip-vit-base-patch16": "ViT-B-16-quickgelu",
    "openai/clip-vit-large-patch14": "ViT-L-14-quickgelu",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336-quickgelu",
}
"""The same weights by their names in transformers and in open_clip."""


def registered() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """All weights that open_clip knows: the model, their tag, and what it knows of them."""
    open_clip = open_clip_library()

    for model, tag in open_clip.list_pretrained():
        yield model, tag, open_clip.get_pretrained_cfg(model, tag)


def repository_of(known: Mapping[str, Any]) -> str:
    """The repository ``ORG/REPO`` of weights that open_clip knows; empty without one."""
    return str(known.get("hf_hub") or "").rstrip("/")


def find_repository(repository: str) -> tuple[str, str] | None:
    """The model and tag by which open_clip knows a hub's repository ``ORG/REPO``."""
    open_clip = open_clip_library()

    if repository.lower() in _OPENAI:
        return _OPENAI[repository.lower()], "openai"
    found = [
        (model, tag, bool(known.get("quick_gelu")))
        for model, tag, known in registered()
        if repository_of(known).lower() == repository.lower()
    ]
    # of a model and its twin the one with the activation of the weights
    for model, tag, quick in found:
        config = open_clip.get_model_config(model) or {}
        if bool(config.get("quick_gelu")) == quick:
            return model, tag
    return None


def check_name(name: str) -> None:
    """Refuse a model's name that can be told to be none, before a hub is asked.

    Raises:
        ModelError: with the name to write instead, where there is one.

    Examples:
        >>> check_name("ViT-B-16")
        >>> check_name("ViT-B-61")
        Traceback (most recent call last):
            ...
        fade.errors.ModelError: model.name: open_clip has no model 'ViT-B-61'; did you mean ViT-B-16, ...
    """
    if name.endswith(".json") or name.startswith("local-dir:"):
        return
    open_clip = open_clip_library()
    repository = name.removeprefix("hf-hub:")
    if "siglip" in repository.lower():
        raise ModelError(
            f"model.name: {name} is a SigLIP model: it pools by attention and has no class token, which "
            f"FADE's features are taken from: {CHOICE}"
        )
    if name.startswith("hf-hub:"):
        if repository.lower() in _OPENAI:
            raise _transformers(name, _OPENAI[repository.lower()])
        return
    if name in open_clip.list_models():
        config = open_clip.get_model_config(name) or {}
        reason = _tower_problem(config.get("vision_cfg") or {})
        if reason:
            raise not_plain(name, reason)
        return
    if name.lower() in _OPENAI:
        raise _transformers(name, _OPENAI[name.lower()])
    known = find_repository(name)
    if known:
        raise ModelError(
            f"model.name: {name} is a repository, which open_clip knows by other names: set model.name "
            f"to {known[0]} and model.pretrained to {known[1]}"
        )
    short = name.replace("/", "-").replace("@", "-").removesuffix("px")
    for own in (f"{short}-quickgelu", short):
        if short != name and own in open_clip.list_models():
            raise ModelError(
                f"model.name: open_clip does not call it {name!r}: set model.name to {own} and "
                "model.pretrained to openai"
            )
    if "/" in name:
        raise ModelError(
            f"model.name: open_clip has no model {name!r}: if it is a hub's repository with an "
            f"open_clip_config.json, write hf-hub:{name}; models of other libraries are not read"
        )
    close = get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise ModelError(f"model.name: open_clip has no model {name!r}{hint}")


def check_weights(pretrained: str) -> None:
    """Refuse a repository's name without ``hf-hub:`` that open_clip knows by a tag (ModelError).

    Examples:
        >>> check_weights("openai")
        >>> check_weights("laion/CLIP-ViT-B-16-laion2B-s34B-b88K")
        Traceback (most recent call last):
            ...
        fade.errors.ModelError: ...: set model.name to ViT-B-16 and model.pretrained to laion2b_s34b_b88k
    """
    if "/" not in pretrained or pretrained.startswith("hf-hub:") or Path(pretrained).exists():
        return
    known = find_repository(pretrained)
    if known:
        raise ModelError(
            f"model.pretrained: {pretrained} is a repository, which open_clip knows by other names: set "
            f"model.name to {known[0]} and model.pretrained to {known[1]}"
        )


def not_plain(name: str, reason: str) -> ModelError:
    """The refusal of a model that is no plain CLIP ViT."""
    return ModelError(f"model.name: {name} is no plain CLIP ViT ({reason}): {CHOICE}")


def _transformers(name: str, own: str) -> ModelError:
    return ModelError(
        f"model.name: {name} holds a model of the library transformers, which is not read; open_clip has "
        f"the same weights: set model.name to {own} and model.pretrained to openai"
    )


def _tower_problem(vision: Mapping[str, Any]) -> str:
    """Why a vision tower is no plain ViT by its config; empty where that does not tell."""
    if vision.get("timm_model_name"):
        return f"its vision tower is timm's {vision['timm_model_name']}"
    if isinstance(vision.get("layers"), list):
        return "its vision tower is a ResNet"
    if vision.get("attentional_pool"):
        return "it pools by attention"
    if vision.get("pool_type", "tok") != "tok":
        return f"it pools by {vision['pool_type']!r} instead of a class token"
    return ""
