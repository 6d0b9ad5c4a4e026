"""The command that measures time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import app
from pipeline.cli.options import (
    BundleFile,
    Category,
    Download,
    Json,
    Seed,
    Shots,
    Weights,
    echo,
    say_found,
)
from pipeline.cli.predict import open_predictor


@app.command(epilog="Example: fade measure --category cable --images 100")
def measure(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Files, folders or globs; default: test images."),
    ] = None,
    category: Category = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="How many to time; default: 1000.")
    ] = None,
    warm_up: Annotated[
        int | None,
        typer.Option("--warm-up", min=0, help="How many before; default: 10, on a GPU 1000."),
    ] = None,
    bundle: BundleFile = None,
    weights: Weights = None,
    download: Download = False,
    shots: Shots = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Measure time and memory, one image at a time.

    From pixels in memory to score, decision and map, as MVTec AD 2 asks for it.
    """
    from fade.errors import ParameterError
    from pipeline.inference.measure import DEFAULT_IMAGES, WARM_UP, lines, run_images
    from pipeline.inference.measure import measure as measure_predictor
    from pipeline.inference.output import choose_category, find_images
    from pipeline.process.progress import Progress

    if files is None and bundle is not None:
        raise ParameterError("a bundle holds no test images: name image files to measure with")
    predictor = open_predictor(bundle, weights, download, shots, seed)
    chosen = choose_category(predictor, category)
    found = run_images(predictor.params, chosen, Path()) if files is None else find_images(files)
    count = images or DEFAULT_IMAGES
    total = count + (min(WARM_UP[predictor.device], count) if warm_up is None else warm_up)
    with Progress(total, "measure", say=lambda line: echo(line, err=True)) as progress:
        measured = measure_predictor(predictor, found, chosen, count, warm_up, progress.advance)
    say_found(measured, lines, as_json)
