"""The command line ``fade``: each command calls one function of the pipeline."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer.main import get_command_name

from fade.errors import FadeError, StoreError
from pipeline.cli.app import app
from pipeline.cli.options import echo
from pipeline.process.signals import end_in_order

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

if TYPE_CHECKING:
    from pipeline.inference.bundle_graphs import GraphsAhead

# what is heavy is imported by the command that needs it, so that help comes at once


def at_home(word: str) -> str:
    """A word of the command line with ~ written out where a shell does not: --data=~/parts, '~/*.png'."""
    option, equals, value = word.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(word)


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


def graphs_ahead(words: Sequence[str]) -> GraphsAhead | None:
    """The graphs of a bundle that images are judged with, made ready while the rest is imported.

    What the words name wrongly is refused by who reads them.
    """
    named = [after for word, after in pairwise(words) if word == "--bundle"]
    named += [word.partition("=")[2] for word in words if word.startswith("--bundle=")]
    if not {"predict", "show"}.intersection(words[:1]) or "--help" in words or not named:
        return None
    from pipeline.inference.bundle_graphs import GraphsAhead

    return GraphsAhead(Path(named[-1]))


class _Lines(logging.Handler):
    """Says warnings as lines, without the prefix that logging itself gives them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record to stderr."""
        echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Let this program's warnings go to the terminal, and nowhere else."""
    log, lines = logging.getLogger("fade"), _Lines(logging.WARNING)
    before, log.propagate = log.propagate, False
    log.addHandler(lines)
    try:
        yield
    finally:
        log.removeHandler(lines)
        log.propagate = before


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process; errors become a line and an exit code."""
    end_in_order()
    try:
        given = sys.argv[1:] if arguments is None else arguments
        with _warnings_as_lines():
            words = [at_home(word) for word in given]
            built_for(words)(args=words, prog_name="fade", obj=graphs_ahead(words))
    except Exception as error:
        from pipeline.process.dvc_watchdog import running_dvc
        from pipeline.stage import TRACEBACK, as_user_error, one_line

        if os.environ.get(TRACEBACK):
            raise
        if known := as_user_error(error):
            line, code = one_line(known), known.exit_code
            if (
                isinstance(known, StoreError)
                and not line.startswith("a run is going on")
                and (number := running_dvc())
            ):
                line = (
                    f"a run is going on in this folder (process {number}): wait for its end; {line}"
                )
        else:
            line = f"unexpected {type(error).__name__}: {one_line(' '.join(str(error).split()))}"
            line += f"; set {TRACEBACK}=1 for a traceback"
            code = FadeError.exit_code
        echo(f"error: {line}", err=True)
        sys.exit(code)


if __name__ == "__main__":
    main()
