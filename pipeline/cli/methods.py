"""The command that sets methods side by side."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fade.errors import DataError, ModelError
from pipeline.cli.app import app
from pipeline.cli.completion import complete_preset
from pipeline.cli.options import Metrics, echo, echo_text, named_place


@app.command(epilog="Example: fade methods /data/parts --preset own-offline --preset own-fewshot")
def methods(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Where the data set is.")],
    preset: Annotated[
        list[str] | None,
        typer.Option(
            "--preset",
            help="Of each method; may be repeated. Default: the light ones.",
            autocompletion=complete_preset,
        ),
    ] = None,
    out: Annotated[
        str, typer.Option("--out", help="Folder of the projects, their store and methods.csv.")
    ] = "methods",
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A leaf of all of them, such as vision.shots=[1,4]; may be repeated."
        ),
    ] = None,
    metric: Metrics = None,
) -> None:
    """Run several presets on one data set, and print one table: method by shots, time, bytes.

    Each is a project in --out, all with one store: what two of them encode alike is encoded once.
    """
    from pipeline.config.presets.catalogue import find_preset
    from pipeline.project.methods import (
        LIGHT,
        PAGE,
        TABLE,
        leaf_values,
        markdown,
        plan_project,
        run_project,
        write_page,
        write_project,
        write_table,
    )
    from pipeline.report.summary import DEFAULT_METRICS

    place, leaves = named_place(out), leaf_values(values or [])
    names = [find_preset(name).name for name in dict.fromkeys(preset or LIGHT)]
    if "://" not in data and not os.path.exists(os.path.expanduser(data)):
        raise DataError(f"there is nothing at {data}: name the data set's folder or file")
    ready = []
    for name in names:
        planned = plan_project(place / name, name, data, leaves)
        if isinstance(planned, str):
            echo(f"warning: {name} is left out: {planned}", err=True)
        else:
            ready.append(planned)
    if not ready:
        raise ModelError(f"none of {', '.join(names)} can run here: see above")
    for project in ready:  # once all are known to run
        write_project(project)
    outcomes = []
    for number, project in enumerate(ready, start=1):
        where = f"{number} of {len(ready)} presets, in {project.folder}"
        echo(f"{project.preset}: {where}", err=True)
        outcomes.append(run_project(project.folder, project.preset))
    write_table(outcomes, place / TABLE)
    metrics = metric or DEFAULT_METRICS
    write_page(outcomes, place / PAGE, metrics, data.rstrip("/").rpartition("/")[2])
    echo_text(markdown(outcomes, metrics))
    echo(f"{place / TABLE} written; {place / PAGE} has it and each report in a tab", err=True)
