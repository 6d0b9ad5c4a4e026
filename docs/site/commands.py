"""The reference of the command line: a section for each command, with its own ``--help``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer


@dataclass(frozen=True, slots=True)
class Command:
    """A command as the reference shows it.

    Attributes:
        name: as it is typed, such as ``fade cache info``.
        summary: the first paragraph of its help.
        help: all of its help, as a terminal of 80 columns prints it.
    """

    name: str
    summary: str
    help: str


def commands() -> list[Command]:
    """Every command of ``fade`` in the order of ``fade --help``, groups resolved."""
    from pipeline.cli.commands import app

    return list(_walk(typer.main.get_command(app), "fade", None))


def markdown() -> str:
    """The reference as a page's body."""
    return "\n".join(
        f"## {command.name}\n\n{command.summary}\n\n```text\n{command.help}\n```\n"
        for command in commands()
    )


def _walk(command: Any, name: str, parent: Any) -> Iterator[Command]:
    context = command.make_context(
        name.rpartition(" ")[2], [], parent=parent, resilient_parsing=True,
        terminal_width=80, max_content_width=80,
    )  # fmt: skip
    inner = getattr(command, "commands", None)
    if inner is None:
        summary = re.split(r"\n\s*\n", command.help.strip())[0]
        yield Command(name, " ".join(summary.split()), context.get_help().rstrip())
        return
    for word, one in inner.items():
        yield from _walk(one, f"{name} {word}", context)
