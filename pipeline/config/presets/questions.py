"""The questions of ``fade init`` and ``fade new``, where a person sits at the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from fade.datasets.detect import detect_format
from fade.errors import DataError, ParameterError
from pipeline.config.presets.catalogue import DEMO, FIRST, OFFLINE_NAME, PRESETS, find_preset
from pipeline.config.values import PARAMS_FILE

ALL = "?"
"""The answer that lists all presets."""
_LOOKED_AT = 50
"""Folders that are looked into."""
_SHOWN = 5
"""Data sets that are named."""


def ask_folder() -> str:
    """Ask which folder is to become a project."""
    return str(_answer("Which folder shall be made?", default="inspection"))


def ask(
    unreachable: str | None = None, *, everything: bool = False, home: Path = Path()
) -> tuple[str, str | None, str | None]:
    """Ask for a preset, and for its images and weights where it needs any.

    Args:
        unreachable: why no model can be fetched, where that is so.
        everything: whether all presets are shown at once, and not the first ones.
        home: folder in which data sets are looked for; what is there is offered.

    Returns:
        The preset's name, and what was answered in place of its data set and weights; None where
        the preset's own was taken.
    """
    found = data_sets(home)
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        typer.echo(f"  (images found here: {', '.join([*found][:_SHOWN])}{more})")
    _show(everything)
    if unreachable:
        typer.echo(
            f"  ({unreachable}: demo and own-offline need no download, others a checkpoint file)"
        )
    usual = DEMO if not found else OFFLINE_NAME if unreachable else FIRST[1]
    while (name := _answer("Which preset?", default=usual, value_proc=_preset)) == ALL:
        _show(everything=True)
    if name == DEMO:
        return name, None, None
    values = PRESETS[name].values
    own = values["dataset.format"]
    fitting = [place for place, kind in found.items() if own in ("folder", kind)]
    data = _answer("Where are the images?", default=next(iter(fitting), values["dataset.path"]))
    if encoder := values.get("vision.encoder"):
        question = f"Which weights of {encoder}? A checkpoint file; nothing: its own"
        return name, data, _answer(question, default="", show_default=False) or None
    weights = _answer(
        f"Which weights of {values['model.name']}? A checkpoint file, or an open_clip tag",
        default=values["model.pretrained"],
    )
    return name, data, weights


def data_sets(home: Path) -> Mapping[str, str]:
    """Folders below one that have a layout that is read, with their format; projects are none.

    Folders that cannot be listed are passed over: nobody named them.
    """
    try:
        places = sorted(
            place
            for place in home.iterdir()
            if place.is_dir() and not place.name.startswith(".") and place.name.isprintable()
        )
    except OSError:
        return {}
    found: dict[str, str] = {}
    for place in places[:_LOOKED_AT]:
        try:
            kind = None if (place / PARAMS_FILE).exists() else detect_format(place)
        except (DataError, OSError):
            continue
        if kind:
            found[str(place)] = kind
    return found


def _answer(question: str, **options: Any) -> Any:
    """What is typed; Ctrl+C and the end of input interrupt the command as elsewhere."""
    try:
        return typer.prompt(question, **options)
    except typer.Abort:
        raise KeyboardInterrupt from None


def _show(everything: bool) -> None:
    names = PRESETS if everything else FIRST
    width = max(map(len, names))
    for name in names:
        typer.echo(f"  {name:<{width}}  {PRESETS[name].summary}")
    if not everything:
        others = len(PRESETS) - len(FIRST)
        typer.echo(f"  ({others} more, those of papers too: answer {ALL}, or start with --all)")


def _preset(answer: str) -> str:
    if answer.strip() == ALL:
        return ALL
    try:
        return find_preset(answer.strip()).name
    except ParameterError as error:
        raise typer.BadParameter(str(error)) from None
