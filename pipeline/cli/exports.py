"""Commands that write what a run left in formats of other tools: COCO, FiftyOne, Parquet, .npy."""

from __future__ import annotations

from typing import Annotated

import typer

from fade.errors import counted
from pipeline.cli.app import export_app
from pipeline.cli.options import (
    Categories,
    ExportFolder,
    ExportForce,
    FeatureFormat,
    Json,
    Seed,
    Shots,
    WhichSplit,
    echo,
    say_exported,
    split_names,
    write_json,
)


@export_app.command("coco", epilog="Example: fade export coco regions")
def export_coco(
    folder: ExportFolder,
    categories: Categories = None,
    shots: Shots = None,
    seed: Seed = None,
    force: ExportForce = False,
    as_json: Json = False,
) -> None:
    """Write regions above the pixel threshold as COCO instances.

    instances.json has polygons, boxes, areas and scores of the connected regions of each test image.
    """
    from pipeline.inference.coco import COCO_FILE, export_coco
    from pipeline.inference.run import FinishedRun

    run = FinishedRun(shots=shots, seed=seed)
    images, regions = export_coco(run, folder, categories=split_names(categories), force=force)
    content = {"file": str(folder / COCO_FILE), "images": images, "regions": regions}
    line = f"{folder / COCO_FILE}: {counted(regions, 'region')} in {counted(images, 'image')}"
    say_exported(content, line, run.trial, as_json)


@export_app.command("fiftyone", epilog="Example: fade export fiftyone to_fiftyone")
def export_fiftyone(
    folder: ExportFolder,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the images into the folder, so that it can move.")
    ] = False,
    categories: Categories = None,
    shots: Shots = None,
    seed: Seed = None,
    force: ExportForce = False,
    as_json: Json = False,
) -> None:
    """Write predictions, maps and regions as a folder that FiftyOne imports.

    In FiftyOne: Dataset.from_dir(dataset_dir=DIR, dataset_type=fiftyone.types.FiftyOneDataset).
    """
    from pipeline.inference.fiftyone_folder import export_fiftyone
    from pipeline.inference.run import FinishedRun

    run = FinishedRun(shots=shots, seed=seed)
    count = export_fiftyone(run, folder, copy=copy, categories=split_names(categories), force=force)
    content = {"folder": str(folder), "images": count}
    say_exported(content, f"{folder}: {counted(count, 'image')}", run.trial, as_json)


@export_app.command("features", epilog="Example: fade export features vectors --format npy")
def export_features(
    folder: ExportFolder,
    feature: Annotated[
        list[str] | None,
        typer.Option("--feature", help="Its name; may be repeated; default: all that are kept."),
    ] = None,
    form: Annotated[
        FeatureFormat, typer.Option("--format", help="npy comes with a CSV file of keys.")
    ] = "parquet",
    split: Annotated[WhichSplit, typer.Option("--split", help="Of which images.")] = "test",
    image: Annotated[
        list[str] | None,
        typer.Option("--image", help="A pattern for paths in the data set; may be repeated."),
    ] = None,
    categories: Categories = None,
    force: ExportForce = False,
    as_json: Json = False,
) -> None:
    """Write features that the store keeps, a file for each, with the images' paths and hashes."""
    from pipeline.config.load import load_params
    from pipeline.inference.feature_files import export_features

    found = export_features(
        load_params(), folder, labels=feature or (), form=form, split=split,
        images=image or (), categories=split_names(categories), force=force,
    )  # fmt: skip
    if as_json:
        write_json({"folder": str(folder), "format": form, "features": found})
        return
    for label, count in found.items():
        echo(f"{folder}: {label} of {counted(count, 'image')}")
