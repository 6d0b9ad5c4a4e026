"""The commands of ``fade``, and how it says warnings."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from copy import copy

import typer
from typer.main import get_command_name

from pipeline.cli.app import app
from pipeline.cli.options import echo

# commands are listed in the order in which their modules are imported
# isort: off
import pipeline.cli.project
import pipeline.cli.results
import pipeline.cli.exports
import pipeline.cli.methods
import pipeline.cli.predict
import pipeline.cli.measure
import pipeline.cli.serve
import pipeline.cli.cache  # noqa: F401
# isort: on

# what is heavy is imported by the command that needs it, so that help comes at once


def built_for(words: Sequence[str]) -> typer.Typer:
    """The command line for some words: with the command that they begin with alone, if it has that.

    To build all of them takes a twentieth of a start.
    """
    first, one = words[0] if words else "", copy(app)
    one.registered_commands = [
        command
        for command in app.registered_commands
        if command.callback
        and first == (command.name or get_command_name(command.callback.__name__))
    ]
    one.registered_groups = [group for group in app.registered_groups if group.name == first]
    return one if one.registered_commands or one.registered_groups else app


class _Lines(logging.Handler):
    """Says warnings as lines, without the prefix that logging itself gives them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record to stderr."""
        echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Let this program's warnings go to the terminal, and nowhere else."""
    log, lines = logging.getLogger("fade"), _Lines(logging.WARNING)
    before, log.propagate = log.propagate, False
    log.addHandler(lines)
    try:
        yield
    finally:
        log.removeHandler(lines)
        log.propagate = before
