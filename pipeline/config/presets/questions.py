"""The questions of ``fade init`` and ``fade new``, where a person sits at the terminal."""

from __future__ import annotations

import os

import click

from fade.errors import ParameterError
from pipeline.config.presets.catalogue import DEMO, PRESETS, find_preset


def ask(unreachable: str | None = None) -> tuple[str, str | None, str | None]:
    """Ask for a preset, and for its images and weights where it needs any.

    Args:
        unreachable: why no model can be fetched, where that is so.

    Returns:
        The preset's name, and what was answered in place of its data set and weights; None where
        the preset's own was taken.
    """
    width = max(map(len, PRESETS))
    for preset in PRESETS.values():
        click.echo(f"  {preset.name:<{width}}  {preset.summary}")
    if unreachable:
        click.echo(
            f"  ({unreachable}: demo and own-offline need no download, others a checkpoint file)"
        )
    name = click.prompt("Which preset?", default=DEMO, value_proc=_preset)
    if name == DEMO:
        return name, None, None
    values = PRESETS[name].values
    data = click.prompt("Where are the images?", default=values["dataset.path"])
    if not os.path.exists(os.path.expanduser(data)):
        click.echo(f"  (there is nothing at {data} yet: put them there before `fade run`)")
    if encoder := values.get("vision.encoder"):
        question = f"Which weights of {encoder}? A checkpoint file; nothing: its own"
        return name, data, click.prompt(question, default="", show_default=False) or None
    weights = click.prompt(
        f"Which weights of {values['model.name']}? A checkpoint file, or an open_clip tag",
        default=values["model.pretrained"],
    )
    return name, data, weights


def _preset(answer: str) -> str:
    try:
        return find_preset(answer.strip()).name
    except ParameterError as error:
        raise click.UsageError(str(error)) from None
