"""Where this project's code lies, and the dvc.yaml and params.yaml from which projects are made."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_HERE = Path(__file__).parent
ROOT = _HERE.parents[1]
"""The folder that holds the packages: a clone, or an environment's site-packages."""
OWN_PACKAGES = ("cache", "fade", "pipeline", "stages")
"""The packages of this project, in :data:`ROOT`."""

TEMPLATE = _HERE / "params.yaml"
"""What every params.yaml is made from. The clone's own is a copy of it, which people and DVC change."""

Original = Literal["dvc.yaml", "params.yaml"]


def original(name: Original) -> str:
    """The text of one of them: the template, or the dvc.yaml of the clone, which the wheel holds, too.

    Examples:
        >>> original("params.yaml").count("dataset:")
        1
    """
    packaged = _HERE / name
    return (packaged if packaged.is_file() else ROOT / name).read_text(encoding="utf-8")
