"""Whether a project's dvc.yaml tells DVC all that the stages of this version read and write.

``fade new`` writes the file, and an upgrade leaves it as it is. A parameter that it does not name could
be changed without any stage running again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fade.errors import ParameterError
from pipeline.artefacts.parameters import DVC_FILE, named_parameters, outs_of, stages_of
from pipeline.config.originals import original
from pipeline.config.yaml12 import load_yaml
from pipeline.project.code import is_project

MOST_NAMES = 5
"""Names that a refusal lists of each stage."""


def lacking(folder: Path = Path()) -> dict[str, list[str]]:
    """What the stages of a project's dvc.yaml do not name and this version's do, by stage.

    More may stand there, such as files of one's own to watch, and stages may be left out. Nothing is
    said of a clone, whose dvc.yaml is the original.
    """
    if not is_project(folder):
        return {}
    own = stages_of(folder / DVC_FILE)
    found = {
        stage: list(_lacks(own[stage], entry))
        for stage, entry in load_yaml(original("dvc.yaml"))["stages"].items()
        if isinstance(own.get(stage), dict)
    }
    return {stage: names for stage, names in found.items() if names}


def check_own_stages(folder: Path = Path()) -> None:
    """Refuse a dvc.yaml of another version, with which DVC would take old results for new ones.

    Raises:
        ParameterError: with what it lacks and how to renew it.
    """
    if found := lacking(folder):
        raise ParameterError(refusal_of(found))


def refusal_of(found: Mapping[str, list[str]]) -> str:
    """What to say of a dvc.yaml that lacks something."""
    listed = "; ".join(
        f"{stage}: {', '.join(names[:MOST_NAMES])}{' ...' if len(names) > MOST_NAMES else ''}"
        for stage, names in found.items()
    )
    return (
        f"{DVC_FILE} is of another version and does not name all that this one's stages use ({listed}): "
        "renew it with `fade new . --force`, which keeps all other settings, then add again what you "
        "added to it yourself"
    )


def _lacks(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Parameters, dependencies and outputs that an entry of dvc.yaml does not name."""
    try:
        named = named_parameters(own)
        deps, outs = {*(own.get("deps") or ())}, {*outs_of(own)}
    except (TypeError, AttributeError, ValueError):
        return  # DVC says what is wrong with it
    for file, names in named_parameters(wanted).items():
        # a file without names stands for all of it
        known = {""} if named.get(file) == [] else {*named.get(file, ())}
        yield from (name for name in names if not known & {"", name, *_around(name, ".")})
    for there, paths in ((deps, wanted.get("deps") or ()), (outs, outs_of(wanted))):
        yield from (path for path in paths if not there & {path, *_around(path, "/")})


def _around(name: str, separator: str) -> Iterator[str]:
    """The sections that a parameter lies in, or the folders of a file.

    >>> list(_around("vision.bank.size", "."))
    ['vision.bank', 'vision']
    """
    while separator in name:
        name = name.rpartition(separator)[0]
        yield name
