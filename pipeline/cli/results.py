"""Commands that read what a run left: tables, comparisons, maps and masks as files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fade.errors import ParameterError, counted
from pipeline.cli.app import app, export_app
from pipeline.cli.options import (
    Categories,
    ExportFolder,
    ExportForce,
    ExportLayout,
    FloatType,
    Json,
    MapFormat,
    MapSize,
    Metrics,
    Seed,
    Shots,
    SubmissionTarget,
    TableFormat,
    echo,
    echo_text,
    say_exported,
    split_names,
    write_json,
)


@app.command(epilog="Example: fade compare ../before/results results")
def compare(
    a: Annotated[Path, typer.Argument(help="A results or project folder.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    metric: Metrics = None,
    unpaired: Annotated[
        bool,
        typer.Option("--unpaired", help="Compare means alone, also of different test images."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Set the metrics of two runs side by side, and say how sure differences are.

    Differences get a 95 % interval, those of image metrics a p-value, over the same images and seeds.
    """
    from pipeline.report.comparison import compare_runs, comparison_json, comparison_markdown
    from pipeline.report.summary import DEFAULT_METRICS

    differences = compare_runs(
        a, b, metric or DEFAULT_METRICS, paired=not unpaired, say=partial(echo, err=True)
    )
    if as_json:
        write_json(comparison_json(differences))
    else:
        echo_text(comparison_markdown(differences, str(a), str(b)))
    _say_notes([a, b])


def _say_notes(places: Sequence[Path]) -> None:
    """What a reader of the runs' numbers must know."""
    from pipeline.report.about import run_notes

    for place in places:
        for line in run_notes(place):
            echo(f"note: {f'{place}: ' if len(places) > 1 else ''}{line}", err=True)


@app.command(epilog="Example: fade table --format latex --metric full_pixel_auroc > table.tex")
def table(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Results or project folders; default: results.")
    ] = None,
    form: Annotated[
        TableFormat | None, typer.Option("--format", help="For which reader; default: markdown.")
    ] = None,
    metric: Metrics = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Show approximate 95 % intervals over images.")
    ] = False,
    bold: Annotated[
        bool, typer.Option("--bold", help="Print the best of each column in bold.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the results as a paper does, in percent.

    One run: categories by shots. Several runs: their means over categories by shots.
    """
    from pipeline.report.intervals import run_intervals
    from pipeline.report.paper_table import metric_tables, other_means, run_tables, table_json
    from pipeline.report.rendering import RENDERERS
    from pipeline.report.summary import DEFAULT_METRICS, read_summary

    places, metrics = results or [Path("results")], metric or DEFAULT_METRICS
    summaries = [read_summary(place) for place in places]
    known = [run_intervals(place) for place in places] if intervals else []
    runs = list(zip(map(str, places), summaries, strict=True))
    if as_json:
        if form is not None or bold:
            raise ParameterError("--json excludes --format and --bold: give one of them")
        records = [
            {**({"run": str(place)} if len(places) > 1 else {}), **record}
            for number, (place, summary) in enumerate(zip(places, summaries, strict=True))
            for record in table_json(summary, metrics, known[number] if known else None)
        ]
        write_json(records)
    else:
        tables = (
            metric_tables(summaries[0], metrics, known[0] if known else None)
            if len(places) == 1
            else run_tables(runs, metrics, known)
        )
        echo_text(RENDERERS[form or "markdown"](tables, bold=bold))
    _say_notes(places)
    for line in other_means(runs, metrics):
        echo(f"note: {line}", err=True)


@export_app.command("maps", epilog="Example: fade export maps anomaly_images --dtype float16")
def export_maps(
    folder: ExportFolder,
    form: Annotated[
        MapFormat, typer.Option("--format", help="tiff: numbers as they are; png: 256 levels.")
    ] = "tiff",
    layout: ExportLayout = "mvtec",
    size: Annotated[
        MapSize, typer.Option("--size", help="As large as the image, or as the map is.")
    ] = "image",
    dtype: Annotated[FloatType, typer.Option("--dtype", help="Of tiff files.")] = "float32",
    categories: Categories = None,
    shots: Shots = None,
    seed: Seed = None,
    force: ExportForce = False,
    as_json: Json = False,
) -> None:
    """Write the anomaly maps of the test images.

    A file for each image. TIFF files hold numbers that are neither quantised nor clipped.
    """
    from pipeline.inference.exports import export_maps
    from pipeline.inference.run import FinishedRun

    run = FinishedRun(shots=shots, seed=seed)
    count = export_maps(
        run, folder, form=form, layout=layout, size=size, dtype=dtype,
        categories=split_names(categories), force=force,
    )  # fmt: skip
    content = {"folder": str(folder), "files": count}
    say_exported(content, f"{folder}: {counted(count, 'map')}", run.trial, as_json)


@export_app.command("masks", epilog="Example: fade export masks anomaly_images_thresholded")
def export_masks(
    folder: ExportFolder,
    layout: ExportLayout = "mvtec",
    categories: Categories = None,
    shots: Shots = None,
    seed: Seed = None,
    force: ExportForce = False,
    as_json: Json = False,
) -> None:
    """Write what is above the pixel threshold.

    255 on 0, a PNG file for each test image, at its size.
    """
    from pipeline.inference.exports import export_masks
    from pipeline.inference.run import FinishedRun

    run = FinishedRun(shots=shots, seed=seed)
    count = export_masks(
        run, folder, layout=layout, categories=split_names(categories), force=force
    )
    content = {"folder": str(folder), "files": count}
    say_exported(content, f"{folder}: {counted(count, 'mask')}", run.trial, as_json)


@export_app.command("submission", epilog="Example: fade export submission mine --for mvtec-ad-2")
def export_submission(
    folder: ExportFolder,
    target: Annotated[
        SubmissionTarget,
        typer.Option("--for", help="A server (mvtec-ad-2), or the scripts of a data set."),
    ],
    masks: Annotated[
        bool, typer.Option("--masks/--no-masks", help="Whether thresholded maps go along.")
    ] = True,
    pack: Annotated[
        bool | None,
        typer.Option("--pack/--no-pack", help="Whether DIR.tar.gz is written; default: to upload."),
    ] = None,
    shots: Shots = None,
    seed: Seed = None,
    force: ExportForce = False,
    as_json: Json = False,
) -> None:
    """Write maps and masks as a benchmark wants them.

    The files are checked against the data set, and packed if they are to be uploaded.
    """
    from pipeline.inference.run import FinishedRun
    from pipeline.inference.submission import write_submission

    run = FinishedRun(shots=shots, seed=seed)
    found = write_submission(run, folder, target, masks=masks, pack=pack, force=force)
    content = {
        "folder": str(folder), "for": target, "maps": found.maps, "masks": found.masks,
        "archive": found.archive and str(found.archive), "notes": list(found.notes),
    }  # fmt: skip
    place = f"{folder}" if found.archive is None else f"{folder}, packed as {found.archive}"
    line = f"{place}: {counted(found.maps, 'map')} and {counted(found.masks, 'mask')}"
    say_exported(content, line, run.trial, as_json)
    for note in () if as_json else found.notes:
        echo(f"note: {note}", err=True)
