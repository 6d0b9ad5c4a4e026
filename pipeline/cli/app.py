"""The command line's groups, and what ``fade`` itself says."""

from __future__ import annotations

from typing import Annotated

import typer

from fade import __version__
from pipeline.cli.options import echo

app = typer.Typer(
    help="Few-shot and zero-shot visual anomaly detection as a batch pipeline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cache_app = typer.Typer(
    help="Look into the feature store, and tidy it.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(cache_app, name="cache", epilog="Example: fade cache info")
export_app = typer.Typer(
    help="Write maps, masks, regions or features as files that other tools read.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(export_app, name="export", epilog="Example: fade export maps anomaly_maps")


def _version(asked: bool) -> None:
    if asked:
        echo(f"fade {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Example: fade new inspection --preset own-fewshot --data parts\n\n"
    "Exit codes: 0 done, 1 unexpected, 2 parameters, 3 data, 4 model, 5 store or artefact, 10 predict "
    "found an anomalous image, 130 interrupted."
)
def _fade(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version.")
    ] = False,
) -> None:
    pass
