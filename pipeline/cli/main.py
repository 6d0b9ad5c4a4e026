"""The command line ``fade``: each command calls one function of the pipeline."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fade import __version__
from fade.errors import FadeError, ParameterError, StoreError, plain
from pipeline.process.signals import end_in_order

if TYPE_CHECKING:
    from cache.maintenance import SpaceCheck
    from fade.types import Trial
    from pipeline.inference.predictor import Predictor

# what is heavy is imported by the command that needs it, so that help comes at once

app = typer.Typer(
    help="Few-shot and zero-shot visual anomaly detection as a batch pipeline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cache = typer.Typer(
    help="Look into the feature store, and tidy it.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(cache, name="cache", epilog="Example: fade cache info")
export = typer.Typer(
    help="Write maps or masks as files that other tools read.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(export, name="export", epilog="Example: fade export maps anomaly_maps")


class TableFormat(StrEnum):
    """What ``fade table`` writes."""

    MARKDOWN = "markdown"
    LATEX = "latex"


class MapFormat(StrEnum):
    """What ``fade export maps`` writes."""

    TIFF = "tiff"
    PNG = "png"


class Layout(StrEnum):
    """How ``fade export`` names files."""

    MVTEC = "mvtec"
    DATASET = "dataset"


class MapSize(StrEnum):
    """At which size ``fade export maps`` writes."""

    IMAGE = "image"
    MAP = "map"


class FloatType(StrEnum):
    """The numbers in TIFF files."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


ANOMALOUS = 10
"""Exit code of ``fade predict`` when an image is anomalous."""

Images = Annotated[list[str], typer.Argument(help="Files, folders, or globs in quotes.")]
Category = Annotated[
    str | None, typer.Option("--category", help="Their category; not needed if there is one.")
]
BundleFile = Annotated[
    Path | None, typer.Option("--bundle", help="A bundle; default: the run of this folder.")
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="Checkpoint file for a bundle without weights.")
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch the model that a bundle names, if it is not here.")
]
Shots = Annotated[int | None, typer.Option("--shots", help="Which trial; default: most shots.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Which trial; default: smallest seed.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Preset = Annotated[
    str | None, typer.Option("--preset", help="Its name, see fade presets; default: demo.")
]
Data = Annotated[str | None, typer.Option("--data", help="Where the data set is.")]
NewWeights = Annotated[
    str | None, typer.Option("--weights", help="A checkpoint file or an open_clip tag.")
]
Categories = Annotated[
    str | None,
    typer.Option("--categories", help="Some of them: a,b,c; quotes hold a comma."),
]
ExportFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write into.")]
ExportLayout = Annotated[
    Layout,
    typer.Option("--layout", help="category/test/defect/name, or the data set's own folders."),
]
ExportForce = Annotated[
    bool, typer.Option("--force", help="Write even if the folder is not empty.")
]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", help="A metric, e.g. full_image_aupr; may be repeated."),
]
StorePlace = Annotated[
    str | None,
    typer.Option("--store", help="The store's folder or URL; default: that of params.yaml."),
]


def _echo(line: str, *, err: bool = False) -> None:
    """Print a line; names in it may hold line breaks and what steers a terminal."""
    typer.echo(plain(line), err=err)


def _echo_text(text: str) -> None:
    """Print lines whose names were made plain already, but for what steers a terminal."""
    for line in text.removesuffix("\n").split("\n"):
        _echo(line)


def _write_json(content: Any) -> None:
    from pipeline.stage import json_text

    typer.echo(json_text(content, indent=1))


def _named_place(given: str) -> Path:
    """A place to write to; an empty one, as of an unset variable, would be this folder."""
    if not given:
        raise ParameterError("--out is empty: name a place to write to")
    return Path(given)


