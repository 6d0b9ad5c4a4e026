"""Commands for new images: predict, bundle, show."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fade.errors import ParameterError, StoreError, counted
from pipeline.cli.app import app
from pipeline.cli.completion import complete_category
from pipeline.cli.options import (
    BundleFile,
    Category,
    Download,
    Images,
    Json,
    OnnxNumbers,
    Seed,
    Shots,
    Weights,
    echo,
    echo_aside,
    echo_text,
    named_place,
    write_json,
)

if TYPE_CHECKING:
    from pipeline.inference.bundle_graphs import GraphsAhead
    from pipeline.inference.prediction import Decision
    from pipeline.inference.predictor import Predictor

ANOMALOUS = 10
"""Exit code of ``fade predict`` when an image is anomalous."""


def open_predictor(
    bundle: Path | None, weights: Path | None, download: bool, shots: int | None, seed: int | None,
    graphs: GraphsAhead | None = None,
) -> Predictor:  # fmt: skip
    """The predictor of a bundle, whose graphs may be ready, or of the run of this folder.

    Raises:
        ParameterError: options do not go together.
        StoreError: run or bundle is missing or damaged.
    """
    import cv2  # noqa: F401  (maps need it: imported while the graphs become ready)

    from pipeline.inference.bundle import Bundle
    from pipeline.inference.predictor import Predictor

    if bundle is None:
        if weights is not None:
            raise ParameterError("--weights goes with --bundle: a run has its own in params.yaml")
        if download:
            raise ParameterError("--download goes with --bundle: a run has its model already")
        predictor = Predictor.from_run(shots=shots, seed=seed)
    elif shots is not None or seed is not None:
        raise ParameterError("--shots and --seed go with runs: a bundle holds one trial")
    else:
        predictor = Predictor(Bundle(bundle, weights, download=download, graphs=graphs))
    gc.freeze()  # all this stays: from now on pictures come and go
    gc.set_threshold(10_000)
    return predictor


@app.command(epilog="Example: fade predict new/*.png --category cable --out predictions")
def predict(
    context: typer.Context,
    images: Images = None,
    category: Category = None,
    bundle: BundleFile = None,
    weights: Weights = None,
    download: Download = False,
    shots: Shots = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=named_place,
            metavar="<path>",
            help="Folder for tables, heat maps and masks.",
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Whether --out gets PNG files.")
    ] = True,
    batch: Annotated[
        bool,
        typer.Option("--batch", help="Score the images against each other (vision.rule mutual)."),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Scores above it are anomalous, in place of the run's."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines.")] = False,
    watch: Annotated[
        Path | None,
        typer.Option("--watch", help="A folder whose new images are judged until you end it."),
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", min=0.01, max=3600, help="Seconds between its looks.")
    ] = 1.0,
) -> None:
    """Score new images with a finished run or a bundle."""
    from pipeline.artefacts.catalogue import prepare_folder
    from pipeline.inference.output import (
        check_problems,
        find_images,
        others_line,
        predict_each,
        record,
        score_line,
        summary_line,
        write_predictions,
    )  # fmt: skip
    from pipeline.process.json_text import json_text
    from pipeline.process.progress import Progress

    if watch is not None:
        from pipeline.artefacts.results_state import results_state
        from pipeline.inference.watch import check_folder

        if images:
            raise ParameterError("--watch takes no images: name them in a command of their own")
        if batch:
            raise ParameterError("--watch scores each image alone: leave out --batch")
        if out is None:
            raise ParameterError("--watch needs --out: a folder for the tables that grow")
        check_folder(watch)
        prepare_folder(out)
        project = Path() if bundle is None else None
        state = None if project is None else results_state(project)
        predictor = open_predictor(bundle, weights, download, shots, seed, context.obj)
        category = _decide_by(predictor, category, threshold, batch=False)
        changed = lambda: project is not None and results_state(project) != state  # noqa: E731
        _watch(watch, predictor, category, out, interval, changed, pictures, as_json)
        return
    if not images:
        raise ParameterError("no images: give files, folders or globs, or --watch FOLDER")
    others: list[str] = []
    found = find_images(images, out, others)
    if others:
        echo(others_line(others), err=True)
    if out is not None:
        prepare_folder(out)  # before the model is loaded
    predictor = open_predictor(bundle, weights, download, shots, seed, context.obj)
    category = _decide_by(predictor, category, threshold, batch=batch)
    problems: list[str] = []
    keep = out is not None and pictures
    predictions = predict_each(predictor, found, category, problems, keep=keep, batch=batch)
    if out is not None:
        predictions = write_predictions(predictions, out, pictures=pictures)
    counts: Counter[Decision | None] = Counter()
    # on a terminal the lines show how far it is
    quiet = 0 if sys.stdout.isatty() else len(found)
    say = echo if out is None else echo_aside
    with Progress(quiet, "predict", say=lambda line: echo(line, err=True)) as progress:
        for prediction in predictions:
            counts[prediction.decision] += 1
            say(json_text(record(prediction)) if as_json else score_line(prediction))
            if quiet:
                progress.advance()
    decided = counts["anomalous"], counts["normal"], counts[None]
    echo(summary_line(*decided, len(problems)), err=True)
    check_problems(problems, sum(counts.values()))
    if counts["anomalous"]:
        raise typer.Exit(ANOMALOUS)


def _decide_by(
    predictor: Predictor, category: str | None, threshold: float | None, *, batch: bool
) -> str:
    """The category asked for; its threshold is set, and said with what it rests on."""
    from pipeline.evaluation.normal_thresholds import overridden
    from pipeline.inference.judged import batch_line
    from pipeline.inference.output import choose_category, threshold_line

    category = choose_category(predictor, category)
    if threshold is not None:
        found_there = predictor.thresholds[category]
        predictor.thresholds[category] = overridden(found_there, threshold, (), "--threshold")
    used = predictor.thresholds[category]
    echo(threshold_line(used), err=True)
    if used.warning:
        echo(f"warning: {category}: {used.warning}", err=True)
    if line := batch_line(predictor.params, predictor.trial, batch=batch):
        echo(line, err=True)
    return category


def _watch(
    folder: Path,
    predictor: Predictor,
    category: str,
    out: Path,
    interval: float,
    changed: Callable[[], bool],
    pictures: bool,
    as_json: bool,
) -> None:
    """Judge a folder's images as they come, until an interrupt, SIGTERM, or another run."""
    from pipeline.inference.journal import Journal
    from pipeline.inference.output import record, score_line, summary_line
    from pipeline.inference.watch import Unread, Watch
    from pipeline.process.json_text import json_text
    from pipeline.process.signals import asked_to_stop

    def warn(line: str) -> None:
        echo(f"warning: {line}", err=True)

    counts: Counter[Decision | None] = Counter()
    unread = 0
    with asked_to_stop() as stop, Journal(out) as journal:
        watch = Watch(folder, predictor, category, journal, out=out, pictures=pictures)
        echo(
            f"watching {folder}; {counted(len(journal), 'file')} judged before; end with Ctrl+C",
            err=True,
        )
        while not stop.asked:
            for found in watch.look(warn, lambda: stop.asked or changed()):
                if isinstance(found, Unread):
                    unread += 1
                    warn(found.problem)
                    continue
                counts[found.decision] += 1
                echo(json_text(record(found)) if as_json else score_line(found))
            if not stop.asked and changed():
                raise StoreError(
                    "the project ran again, or runs: start this command again when the run has ended"
                )
            stop.wait(interval)
    if watch.waiting:
        echo(f"waiting for the next start: {counted(watch.waiting, 'file')}", err=True)
    echo(summary_line(counts["anomalous"], counts["normal"], counts[None], unread), err=True)


