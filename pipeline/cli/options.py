"""Options and answers that the commands of ``fade`` share."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fade.errors import ParameterError, counted, plain
from pipeline.cli.completion import complete_categories, complete_category, complete_preset

if TYPE_CHECKING:
    from fade.types import Trial


TableFormat = Literal["markdown", "latex", "csv"]
MapFormat = Literal["tiff", "png"]
Layout = Literal["mvtec", "dataset"]
MapSize = Literal["image", "map"]
FloatType = Literal["float32", "float16"]
SubmissionTarget = Literal["mvtec-ad-2", "mvtec-ad", "mvtec-loco"]
OnnxNumbers = Literal["fp32", "int8"]
FeatureFormat = Literal["parquet", "npy"]
WhichSplit = Literal["test", "train", "all"]

Images = Annotated[
    list[str] | None, typer.Argument(help="Files, folders, or globs in quotes; not with --watch.")
]


Category = Annotated[
    str | None,
    typer.Option(
        "--category",
        help="The category; not needed if there is one.",
        autocompletion=complete_category,
    ),
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
    str | None,
    typer.Option(
        "--preset",
        help="Its name, see fade presets; default: demo.",
        autocompletion=complete_preset,
    ),
]


AllPresets = Annotated[
    bool, typer.Option("--all", help="When it asks, show all presets, those of papers too.")
]


Data = Annotated[str | None, typer.Option("--data", help="Where the data set is.")]


NewWeights = Annotated[
    str | None, typer.Option("--weights", help="A checkpoint file or an open_clip tag.")
]


NewEncoder = Annotated[
    str | None,
    typer.Option("--encoder", help="vision.encoder: a name of timm, efficientnet-lite0, and more."),
]


EncoderWeights = Annotated[
    str | None, typer.Option("--encoder-weights", help="A checkpoint file of vision.encoder.")
]


Categories = Annotated[
    str | None,
    typer.Option(
        "--categories",
        help="Some of them: a,b,c; quotes hold a comma.",
        autocompletion=complete_categories,
    ),
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


def echo(line: str, *, err: bool = False) -> None:
    """Print a line; names in it may hold line breaks and what steers a terminal."""
    typer.echo(plain(line), err=err)


def echo_aside(line: str) -> None:
    """Print a line beside work that goes on where its reader, such as `head`, stops."""
    try:
        echo(line)
    except BrokenPipeError:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def echo_text(text: str) -> None:
    """Print lines whose names were made plain already, but for what steers a terminal."""
    for line in text.removesuffix("\n").split("\n"):
        echo(line)


def write_json(content: Any) -> None:
    """Print JSON, as `--json` asks for it."""
    from pipeline.process.json_text import json_text

    typer.echo(json_text(content, indent=1))


def say_found(found: Any, lines: Callable[[Any], Iterable[str]], as_json: bool) -> None:
    """Print what a command found: a dataclass, or several, as JSON, or its lines."""
    if as_json:
        write_json([asdict(one) for one in found] if isinstance(found, list) else asdict(found))
        return
    for line in lines(found):
        echo(line)


def say_exported(content: Mapping[str, Any], line: str, trial: Trial, as_json: bool) -> None:
    """Print what an export wrote of a trial, as JSON or as a line."""
    if as_json:
        write_json({**content, "shots": trial.shots, "seed": trial.seed})
    else:
        echo(f"{line} of {counted(trial.shots, 'shot')}, seed {trial.seed}")


def named_place(given: str) -> Path:
    """A place to write to; an empty one, as of an unset variable, would be this folder."""
    if not given:
        raise ParameterError("--out is empty: name a place to write to")
    return Path(given)


_NAME = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"]|"")*?[^"\s](?:[^"]|"")*)"|(?P<plain>[^,"\s][^,]*?))\s*(?P<end>,|\Z)',
    re.S,
)


def split_names(names: str | None) -> list[str] | None:
    """Names with commas between; spaces around them do not count, double quotes hold a comma.

    A quote within such quotes is doubled, as in CSV.
    """
    if names is None:
        return None
    found, place, more = [], 0, True
    while more and (match := _NAME.match(names, place)):
        found.append((match["quoted"] or "").replace('""', '"') or match["plain"])
        place, more = match.end(), match["end"] == ","
    if more:
        raise ParameterError(
            f"--categories {names!r} is no list of names: write a,b,c, and a name that holds a comma in "
            "double quotes: 'a,\"b, large\"'"
        )
    return found