def split_names(names: str | None) -> list[str] | None:
    """Names with commas between; spaces around them do not count, quotes hold a comma."""
    if names is None:
        return None
    try:
        (found,) = csv.reader([names.strip()], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        found = []
    found = [name.strip() for name in found]
    if not found or not all(found):
        raise ParameterError(
            f"--categories {names!r} is no list of names: write a,b,c, and a name that holds a comma in "
            "double quotes: 'a,\"b, large\"'"
        )
    return found


def _answers(preset: str | None, data: str | None, weights: str | None) -> tuple[str, Any, Any]:
    """What was given; if nothing was and the terminal is one, what a person answers."""
    from pipeline.config.presets.catalogue import DEMO

    given = (preset, data, weights) != (None, None, None)
    if given or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return preset or DEMO, data, weights
    from pipeline.config.presets.questions import ask

    return ask()


def _version(asked: bool) -> None:
    if asked:
        _echo(f"fade {__version__}")
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


@app.command(epilog="Example: fade presets --json")
def presets(as_json: Json = False) -> None:
    """List the presets for fade init."""
    from pipeline.config.presets.catalogue import PRESETS

    if as_json:
        _write_json(
            [{"name": preset.name, "summary": preset.summary} for preset in PRESETS.values()]
        )
        return
    width = max(map(len, PRESETS))
    for preset in PRESETS.values():
        _echo(f"{preset.name:<{width}}  {preset.summary}")


@app.command(epilog="Example: fade init --preset mvtec-fewshot-both --data /data/mvtec")
def init(
    preset: Preset = None,
    data: Data = None,
    weights: NewWeights = None,
    force: Annotated[bool, typer.Option("--force", help="Replace params.yaml.")] = False,
) -> None:
    """Write params.yaml into this folder.

    Without options it asks for them where the terminal is one, and takes the demo's elsewhere.
    """
    from fade.files import write_whole
    from pipeline.config.presets.catalogue import find_preset, render
    from pipeline.config.schema import PARAMS_FILE

    if preset is not None:
        find_preset(preset)
    if PARAMS_FILE.exists() and not force:
        raise ParameterError(f"{PARAMS_FILE} is already here: replace it with --force")
    preset, data, weights = _answers(preset, data, weights)
    data = os.path.expanduser(data) if data else data
    text = render(find_preset(preset), data=data, weights=weights)
    write_whole(PARAMS_FILE.resolve(), text)  # through a link if it is one
    # where there is no pipeline yet, params.yaml alone cannot run
    then = (
        "start with `fade run`"
        if Path("dvc.yaml").exists()
        else "make this folder a project with `fade new . --force`, which keeps it"
    )
    _echo(f"{PARAMS_FILE} written: look it through, then {then}")


@app.command(epilog="Example: fade new inspection --preset own-fewshot --data /data/parts")
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    preset: Preset = None,
    data: Data = None,
    weights: NewWeights = None,
    git: Annotated[bool, typer.Option(help="Make it a git repository (for experiments).")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Replace its files, params.yaml excepted.")
    ] = False,
) -> None:
    """Make a project folder, apart from the program's own.

    Without options it asks for them where the terminal is one, and takes the demo's elsewhere.
    """
    from pipeline.config.load import load_params
    from pipeline.config.presets.catalogue import DEMO, DEMO_DATA, find_preset, render
    from pipeline.config.schema import PARAMS_FILE
    from pipeline.project.scaffold import create, given_path

    kept = folder / PARAMS_FILE if force and (folder / PARAMS_FILE).exists() else None
    preset, data, weights = (
        (preset or DEMO, data, weights) if kept else _answers(preset, data, weights)
    )
    chosen = find_preset(preset)
    # paths in params.yaml start at the project, those of the command line here
    place = os.path.abspath(os.path.expanduser(data)) if data else data
    text = render(chosen, data=place, weights=given_path(weights))
    demo = chosen.name == DEMO and data is None
    if kept:
        demo = load_params(kept).dataset.path == DEMO_DATA
    create(folder, text, demo=demo, git=git, force=force)
    _echo(f"{folder} is a project now: go there, look through params.yaml, start with `fade run`")


