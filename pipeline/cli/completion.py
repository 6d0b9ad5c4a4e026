"""What a shell offers behind options and arguments: presets, categories, stages.

A shell asks them while somebody types: they are quick, and offer nothing where they find nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def complete_preset(incomplete: str) -> list[tuple[str, str]]:
    """Presets that begin so, with what they are."""
    from pipeline.config.presets.catalogue import PRESETS

    return [
        (preset.name, preset.summary)
        for preset in PRESETS.values()
        if preset.name.startswith(incomplete)
    ]


def _names(file: Path, *keys: str) -> list[str]:
    """The names below some keys of a YAML or JSON file; none where it is lacking or damaged."""
    import yaml

    from pipeline.config.yaml12 import load_yaml

    try:
        found: Any = load_yaml(file.read_text(encoding="utf-8"))
        for key in keys:
            found = found[key]
        return [str(name) for name in found or ()]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return []  # the command itself says why


def complete_stage(incomplete: str) -> list[str]:
    """Stages of this folder's dvc.yaml that begin so."""
    return [name for name in _names(Path("dvc.yaml"), "stages") if name.startswith(incomplete)]


def _categories() -> list[str]:
    """Categories of the run in this folder; before a run, those that params.yaml names."""
    from pipeline.artefacts.catalogue import CATEGORIES
    from pipeline.config.values import PARAMS_FILE

    return _names(CATEGORIES.path, "categories") or _names(PARAMS_FILE, "dataset", "categories")


def complete_category(incomplete: str) -> list[str]:
    """Categories of this folder that begin so."""
    return [name for name in _categories() if name.startswith(incomplete)]


def _in_a_list(name: str) -> str:
    """A name as a list has it: in double quotes where it needs them, a quote in it doubled."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"' if "," in name or name.startswith('"') else name


def complete_categories(incomplete: str) -> list[str]:
    """Lists ``a,b,c`` whose last name begins so, without the names that the list has already."""
    before, comma, last = incomplete.rpartition(",")
    quoted = {name: _in_a_list(name) for name in _categories()}
    return [
        f"{before}{comma}{text}"
        for name, text in quoted.items()
        if name not in before.split(",") and text.startswith(last)
    ]
