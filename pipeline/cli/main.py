"""The command line ``fade``: each command calls one function of the pipeline."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from fade.errors import FadeError, StoreError
from pipeline.process.ending import end_at_once
from pipeline.process.signals import end_in_order, see_children_end
from pipeline.process.streams import open_closed_streams

if TYPE_CHECKING:
    from pipeline.inference.bundle_graphs import GraphsAhead


def at_home(word: str) -> str:
    """A word of the command line with ~ written out where a shell does not: --data=~/parts, '~/*.png'."""
    option, equals, value = word.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(word)


def graphs_ahead(words: Sequence[str]) -> GraphsAhead | None:
    """The graphs of a bundle that images are judged with, made ready while the rest is imported.

    What the words name wrongly is refused by who reads them.
    """
    named = [after for word, after in pairwise(words) if word == "--bundle"]
    named += [word.partition("=")[2] for word in words if word.startswith("--bundle=")]
    if not {"predict", "show"}.intersection(words[:1]) or "--help" in words or not named:
        return None
    from pipeline.inference.bundle_graphs import GraphsAhead

    # who watches a folder runs on when the bundle is overwritten
    watching = any(word.partition("=")[0] == "--watch" for word in words)
    return GraphsAhead(Path(named[-1]), in_place=not watching)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process; errors become a line and an exit code."""
    end_in_order()
    see_children_end()
    open_closed_streams()
    try:
        words = [at_home(word) for word in (sys.argv[1:] if arguments is None else arguments)]
        graphs = graphs_ahead(words)
        from pipeline.cli.commands import built_for, warnings_as_lines

        with warnings_as_lines():
            built_for(words)(args=words, prog_name="fade", obj=graphs)
    except KeyboardInterrupt:  # while libraries are imported: later typer ends the same way
        sys.exit(130)
    except Exception as error:
        from pipeline.cli.options import echo
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


def program() -> None:
    """The command line as a program of its own, see :mod:`pipeline.process.ending`."""
    try:
        main()
    except SystemExit as end:
        from pipeline.cli.predict import ANOMALOUS

        if end.code in (None, 0, ANOMALOUS):  # after an error files that were begun are removed
            end_at_once(int(end.code or 0))
        raise


if __name__ == "__main__":
    program()
