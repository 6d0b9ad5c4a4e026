"""Commands that make a project, look at it and run it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fade.errors import ParameterError, counted
from pipeline.cli.app import app
from pipeline.cli.completion import complete_categories, complete_stage
from pipeline.cli.options import (
    AllPresets,
    Data,
    EncoderWeights,
    Json,
    NewEncoder,
    NewWeights,
    Preset,
    echo,
    say_found,
    write_json,
)


def _answers(
    preset: str | None,
    data: str | None,
    weights: str | None,
    encoder: bool = False,
    everything: bool = False,
) -> tuple[str, Any, Any]:
    """What was given; if nothing was and the terminal is one, what a person answers.

    Whoever names an encoder for vision, and no preset, means the one that has such an encoder.
    """
    from pipeline.config.presets.catalogue import DEMO, OFFLINE_NAME

    given = encoder or (preset, data, weights) != (None, None, None)
    if given or not _is_asked():
        return preset or (OFFLINE_NAME if encoder else DEMO), data, weights
    from pipeline.config.presets.questions import ask
    from pipeline.features.hub import unreachable

    return ask(unreachable(), everything=everything)


def _is_asked() -> bool:
    """Whether a person sits at the terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _say_what_is_missing(params: Path, data: str | None) -> None:
    """Say what to do about a folder of images that no run could read, and about weights that cannot
    be had here nor by download.
    """
    from pipeline.config.load import load_params
    from pipeline.config.presets.catalogue import data_remark
    from pipeline.project.check_model import missing_weights
    from pipeline.stage import require_packages_of_runs

    lines = [data_remark(data)]
    try:
        require_packages_of_runs()
        lines.append(missing_weights(load_params(params)))
    except ParameterError as error:  # the project is made: who lacks them may run it elsewhere
        lines.append(str(error))
    for line in lines:
        if line:
            echo(f"warning: {line}", err=True)


@app.command(epilog="Example: fade presets --json")
def presets(as_json: Json = False) -> None:
    """List the presets for fade init."""
    from pipeline.config.presets.catalogue import PRESETS

    if as_json:
        write_json(
            [{"name": preset.name, "summary": preset.summary} for preset in PRESETS.values()]
        )
        return
    width = max(map(len, PRESETS))
    for preset in PRESETS.values():
        echo(f"{preset.name:<{width}}  {preset.summary}")


@app.command(epilog="Example: fade init --preset mvtec-fewshot-both --data /data/mvtec")
def init(
    preset: Preset = None,
    data: Data = None,
    weights: NewWeights = None,
    encoder: NewEncoder = None,
    encoder_weights: EncoderWeights = None,
    everything: AllPresets = False,
    force: Annotated[bool, typer.Option("--force", help="Replace params.yaml.")] = False,
) -> None:
    """Write params.yaml into this folder.

    Without options it asks for them where the terminal is one, and takes the demo's elsewhere.
    """
    from fade.files import write_file
    from pipeline.config.presets.catalogue import find_preset, render
    from pipeline.config.values import PARAMS_FILE

    if preset is not None:
        find_preset(preset)
    if PARAMS_FILE.exists() and not force:
        raise ParameterError(f"{PARAMS_FILE} is already here: replace it with --force")
    named = (encoder, encoder_weights) != (None, None)
    preset, data, weights = _answers(preset, data, weights, named, everything)
    data = os.path.expanduser(data) if data else data
    text = render(
        find_preset(preset),
        data=data,
        weights=weights,
        encoder=encoder,
        encoder_weights=encoder_weights,
    )
    write_file(PARAMS_FILE.resolve(), text)  # through a link if it is one
    # where there is no pipeline yet, params.yaml alone cannot run
    then = (
        "start with `fade run`"
        if Path("dvc.yaml").exists()
        else "make this folder a project with `fade new . --force`, which keeps it"
    )
    echo(f"{PARAMS_FILE} written: look it through, then {then}")
    _say_what_is_missing(PARAMS_FILE, data)


