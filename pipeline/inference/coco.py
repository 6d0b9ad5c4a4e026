"""What a run calls anomalous as COCO instances: regions with polygons, boxes and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fade import __version__
from pipeline.inference.exported_scores import exported_scores
from pipeline.inference.exports import exported_images, maps, prepare_export
from pipeline.inference.json_stream import write_json_stream
from pipeline.inference.pixel_calls import PixelCalls, check_pixel_thresholds
from pipeline.inference.regions import mask_regions
from pipeline.inference.run import FinishedRun
from pipeline.process.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

COCO_FILE = "instances.json"


def export_coco(
    run: FinishedRun,
    folder: Path,
    *,
    categories: Sequence[str] | None = None,
    force: bool = False,
) -> tuple[int, int]:
    """Write ``instances.json`` in COCO's format for object detection; the numbers of images and regions.

    An annotation is a connected region of the mask at the image's size. Its ``score`` is the highest
    value of the map in it. The categories are the run's, each the anomalies of one.

    Args:
        folder: to write into, made if missing.
        categories: some of the run's; all by default.
        force: write into a folder that is not empty.

    Raises:
        ParameterError: no maps, no pixel threshold, an unknown category, or a folder that is not empty.
        DataError: no test images.
        StoreError: score components are gone or damaged, or the file cannot be written.
    """
    tests = exported_images(run, categories)
    check_pixel_thresholds(run, tests)
    numbers = {name: k for k, name in enumerate(dict.fromkeys(tests["category"].astype(str)), 1)}
    found = maps(run, tests)
    scores = exported_scores(run, tests)
    prepare_export(folder, force)
    images = [
        {
            "id": number, "file_name": str(row["path"]), "width": int(row["width"]),
            "height": int(row["height"]), "category": str(row["category"]), "score": one.score,
            "threshold": one.threshold, "decision": one.decision, "is_anomaly": one.is_anomaly,
        }
        for number, (row, one) in enumerate(zip(tests.to_dict("records"), scores, strict=True), 1)
    ]  # fmt: skip
    trial, count = run.trial, 0

    def annotations() -> Iterator[dict[str, Any]]:
        nonlocal count
        for annotation in _annotations(run, tests, found, numbers):
            count += 1
            yield {"id": count, **annotation}

    content = {
        "info": {
            "description": f"what FADE Pipeline {__version__} calls anomalous",
            "shots": trial.shots, "seed": trial.seed,
        },
        "licenses": [],
        "categories": [
            {"id": number, "name": name, "supercategory": "anomaly"}
            for name, number in numbers.items()
        ],
        "images": images,
        "annotations": annotations(),
    }  # fmt: skip
    write_json_stream(content, folder / COCO_FILE)
    return len(tests), count


def _annotations(
    run: FinishedRun, tests: pd.DataFrame, found: Iterator[Any], numbers: dict[str, int]
) -> Iterator[dict[str, Any]]:
    calls = PixelCalls.of(run)
    columns = (
        tests["category"].astype(str), tests["width"].astype(int), tests["height"].astype(int),
    )  # fmt: skip
    with Progress(len(tests), "exporting") as progress:
        for image, (category, width, height, values) in enumerate(
            zip(*columns, found, strict=True), 1
        ):
            scale = run.thresholds[category].map_scale
            mask = calls.mask(category, width, height, values)
            for region in mask_regions(mask, calls.levels(category, width, height, values)):
                yield {
                    "image_id": image,
                    "category_id": numbers[category],
                    "segmentation": [
                        [corner for point in ring for corner in point] for ring in region.polygons
                    ],
                    "bbox": list(region.box),
                    "area": region.area,
                    "iscrowd": 0,
                    "score": round(float(scale.values(np.array(region.level))), 6),
                }
            progress.advance()
