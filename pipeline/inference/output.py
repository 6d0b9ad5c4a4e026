"""Predictions as people and scripts want them: which images, tables, pictures, words."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fade.datasets.names import is_image
from fade.errors import DataError, ParameterError, plain, summarise
from pipeline.artefacts.catalogue import fitting_name, prepare_folder
from pipeline.inference.prediction import Prediction, Region
from pipeline.inference.predictor import Predictor
from pipeline.report.gallery import heat, overlay
from pipeline.stage import json_text

COLUMNS = (
    "image", "category", "score", "threshold", "decision", "pixel_threshold",
    "threshold_source", "threshold_images", "remark",
)  # fmt: skip
PICTURES = ("heatmaps", "overlays", "masks")
"""Folders of PNG files that :func:`write_predictions` makes."""
DECISIONS = {True: "anomalous", False: "normal", None: ""}


def find_images(names: Sequence[str], out: Path | None = None) -> list[str]:
    """The images that files, folders (all below them) and globs name, each once, in order.

    Of a folder those with an image's suffix, hidden ones left out. Whether they can be read shows
    when they are.

    Args:
        names: of files and folders, or globs.
        out: folder of an earlier run's predictions: its own pictures are left out.

    Raises:
        DataError: a name leads to no image.
        ParameterError: a name is empty.
    """
    found: list[str] = []
    for name in names:
        if not name:
            raise ParameterError("an image's name is empty: give files, folders or globs")
        if os.path.isdir(name):
            here = sorted(
                str(Path(folder, file))
                for folder, _, files in os.walk(name)
                for file in files
                if is_image(file) and not file.startswith(".")
            )
        elif os.path.lexists(name):
            here = [name]
        else:
            files = glob.glob(name, recursive=True)
            here = sorted(file for file in files if not os.path.isdir(file))
        if not here:
            raise DataError(
                f"{name} leads to no image: give files, folders or globs such as 'a/*.png'"
            )
        found += here
    if out is None:
        return list(dict.fromkeys(found))
    own = {os.path.realpath(out / kind) for kind in PICTURES}
    is_own = {
        folder: os.path.realpath(folder) in own for folder in {os.path.dirname(f) for f in found}
    }
    others = [file for file in dict.fromkeys(found) if not is_own[os.path.dirname(file)]]
    if not others:
        raise DataError(f"there are only pictures that were written into {out}: name another --out")
    return others


def choose_category(predictor: Predictor, category: str | None) -> str:
    """The category asked for, or the only one.

    Raises:
        ParameterError: there are several, or it is unknown.
    """
    if category is None:
        if len(predictor.categories) > 1:
            raise ParameterError(
                f"which category? name one by --category: {', '.join(predictor.categories)}"
            )
        return predictor.categories[0]
    predictor.material.check_category(category)
    return category


def record(prediction: Prediction) -> dict[str, Any]:
    """A prediction as a line of JSON has it."""
    return {
        "image": prediction.name,
        "category": prediction.category,
        "score": prediction.score,
        "threshold": prediction.threshold,
        "decision": DECISIONS[prediction.decision] or None,
        "pixel_threshold": prediction.pixel_threshold,
        "threshold_source": prediction.source,
        "threshold_images": prediction.images,
        "remark": prediction.remark,
    }


def predict_each(
    predictor: Predictor,
    images: Sequence[str],
    category: str,
    problems: list[str],
    *,
    keep: bool = False,
) -> Iterator[Prediction]:
    """Predictions in order; images that cannot be used are noted and left out.

    Args:
        predictor: to ask.
        images: paths.
        category: of all of them.
        problems: takes a line for each image that cannot be used.
        keep: whether predictions keep their pictures, as :func:`write_predictions` needs them.
    """
    named = []
    for image in images:
        try:
            image.encode()
            named.append(image)
        except UnicodeEncodeError:
            problems.append(f"{image}: its name is not UTF-8; rename it")
    yield from predictor.stream(named, category, problems=problems, keep=keep)


def write_predictions(
    predictions: Iterable[Prediction], folder: Path, *, pictures: bool = True
) -> Iterator[Prediction]:
    """Write each prediction as it comes, and pass it on.

    Into ``predictions.csv`` and ``predictions.jsonl``; of maps :data:`PICTURES`, PNG files named
    after the images, of predictions that keep their pictures.
    """
    prepare_folder(folder)
    used: set[str] = set()
    with ExitStack() as files:
        table = files.enter_context(
            (folder / "predictions.csv").open("w", newline="", encoding="utf-8")
        )
        lines = files.enter_context((folder / "predictions.jsonl").open("w", encoding="utf-8"))
        rows = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        rows.writeheader()
        for prediction in predictions:
            content = record(prediction)
            rows.writerow({key: "" if value is None else value for key, value in content.items()})
            lines.write(json_text(content) + "\n")
            if pictures and prediction.picture is not None:
                _write_pictures(prediction, folder, _file_name(prediction, used))
            yield prediction


def _file_name(prediction: Prediction, used: set[str]) -> str:
    """The image's own name; a number tells equal ones apart, on any file system."""
    stem, number, suffix = Path(prediction.name).stem, 1, ".png"
    name = fitting_name(stem, len(suffix))
    while name.lower() in used:
        number += 1
        name = fitting_name(f"{stem}-{number}", len(suffix))
    used.add(name.lower())
    return name + suffix