@app.command(epilog="Example: fade new inspection --preset own-fewshot --data /data/parts")
def new(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="The folder to make; a terminal asks for it."),
    ] = None,
    preset: Preset = None,
    data: Data = None,
    weights: NewWeights = None,
    encoder: NewEncoder = None,
    encoder_weights: EncoderWeights = None,
    everything: AllPresets = False,
    git: Annotated[bool, typer.Option(help="Make it a git repository (for experiments).")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Renew dvc.yaml; what you set is kept.")
    ] = False,
) -> None:
    """Make a project folder, apart from the program's own.

    Without options it asks for them where the terminal is one, and takes the demo's elsewhere.
    """
    from pipeline.config.load import load_params
    from pipeline.config.presets.catalogue import DEMO, DEMO_DATA, find_preset, render
    from pipeline.config.presets.questions import ask_folder
    from pipeline.config.values import PARAMS_FILE
    from pipeline.project.scaffold import check_apart, create, given_path

    if folder is None:
        if not _is_asked():
            raise ParameterError("which folder shall be made? Name it: `fade new DIR`")
        folder = Path(os.path.expanduser(ask_folder()))
    kept = folder / PARAMS_FILE if force and (folder / PARAMS_FILE).exists() else None
    named = (encoder, encoder_weights) != (None, None)
    preset, data, weights = (
        (preset or DEMO, data, weights)
        if kept
        else _answers(preset, data, weights, named, everything)
    )
    chosen = find_preset(preset)
    check_apart(folder, data)
    # paths in params.yaml start at the project, those of the command line here
    place = os.path.abspath(os.path.expanduser(data)) if data else data
    text = render(
        chosen,
        data=place,
        weights=given_path(weights),
        encoder=encoder,
        encoder_weights=given_path(encoder_weights),
    )
    demo = chosen.name == DEMO and data is None
    if kept:
        demo = load_params(kept).dataset.path == DEMO_DATA
    create(folder, text, demo=demo, git=git, force=force)
    echo(f"{folder} is a project now: go there, look through params.yaml, start with `fade run`")
    _say_what_is_missing(folder / PARAMS_FILE, data)


@app.command(epilog="Example: fade run --limit 5 --categories bottle,cable")
def run(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            help="Stages to bring up to date; default: all.", autocompletion=complete_stage
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run them even if nothing changed.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, help="This time so many test images of each defect, at most."
        ),
    ] = None,
    categories: Annotated[
        str | None,
        typer.Option(
            "--categories",
            help="This time these categories: a,b,c; quotes hold a comma.",
            autocompletion=complete_categories,
        ),
    ] = None,
) -> None:
    """Run the pipeline of this folder (dvc repro)."""
    from pipeline.config.load import load_params
    from pipeline.project.dvc import repro
    from pipeline.project.overrides import described
    from pipeline.project.preflight import categories_named
    from pipeline.project.summary import summary
    from pipeline.stage import require_packages_of_runs

    require_packages_of_runs()
    chosen = None if categories is None else categories_named(categories, load_params().dataset)
    given = {"dataset.limit": limit, "dataset.categories": chosen}
    overrides = {name: value for name, value in given.items() if value is not None}
    if overrides:
        echo(f"this run alone: {described(overrides)}; params.yaml is put back", err=True)
    ended = repro(stages or [], force=force, overrides=overrides)
    if ended.code == 0:
        echo(
            f"{counted(len(ended.ran), 'stage')} ran" if ended.ran else "everything was up to date"
        )
        for line in summary() if not stages or "report" in stages else []:
            echo(line)
    elif ended.log:
        echo(f"what DVC said is in {ended.log}", err=True)
    if overrides and ended.code == 0:
        echo(
            f"results/ is of {described(overrides)}: `fade run` without options brings the rest, "
            "and computes only that",
            err=True,
        )
    raise typer.Exit(ended.code)


@app.command(epilog="Example: fade scan && fade run")
def scan(
    everything: Annotated[
        bool, typer.Option("--all", help="Read every file, not only those of another size or time.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Note new times of files with the same content, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the listing that dataset.watch names up to date with the images."""
    from pipeline.config.load import load_params
    from pipeline.dataset.file_index import scan as scan_data

    params = load_params()
    found = scan_data(params, everything=everything, refresh=refresh)
    lines = (
        f"{counted(found.files, 'file')}: {found.added} added, {found.changed} changed, {found.removed} "
        f"removed, {found.touched} with another time but the same content; {found.read} were read",
        f"{params.dataset.watch} {'written' if found.written else 'is up to date'}",
    )
    say_found(found, lambda _: lines, as_json)


@app.command(epilog="Example: fade doctor --json")
def doctor(as_json: Json = False) -> None:
    """Look whether this machine and this project are ready to run."""
    from pipeline.project.doctor import diagnose, exit_code

    findings = diagnose()
    say_found(findings, lambda all_: (f"{f.level:<8}{f.topic}: {f.text}" for f in all_), as_json)
    raise typer.Exit(exit_code(findings))


@app.command(epilog="Example: fade plan --images 5000")
def plan(
    images: Annotated[
        int | None, typer.Option(help="For so many test images, in place of the data set's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a run will take: images, room in the store, time."""
    from pipeline.config.load import load_params
    from pipeline.project.plan import lines
    from pipeline.project.plan import plan as plan_run

    say_found(plan_run(load_params(), images), lines, as_json)


@app.command(epilog="Example: fade duplicates --nearest 20")
def duplicates(
    nearest: Annotated[
        int, typer.Option("--nearest", help="So many near pairs at most; 0: none.")
    ] = 10,
    feature: Annotated[
        str | None,
        typer.Option("--feature", help="To compare by; default: the token of a whole image."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for training images among the test images.

    Names pairs with the same content, then the nearest ones by features that the store keeps.
    """
    from pipeline.config.load import load_params
    from pipeline.project.duplicates import find_duplicates, lines

    found = find_duplicates(load_params(), nearest=nearest, label=feature)
    say_found(found, lines, as_json)