@app.command(epilog="Example: fade bundle cable.fade --with-weights")
def bundle(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    category: Annotated[
        list[str] | None,
        typer.Option(
            "--category",
            help="One to take along; may be repeated; default: all.",
            autocompletion=complete_category,
        ),
    ] = None,
    shots: Shots = None,
    seed: Seed = None,
    with_weights: Annotated[
        bool, typer.Option("--with-weights", help="Take the model's weights along.")
    ] = False,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Take the model along so that it runs without torch."),
    ] = False,
    precision: Annotated[
        OnnxNumbers | None,
        typer.Option(
            "--precision", help="Of --onnx, by default fp32; int8 calibrates thresholds of its own."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one file to predict with on another machine."""
    from pipeline.evaluation.trials import trial_words
    from pipeline.inference.bundle_writing import write_bundle
    from pipeline.inference.run import FinishedRun

    if precision is not None and not onnx:
        raise ParameterError("--precision goes with --onnx: other bundles have the run's own")
    numbers = (precision or "fp32") if onnx else None
    run = FinishedRun(shots=shots, seed=seed)
    categories = write_bundle(
        run, path, with_weights=with_weights, onnx=numbers, categories=category
    )
    if as_json:
        write_json(
            {
                "bundle": str(path), "categories": list(categories), "shots": run.trial.shots,
                "seed": run.trial.seed, "weights": with_weights, "onnx": numbers,
                "bytes": path.stat().st_size,
            }
        )  # fmt: skip
        return
    echo(
        f"{path}: {counted(len(categories), 'category')}, {trial_words(run.trial)}, "
        f"{path.stat().st_size:,} bytes"
    )


@app.command(epilog="Example: fade show new/007.png --category cable --out why.png")
def show(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help="The image.")],
    category: Category = None,
    bundle: BundleFile = None,
    weights: Weights = None,
    download: Download = False,
    shots: Shots = None,
    seed: Seed = None,
    level: Annotated[
        int | None,
        typer.Option("--level", min=0, max=65535, help="In place of the pixel threshold."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=named_place, metavar="<path>", help="A PNG file, with numbered boxes."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Explain one image.

    Its regions, for each the nearest normal patch, and the prompts most like it.
    """
    from pipeline.inference.output import (
        check_picture_file,
        choose_category,
        draw_explanation,
        explanation_json,
        explanation_text,
        write_png,
    )  # fmt: skip

    if not image:
        raise ParameterError("the image's name is empty: give a file")
    if out is not None:
        check_picture_file(out)  # before the model is loaded
    predictor = open_predictor(bundle, weights, download, shots, seed, context.obj)
    prediction, regions = predictor.explain(
        image, choose_category(predictor, category), level=level
    )
    if out is not None:  # first: who reads the text, such as `head`, may stop
        write_png(draw_explanation(prediction, regions), out)
    if as_json:
        write_json(explanation_json(prediction, regions))
    else:
        echo_text(explanation_text(prediction, regions))