@app.command(epilog="Example: fade run --limit 5 --categories bottle,cable")
def run(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages to bring up to date; default: all.")
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
        ),
    ] = None,
) -> None:
    """Run the pipeline of this folder (dvc repro)."""
    from pipeline.config.load import load_params
    from pipeline.project.dvc import repro
    from pipeline.project.overrides import described
    from pipeline.project.preflight import categories_named
    from pipeline.project.summary import counted, summary

    chosen = None if categories is None else categories_named(categories, load_params().dataset)
    given = {"dataset.limit": limit, "dataset.categories": chosen}
    overrides = {name: value for name, value in given.items() if value is not None}
    if overrides:
        _echo(f"this run alone: {described(overrides)}; params.yaml is put back", err=True)
    ended = repro(stages or [], force=force, overrides=overrides)
    if ended.code == 0:
        _echo(
            f"{counted(len(ended.ran), 'stage')} ran" if ended.ran else "everything was up to date"
        )
        for line in summary() if not stages or "report" in stages else []:
            _echo(line)
    elif ended.log:
        _echo(f"what DVC said is in {ended.log}", err=True)
    if overrides and ended.code == 0:
        _echo(
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
    from dataclasses import asdict

    from pipeline.config.load import load_params
    from pipeline.dataset.file_index import scan as scan_data

    params = load_params()
    found = scan_data(params, everything=everything, refresh=refresh)
    if as_json:
        _write_json(asdict(found))
        return
    _echo(
        f"{found.files} files: {found.added} added, {found.changed} changed, {found.removed} "
        f"removed, {found.touched} with another time but the same content; {found.read} were read"
    )
    _echo(f"{params.dataset.watch} {'written' if found.written else 'is up to date'}")


@app.command(epilog="Example: fade doctor --json")
def doctor(as_json: Json = False) -> None:
    """Look whether this machine and this project are ready to run."""
    from dataclasses import asdict

    from pipeline.project.doctor import diagnose, exit_code

    findings = diagnose()
    if as_json:
        _write_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _echo(f"{finding.level:<8}{finding.topic}: {finding.text}")
    raise typer.Exit(exit_code(findings))


@app.command(epilog="Example: fade plan --images 5000")
def plan(
    images: Annotated[
        int | None, typer.Option(help="For so many test images, in place of the data set's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a run will take: images, room in the store, time."""
    from dataclasses import asdict

    from pipeline.config.load import load_params
    from pipeline.project.plan import lines
    from pipeline.project.plan import plan as plan_run

    found = plan_run(load_params(), images)
    if as_json:
        _write_json(asdict(found))
    else:
        for line in lines(found):
            _echo(line)


@app.command(epilog="Example: fade compare ../before/results results")
def compare(
    a: Annotated[Path, typer.Argument(help="A results or project folder.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    metric: Metrics = None,
    as_json: Json = False,
) -> None:
    """Set the metrics of two runs side by side."""
    from pipeline.report.comparison import compare as compare_runs
    from pipeline.report.comparison import comparison_json, comparison_markdown
    from pipeline.report.paper_table import DEFAULT_METRICS, read_summary

    differences = compare_runs(read_summary(a), read_summary(b), metric or DEFAULT_METRICS)
    if as_json:
        _write_json(comparison_json(differences))
    else:
        _echo_text(comparison_markdown(differences, str(a), str(b)))


@app.command(epilog="Example: fade table --format latex --metric full_pixel_auroc > table.tex")
def table(
    results: Annotated[Path, typer.Argument(help="A results or project folder.")] = Path("results"),
    form: Annotated[
        TableFormat | None, typer.Option("--format", help="For which reader; default: markdown.")
    ] = None,
    metric: Metrics = None,
    as_json: Json = False,
) -> None:
    """Print the results as a paper does.

    Categories by shots, in percent.
    """
    from pipeline.report.paper_table import (
        DEFAULT_METRICS,
        latex_table,
        markdown_table,
        read_summary,
        table_json,
    )

    if as_json:
        if form is not None:
            raise ParameterError("--json and --format exclude each other: give one of them")
        _write_json(table_json(read_summary(results), metric or DEFAULT_METRICS))
        return
    render = latex_table if form is TableFormat.LATEX else markdown_table
    _echo_text(render(read_summary(results), metric or DEFAULT_METRICS))


def _predictor(
    bundle: Path | None, weights: Path | None, download: bool, shots: int | None, seed: int | None
) -> Predictor:
    from pipeline.inference.predictor import Predictor

    if bundle is None:
        if weights is not None:
            raise ParameterError("--weights goes with --bundle: a run has its own in params.yaml")
        if download:
            raise ParameterError("--download goes with --bundle: a run has its model already")
        return Predictor.from_run(shots=shots, seed=seed)
    if shots is not None or seed is not None:
        raise ParameterError("--shots and --seed go with runs: a bundle holds one trial")
    return Predictor.from_bundle(bundle, weights=weights, download=download)


@app.command(epilog="Example: fade predict new/*.png --category cable --out predictions")
def predict(
    images: Images,
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
            parser=_named_place,
            metavar="<path>",
            help="Folder for tables, heat maps and masks.",
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Whether --out gets PNG files.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines.")] = False,
) -> None:
    """Score new images with a finished run or a bundle."""
    from pipeline.artefacts.catalogue import prepare_folder
    from pipeline.inference.output import (
        check_problems,
        choose_category,
        find_images,
        others_line,
        predict_each,
        record,
        score_line,
        summary_line,
        threshold_line,
        write_predictions,
    )  # fmt: skip
    from pipeline.process.progress import Progress
    from pipeline.stage import json_text

    others: list[str] = []
    found = find_images(images, out, others)
    if others:
        _echo(others_line(others), err=True)
    if out is not None:
        prepare_folder(out)  # before the model is loaded
    predictor = _predictor(bundle, weights, download, shots, seed)
    category = choose_category(predictor, category)
    threshold = predictor.material.thresholds[category]
    _echo(threshold_line(threshold), err=True)
    if threshold.warning:
        _echo(f"warning: {category}: {threshold.warning}", err=True)
    problems: list[str] = []
    keep = out is not None and pictures
    predictions = predict_each(predictor, found, category, problems, keep=keep)
    if out is not None:
        predictions = write_predictions(predictions, out, pictures=pictures)
    counts = {True: 0, False: 0, None: 0}
    # on a terminal the lines show how far it is
    quiet = 0 if sys.stdout.isatty() else len(found)
    with Progress(quiet, "predict", say=lambda line: _echo(line, err=True)) as progress:
        for prediction in predictions:
            counts[prediction.decision] += 1
            _echo(json_text(record(prediction)) if as_json else score_line(prediction))
            if quiet:
                progress.advance()
    _echo(summary_line(counts[True], counts[False], counts[None], len(problems)), err=True)
    check_problems(problems, sum(counts.values()))
    if counts[True]:
        raise typer.Exit(ANOMALOUS)


@app.command(epilog="Example: fade bundle cable.fade --with-weights")
def bundle(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    category: Annotated[
        list[str] | None,
        typer.Option("--category", help="One to take along; may be repeated; default: all."),
    ] = None,
    shots: Shots = None,
    seed: Seed = None,
    with_weights: Annotated[
        bool, typer.Option("--with-weights", help="Take the model's weights along.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write one file to predict with on another machine."""
    from pipeline.inference.bundle import write_bundle
    from pipeline.inference.run import FinishedRun

    run = FinishedRun(shots=shots, seed=seed)
    categories = write_bundle(run, path, with_weights=with_weights, categories=category)
    if as_json:
        _write_json(
            {
                "bundle": str(path), "categories": list(categories), "shots": run.trial.shots,
                "seed": run.trial.seed, "weights": with_weights, "bytes": path.stat().st_size,
            }
        )  # fmt: skip
        return
    _echo(
        f"{path}: {len(categories)} categories, {run.trial.shots} shots, seed {run.trial.seed}, "
        f"{path.stat().st_size:,} bytes"
    )


@app.command(epilog="Example: fade show new/007.png --category cable --out why.png")
def show(
    image: Annotated[str, typer.Argument(help="The image.")],
    category: Category = None,
    bundle: BundleFile = None,
    weights: Weights = None,
    download: Download = False,
    shots: Shots = None,
    seed: Seed = None,
    level: Annotated[
        int | None,
        typer.Option("--level", min=0, max=255, help="In place of the pixel threshold."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=_named_place, metavar="<path>", help="A PNG file, with numbered boxes."
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
    predictor = _predictor(bundle, weights, download, shots, seed)
    prediction, regions = predictor.explain(
        image, choose_category(predictor, category), level=level
    )
    if as_json:
        _write_json(explanation_json(prediction, regions))
    else:
        _echo_text(explanation_text(prediction, regions))
    if out is not None:
        write_png(draw_explanation(prediction, regions), out)


@export.command("maps", epilog="Example: fade export maps anomaly_images --dtype float16")
def export_maps(
    folder: ExportFolder,
    form: Annotated[
        MapFormat, typer.Option("--format", help="tiff: numbers as they are; png: 256 levels.")
    ] = MapFormat.TIFF,
    layout: ExportLayout = Layout.MVTEC,
    size: Annotated[
        MapSize, typer.Option("--size", help="As large as the image, or as the map is.")
    ] = MapSize.IMAGE,
    dtype: Annotated[FloatType, typer.Option("--dtype", help="Of tiff files.")] = (
        FloatType.FLOAT32
    ),
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
        run, folder, form=form.value, layout=layout.value, size=size.value, dtype=dtype.value,
        categories=split_names(categories), force=force,
    )  # fmt: skip
    _say_exported(folder, count, "maps", run.trial, as_json)


@export.command("masks", epilog="Example: fade export masks anomaly_images_thresholded")
def export_masks(
    folder: ExportFolder,
    layout: ExportLayout = Layout.MVTEC,
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
        run, folder, layout=layout.value, categories=split_names(categories), force=force
    )
    _say_exported(folder, count, "masks", run.trial, as_json)


def _say_exported(folder: Path, count: int, what: str, trial: Trial, as_json: bool) -> None:
    if as_json:
        _write_json(
            {"folder": str(folder), "files": count, "shots": trial.shots, "seed": trial.seed}
        )
    else:
        _echo(f"{folder}: {count} {what} of {trial.shots} shots, seed {trial.seed}")


def _place(given: str) -> Path | str:
    return given if "://" in given else Path(given)


def _store_root(given: str | None) -> Path | str:
    from pipeline.artefacts.catalogue import store_root
    from pipeline.config.load import load_params
    from pipeline.config.schema import PARAMS_FILE

    if given is not None:
        return _place(given)
    return store_root(load_params().features.store if PARAMS_FILE.exists() else None)


@cache.command(epilog="Example: fade cache info --json")
def info(store: StorePlace = None, as_json: Json = False) -> None:
    """List what the feature store holds."""
    from dataclasses import asdict

    from cache.maintenance import describe, open_store

    spaces = describe(open_store(_store_root(store)))
    if as_json:
        _write_json([asdict(space) for space in spaces])
        return
    form = "{:<20}  {:<8}  {:>10}  {:>8}  {:>15}".format
    _echo(form("label", "space", "rows", "segments", "bytes"))
    for space in spaces:
        _echo(
            form(space.label, space.fingerprint[:8], space.rows, space.segments, f"{space.bytes:,}")
        )
    total = (
        sum(getattr(space, name) for space in spaces) for name in ("rows", "segments", "bytes")
    )
    rows, segments, size = total
    _echo(form("total", "", rows, segments, f"{size:,}"))


@cache.command(epilog="Example: fade cache verify")
def verify(
    store: StorePlace = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Remove damaged segments from the index, and receipts whose rows are gone.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Read everything in the feature store back, and account for every row; nothing is changed."""
    from dataclasses import asdict

    from cache.maintenance import open_store, undescribed, withdraw_damaged
    from cache.maintenance import verify as verify_space
    from pipeline.artefacts.receipts import lost_rows, void_receipts

    opened = open_store(_store_root(store))
    checks = []
    for space in opened.spaces():
        check = verify_space(opened, space)
        checks.append(check)
        if not as_json:
            _echo_check(check)
    orphans = undescribed(opened)
    lost = lost_rows(opened, damaged={check.fingerprint: check.damaged for check in checks})
    if repair:
        withdraw_damaged(opened, checks)
        void_receipts(opened)
    if as_json:
        _write_json(
            {
                "spaces": [
                    {
                        **asdict(check),
                        "damaged": list(check.damaged.values()),
                        "strange": check.unrecognized,  # as it was called before
                    }
                    for check in checks
                ],
                "nameless": orphans,
                "lost": [{"receipt": str(path), "reason": line} for path, line in lost],
                "repaired": repair,
            }
        )
    else:
        for name in orphans:
            _echo(f"spaces/{name}: its space.json is gone or damaged, nobody reads its rows")
        for path, line in lost:
            _echo(f"lost: {path}: {line}")
    damaged = sum(len(check.damaged) for check in checks)
    found = f"{damaged} damaged segments, {len(lost)} receipts with rows that are gone"
    if repair and not as_json:
        _echo(
            f"repaired: {found}: the segments were removed from the index and the receipts deleted; "
            "`fade run` computes what is needed again"
            if damaged or lost
            else "nothing to repair"
        )
    elif (damaged or lost) and not repair:
        raise StoreError(
            f"{found}: `fade cache verify --repair` removes them, then `fade run` computes what is "
            "needed again"
        )


def _echo_check(check: SpaceCheck) -> None:
    copies = f", and {check.copies} copies of them" if check.copies else ""
    _echo(f"{check.label} ({check.fingerprint[:8]}): {check.rows} rows are sound{copies}")
    for line in check.damaged.values():
        _echo(f"damaged: {line}")
    for segment in check.unpublished:
        _echo(f"no index entry: segments/{segment} (of a killed or a running writer)")
    for name in check.unrecognized:
        _echo(f"publishes nothing: index/{name} (cut short, or no index entry)")


@cache.command("copy", epilog="Example: fade cache copy .fade/store s3://bucket/store")
def copy_rows(
    source: Annotated[str, typer.Argument(help="Folder or URL of the store to copy from.")],
    target: Annotated[str, typer.Argument(help="Folder or URL of the store to copy into.")],
    as_json: Json = False,
) -> None:
    """Copy what one feature store lacks from another one."""
    from dataclasses import asdict

    from cache.maintenance import copy, open_store
    from cache.store import Store

    copied = []
    for space in copy(open_store(_place(source)), Store(_place(target))):
        copied.append(space)
        if not as_json:
            _echo(
                f"{space.label} ({space.fingerprint[:8]}): {space.rows} rows, {space.bytes:,} bytes"
            )
    if as_json:
        _write_json([asdict(space) for space in copied])


@cache.command(epilog="Example: fade cache prune --dry-run")
def prune(
    store: StorePlace = None,
    unused: Annotated[
        bool, typer.Option("--unused", help="Also rows that this project's results do not need.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is younger than a day: only if nothing runs.")
    ] = False,
    keep: Annotated[
        list[Path] | None,
        typer.Option(
            "--keep", help="With --unused: another project that shares the store; may be repeated."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Delete leftovers of killed runs, and duplicates."""
    from cache.maintenance import find_removable, open_store, remove
    from pipeline.artefacts.receipts import needed_rows, void_receipts

    opened = open_store(_store_root(store))
    needed = needed_rows([Path(), *(keep or ())]) if unused else None
    removals = find_removable(opened, needed=needed, everything=everything)
    groups: dict[tuple[str, str], list[int]] = {}
    for removal in removals:
        groups.setdefault((removal.label, removal.reason), []).append(removal.bytes)
    total = sum(removal.bytes for removal in removals)
    receipts: list[Path] = []
    if not dry_run:
        remove(opened, removals)
        receipts = void_receipts(opened)
    if as_json:
        _write_json(
            {
                "dry_run": dry_run,
                "bytes": total,
                "removals": [
                    {"label": label, "reason": reason, "segments": len(sizes), "bytes": sum(sizes)}
                    for (label, reason), sizes in sorted(groups.items())
                ],
                "receipts": list(map(str, receipts)),
            }
        )
        return
    for (label, reason), sizes in sorted(groups.items()):
        _echo(f"{label}: {len(sizes)} {reason}, {sum(sizes):,} bytes")
    if dry_run:
        _echo(f"{total:,} bytes would be freed")
        return
    for receipt in receipts:
        _echo(f"{receipt} deleted: rows of it are gone, `fade run` computes them anew")
    _echo(f"{total:,} bytes freed")


def at_home(word: str) -> str:
    """A word of the command line with ~ written out where a shell does not: --data=~/parts, '~/*.png'."""
    option, equals, value = word.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(word)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process; errors become a line and an exit code."""
    end_in_order()
    try:
        given = sys.argv[1:] if arguments is None else arguments
        app(args=[at_home(word) for word in given], prog_name="fade")
    except Exception as error:
        from pipeline.process.dvc_watchdog import running_dvc
        from pipeline.stage import TRACEBACK, for_people, one_line

        if os.environ.get(TRACEBACK):
            raise
        if known := for_people(error):
            line, code = one_line(known), known.exit_code
            if isinstance(known, StoreError) and (number := running_dvc()):
                line = (
                    f"a run is going on in this folder (process {number}): wait for its end; {line}"
                )
        else:
            line = f"unexpected {type(error).__name__}: {one_line(' '.join(str(error).split()))}"
            line += f"; set {TRACEBACK}=1 for a traceback"
            code = FadeError.exit_code
        _echo(f"error: {line}", err=True)
        sys.exit(code)


if __name__ == "__main__":
    main()