def _write_pictures(prediction: Prediction, folder: Path, name: str) -> None:
    levels, mask = prediction.full_levels(), prediction.mask()
    if levels is None:
        return
    write_png(heat(levels), folder / "heatmaps" / name)
    write_png(overlay(np.asarray(prediction.picture), levels), folder / "overlays" / name)
    if mask is not None:
        write_png(mask.astype(np.uint8) * 255, folder / "masks" / name)


def check_picture_file(path: Path) -> None:
    """Refuse a file that no picture can be written to (ParameterError), before it is made."""
    if path.is_dir():
        raise ParameterError(f"{path} is a folder: name a file in it, e.g. {path / 'why.png'}")
    if not is_image(path.name):
        raise ParameterError(f"{path} has no image's suffix: name a PNG file, e.g. {path.stem}.png")
    prepare_folder(path.parent)


def write_png(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write grey (h, w) or RGB (h, w, 3) pixels."""
    from PIL import Image

    prepare_folder(path.parent)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def check_problems(problems: Sequence[str], done: int) -> None:
    """Raise what went wrong with some images (DataError), after all others are done."""
    if problems:
        raise DataError(f"{summarise(list(problems))} ({done} other images are done)")


# words


def score_line(prediction: Prediction) -> str:
    """A prediction in a line."""
    score = "no score" if prediction.score is None else f"{prediction.score:.4f}"
    if prediction.decision is None:
        return plain(f"{prediction.name}: {score}")
    sign = ">" if prediction.decision else "<="
    word = DECISIONS[prediction.decision]
    return plain(f"{prediction.name}: {word} ({score} {sign} {prediction.threshold:.4f})")


def explanation_json(prediction: Prediction, regions: Sequence[Region]) -> dict[str, Any]:
    """An explanation as JSON."""
    return {
        **record(prediction),
        "regions": [
            {
                "box": list(region.box),
                "patches": region.patches,
                "level": region.level,
                "row": region.row,
                "column": region.column,
                "nearest": None
                if region.nearest is None
                else {
                    "reference": region.nearest.reference,
                    "row": region.nearest.row,
                    "column": region.nearest.column,
                    "distance": region.nearest.distance,
                },
                "abnormal_prompts": [[text, cosine] for text, cosine in region.abnormal],
                "normal_prompts": [[text, cosine] for text, cosine in region.normal],
            }
            for region in regions
        ],
    }


def explanation_text(prediction: Prediction, regions: Sequence[Region]) -> str:
    """An explanation in words."""
    lines = [score_line(prediction), f"  thresholds: {prediction.remark}"]
    if not regions:
        lines.append("  no patch is above the pixel threshold")
    for number, region in enumerate(regions, start=1):
        left, top, right, bottom = region.box
        lines.append(
            f"  region {number}: pixels {left},{top} to {right},{bottom}, {region.patches} patches, "
            f"level {region.level} at patch row {region.row}, column {region.column}"
        )
        if region.nearest is not None:
            near = region.nearest
            where = near.reference or ("another patch of the image" if near.row is not None else "")
            place = "" if near.row is None else f", row {near.row}, column {near.column}"
            lines.append(
                f"    nearest normal patch: {where or 'one of the bank'}{place}, "
                f"distance {near.distance:.4f}"
            )
        for side, prompts in (("abnormal", region.abnormal), ("normal", region.normal)):
            for text, cosine in prompts:
                lines.append(f"    {side} prompt, cosine {cosine:.4f}: {text}")
    return "\n".join(map(plain, lines))


def draw_explanation(prediction: Prediction, regions: Sequence[Region]) -> NDArray[np.uint8]:
    """The image under its map with a numbered box around each region: RGB (h, w, 3).

    Args:
        prediction: with its picture, as :meth:`Predictor.explain` gives it.
        regions: to box.
    """
    import cv2

    levels = prediction.full_levels()
    image = np.asarray(prediction.picture)
    drawn = image.copy() if levels is None else overlay(image, levels)
    line = max(1, min(prediction.size) // 200)
    # bright within dark, so that it shows on any ground
    for colour, width in (((16, 20, 32), 3 * line), ((64, 255, 120), line)):
        for number, region in enumerate(regions, start=1):
            left, top, right, bottom = region.box
            cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour, width)
            cv2.putText(
                drawn, str(number), (left + 3 * line, top + 15 * line), cv2.FONT_HERSHEY_SIMPLEX,
                0.45 * line, colour, width, cv2.LINE_AA,
            )  # fmt: skip
    return drawn
