"""A run's predictions and maps as a folder that FiftyOne imports; FiftyOne itself is not needed.

The layout is that of ``fiftyone.types.FiftyOneDataset`` without a database's ``version`` in
``metadata.json``: samples as JSON with the classes of their labels, media below ``fields/NAME``.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cache.location import open_path
from fade import __version__
from fade.datasets.read import dataset_root
from fade.errors import ParameterError
from fade.files import write_file
from pipeline.artefacts.pictures import write_picture, writing
from pipeline.dataset.loader import read_unchanged
from pipeline.inference.exported_scores import ExportedScore, exported_scores
from pipeline.inference.exports import exported_images, file_names, maps, prepare_export
from pipeline.inference.json_stream import write_json_stream
from pipeline.inference.pixel_calls import PixelCalls
from pipeline.inference.regions import MaskRegion, mask_regions
from pipeline.inference.run import FinishedRun
from pipeline.process.progress import Progress

MAP_FIELD = "anomaly_map"


def export_fiftyone(
    run: FinishedRun,
    folder: Path,
    *,
    copy: bool = False,
    categories: Sequence[str] | None = None,
    force: bool = False,
) -> int:
    """Write scores, decisions, labels, maps and regions of the test images; the number of images.

    Args:
        folder: to write into, made if missing.
        copy: whether images are copied into ``data/``; else they are named by absolute paths.
        categories: some of the run's; all by default.
        force: write into a folder that is not empty.

    Raises:
        ParameterError: an unknown category, a folder that is not empty, or images behind a URL that are
            not copied.
        DataError: no test images, two of one name, or one to copy that changed.
        StoreError: score components or scores are gone, or a file cannot be written.
    """
    root = dataset_root(run.params.dataset.format, open_path(run.params.dataset.path))
    if not (copy or isinstance(root, Path)):
        raise ParameterError(
            f"dataset.path is {run.params.dataset.path}, and FiftyOne reads files: copy the images into "
            "the folder with --copy"
        )
    tests = exported_images(run, categories)
    names = file_names(tests, "mvtec")
    scores = exported_scores(run, tests)
    found = maps(run, tests) if run.params.fusion.segmentation_mode != "none" else None
    prepare_export(folder, force)

    def samples() -> Iterator[dict[str, Any]]:
        with Progress(len(tests), "exporting") as progress:
            for row, name, one in zip(tests.to_dict("records"), names, scores, strict=True):
                path = str(row["path"])
                if copy:
                    place = str(PurePosixPath("data", f"{name}{PurePosixPath(path).suffix}"))
                    data = read_unchanged(root, path, str(row["hash"]))
                    with writing(folder / place):
                        write_file(folder / place, data)
                else:
                    place = os.path.abspath(str(root / path))
                sample = _sample(row, place, one)
                if found is not None:
                    sample |= _map_fields(run, calls, row, next(found), folder, name)
                yield sample
                progress.advance()

    calls = PixelCalls.of(run)
    write_json_stream({"samples": samples()}, folder / "samples.json")
    info = {
        "made_by": f"FADE Pipeline {__version__}",
        "shots": run.trial.shots,
        "seed": run.trial.seed,
    }
    write_json_stream({"media_type": "image", "info": info}, folder / "metadata.json")
    return len(tests)


def _sample(row: Mapping[Hashable, Any], place: str, exported: ExportedScore) -> dict[str, Any]:
    """A sample without what comes of its map."""
    sample: dict[str, Any] = {
        "filepath": place,
        "tags": ["test"],
        "metadata": {
            "_cls": "ImageMetadata", "size_bytes": int(row["bytes"]), "width": int(row["width"]),
            "height": int(row["height"]),
        },
        "category": str(row["category"]),
        "defect": exported.defect or None,
        "score": exported.score,
        "ground_truth": None,
        "prediction": None,
    }  # fmt: skip
    if exported.is_anomaly is not None:
        label = "anomalous" if exported.is_anomaly else "normal"
        sample["ground_truth"] = {"_cls": "Classification", "label": label}
    if exported.decision is not None:
        sample["prediction"] = {"_cls": "Classification", "label": exported.decision}
    return {name: value for name, value in sample.items() if value is not None}


def _map_fields(
    run: FinishedRun, calls: PixelCalls, row: Mapping[Hashable, Any], values: Any, folder: Path,
    name: PurePosixPath,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a sample that come of its map, whose file is written."""
    category, width, height = str(row["category"]), int(row["width"]), int(row["height"])
    levels = calls.levels(category, width, height, values)
    place = PurePosixPath("fields", MAP_FIELD, f"{name}.png")
    with writing(folder / place):
        write_picture(levels, folder / place)
    threshold = run.thresholds[category]
    highest = threshold.map_scale.count - 1
    heatmap = {"_cls": "Heatmap", "map_path": str(place), "range": [0, highest]}
    if threshold.pixel is None:
        return {MAP_FIELD: heatmap}
    regions = mask_regions(calls.mask(category, width, height, values), levels)
    lines = [_polyline(region, width, height, highest) for region in regions]
    return {MAP_FIELD: heatmap, "regions": {"_cls": "Polylines", "polylines": lines}}


def _polyline(region: MaskRegion, width: int, height: int, highest: int) -> dict[str, Any]:
    return {
        "_cls": "Polyline",
        "label": "anomalous",
        "confidence": round(region.level / highest, 6),
        "points": [[[x / width, y / height] for x, y in ring] for ring in region.polygons],
        "closed": True,
        "filled": True,
    }
