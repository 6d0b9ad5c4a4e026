"""Predictions as people and scripts want them: which images, tables, pictures, words."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fade.datasets.folders_below import folders_below, is_hidden
from fade.datasets.mask_files import mask_files
from fade.datasets.names import is_image, looks_like_image
from fade.errors import DataError, ParameterError, counted, plain, summarise
from fade.files import atomic_write
from pipeline.artefacts.catalogue import prepare_folder
from pipeline.artefacts.csv_text import Rows, marked
from pipeline.artefacts.pictures import write_picture
from pipeline.evaluation.guarantee import limit_text
from pipeline.evaluation.score_text import score_text
from pipeline.evaluation.thresholds import Threshold
from pipeline.evaluation.trials import trial_words
from pipeline.inference.prediction import Prediction, Region
from pipeline.inference.predictor import Predictor
from pipeline.inference.seen import PictureNames
from pipeline.process.json_text import json_text
from pipeline.report.gallery import BRIGHT, DARK, heat, overlay

COLUMNS = (
    "image", "category", "score", "threshold", "decision", "pixel_threshold",
    "threshold_source", "threshold_images", "remark", "shots", "seed", "threshold_set_by",
    "false_alarm_limit", "heatmap", "overlay", "mask",
)  # fmt: skip
_NAMES = ("image", "category", "remark", "threshold_set_by", "heatmap", "overlay", "mask")
"""Columns that hold names and words, not numbers."""
PICTURES = ("heatmaps", "overlays", "masks")
"""Folders of PNG files that :func:`write_predictions` makes."""


def find_images(
    names: Sequence[str], out: Path | None = None, others: list[str] | None = None
) -> list[str]:
    """The images that files, folders (all below them) and globs name, each once, in order.

    Of a folder those with an image's suffix; hidden ones and those in hidden folders are left out, and so
    are the masks of a data set that the folder holds. Images of a kind that is not read
    are among them, so that they are refused and not passed over. Whether the others can be read shows
    when they are.

    Args:
        names: of files and folders, or globs.
        out: folder of an earlier run's predictions: its own pictures are left out.
        others: takes the files of folders that are left out.

    Raises:
        DataError: a name leads to no image.
        ParameterError: a name is empty.
    """
    found: list[str] = []
    for name in names:
        if not name:
            raise ParameterError("an image's name is empty: give files, folders or globs")
        if os.path.isdir(name):
            below = {
                str(Path(folder, file)): _is_meant(file)
                and not is_hidden(os.path.relpath(folder, name))
                for folder, _, files in folders_below(name)
                for file in files
            }
            masks = mask_files(name)
            here = [file for file in sorted(below) if below[file] and file not in masks]
            if others is not None:
                meant = set(here)
                others += [file for file in sorted(below) if file not in meant]
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
    if others is not None:  # the tables of an earlier run
        place = os.path.realpath(out)
        others[:] = [file for file in others if os.path.dirname(os.path.realpath(file)) != place]
    own = {os.path.realpath(out / kind) for kind in PICTURES}
    is_own = {
        folder: os.path.realpath(folder) in own for folder in {os.path.dirname(f) for f in found}
    }
    others = [file for file in dict.fromkeys(found) if not is_own[os.path.dirname(file)]]
    if not others:
        raise DataError(f"there are only pictures that were written into {out}: name another --out")
    return others


def _is_meant(name: str) -> bool:
    """Whether a file of a folder looks like an image that a person wants an answer for."""
    return looks_like_image(name) and not name.startswith(".")


def others_line(others: Sequence[str]) -> str:
    """What was found in folders beside images, in a line.

    >>> others_line(["in/a.txt", "in/.b.png"])
    'not looked at: 2 files (hidden, masks of a data set, or no images by name): in/a.txt; in/.b.png'
    """
    return (
        f"not looked at: {counted(len(others), 'file')} (hidden, masks of a data set, or no images by "
        f"name): {summarise(list(others))}"
    )


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
        "decision": prediction.decision,
        "pixel_threshold": prediction.pixel_threshold,
        "threshold_source": prediction.source,
        "threshold_images": prediction.images,
        "remark": prediction.remark,
        "shots": prediction.trial and prediction.trial.shots,
        "seed": prediction.trial and prediction.trial.seed,
        "threshold_set_by": prediction.set_by,
        "false_alarm_limit": prediction.false_alarm_limit,
        **{kind: prediction.pictures.get(kind) for kind in ("heatmap", "overlay", "mask")},
    }


def cells(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a row of CSV has it: nothing for null, and names that no spreadsheet computes."""
    cells = {key: "" if value is None else value for key, value in content.items()}
    return cells | {name: marked(cells[name]) for name in _NAMES}


def predict_each(
    predictor: Predictor,
    images: Sequence[str],
    category: str,
    problems: list[str],
    *,
    keep: bool = False,
    batch: bool = False,
) -> Iterator[Prediction]:
    """Predictions in order; images that cannot be used are noted and left out.

    Args:
        images: paths.
        problems: takes a line for each image that cannot be used.
        keep: whether predictions keep their pictures, as :func:`write_predictions` needs them.
        batch: whether the images are scored against each other.
    """
    named = []
    for image in images:
        try:
            image.encode()
            named.append(image)
        except UnicodeEncodeError:
            problems.append(f"{image}: its name is not UTF-8; rename it")
    stream = predictor.stream_batch if batch else predictor.stream
    yield from stream(named, category, problems=problems, keep=keep)


def write_predictions(
    predictions: Iterable[Prediction], folder: Path, *, pictures: bool = True
) -> Iterator[Prediction]:
    """Write each prediction as it comes, and pass it on.

    Into ``predictions.csv`` and ``predictions.jsonl``; of maps :data:`PICTURES`, PNG files named
    after the images, of predictions that keep their pictures. Rows name these files. The tables get
    their names when all predictions are there.
    """
    prepare_folder(folder)
    used = PictureNames()
    with (
        atomic_write(folder / "predictions.csv") as csv_file,
        atomic_write(folder / "predictions.jsonl") as json_file,
        csv_file.open("w", newline="", encoding="utf-8") as table,
        json_file.open("w", encoding="utf-8") as lines,
    ):
        rows = csv.DictWriter(Rows(table), COLUMNS)
        rows.writeheader()
        for prediction in predictions:
            if pictures and prediction.picture is not None:
                names = write_pictures(prediction, folder, picture_name(prediction, used))
                prediction = replace(prediction, pictures=names)
            content = record(prediction)
            rows.writerow(cells(content))
            lines.write(json_text(content) + "\n")
            yield prediction


def picture_name(prediction: Prediction, used: PictureNames) -> str:
    """The image's own name; a number tells equal ones apart, on any file system."""
    return used.take(Path(prediction.name).stem)


def write_pictures(prediction: Prediction, folder: Path, name: str) -> dict[str, str]:
    """Write a prediction's pictures; their names below the folder, by kind."""
    shades, mask = prediction.shades(), prediction.mask()
    if shades is None:
        return {}
    pixels = {
        "heatmap": heat(shades),
        "overlay": overlay(np.asarray(prediction.picture), shades, mask),
    }
    if mask is not None:
        pixels["mask"] = mask.astype(np.uint8) * 255
    names = {kind: f"{kind}s/{name}" for kind in pixels}
    for kind, drawn in pixels.items():
        write_png(drawn, folder / names[kind])
    return names


def check_picture_file(path: Path) -> None:
    """Refuse a file that no picture can be written to (ParameterError), before it is made."""
    if path.is_dir():
        raise ParameterError(f"{path} is a folder: name a file in it, e.g. {path / 'why.png'}")
    if not is_image(path.name):
        raise ParameterError(f"{path} has no image's suffix: name a PNG file, e.g. {path.stem}.png")
    prepare_folder(path.parent)


def write_png(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write grey (h, w) or RGB (h, w, 3) pixels."""
    prepare_folder(path.parent)
    write_picture(pixels, path)


def check_problems(problems: Sequence[str], done: int) -> None:
    """Raise what went wrong with some images (DataError), after all others are done."""
    if problems:
        others = f"{counted(done, 'other image')} {'is' if done == 1 else 'are'} done"
        raise DataError(f"{summarise(list(problems))} ({others})")


# words


def threshold_line(threshold: Threshold) -> str:
    """What decides, in a line: category, trial, what the threshold rests on and what it keeps."""
    line = f"{threshold.category}, {trial_words(threshold.trial)}: {threshold.remark}"
    if threshold.set_by is not None:
        line += f"; {threshold.set_by} sets it"
    if threshold.false_alarm_limit is not None:
        share = limit_text(threshold.false_alarm_limit)
        line += f"; with {threshold.confidence} confidence at most {share} % false alarms"
    return line


def summary_line(anomalous: int, normal: int, undecided: int, unread: int) -> str:
    """How many images were asked for, and what became of them.

    >>> summary_line(2, 3, 0, 1)
    '6 images: 2 anomalous, 3 normal, 1 not read'
    >>> summary_line(0, 0, 4, 1)
    '5 images: 4 without a decision, 1 not read'
    >>> summary_line(0, 0, 0, 0)
    '0 images'
    """
    total = anomalous + normal + undecided + unread
    parts = [f"{anomalous} anomalous", f"{normal} normal"] if anomalous + normal else []
    parts += [f"{undecided} without a decision"] if undecided else []
    parts += [f"{unread} not read"] if unread else []
    images = f"{total} {'image' if total == 1 else 'images'}"
    return f"{images}: {', '.join(parts)}" if parts else images


def score_line(prediction: Prediction) -> str:
    """A prediction in a line."""
    score = "no score" if prediction.score is None else score_text(prediction.score, 4)
    if prediction.decision is None or prediction.threshold is None:
        return plain(f"{prediction.name}: {score}")
    sign = ">" if prediction.decision == "anomalous" else "<="
    return plain(
        f"{prediction.name}: {prediction.decision} ({score} {sign} {score_text(prediction.threshold, 4)})"
    )


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
                "nearest": region.nearest and asdict(region.nearest),
                "abnormal_prompts": [[text, cosine] for text, cosine in region.abnormal],
                "normal_prompts": [[text, cosine] for text, cosine in region.normal],
                "compared": region.compared and asdict(region.compared),
            }
            for region in regions
        ],
    }


def explanation_text(prediction: Prediction, regions: Sequence[Region]) -> str:
    """An explanation in words."""
    trial = f" ({trial_words(prediction.trial)})" if prediction.trial else ""
    lines = [score_line(prediction), f"  thresholds: {prediction.remark}{trial}"]
    if not regions:
        lines.append("  no patch is above the pixel threshold")
    for number, region in enumerate(regions, start=1):
        left, top, right, bottom = region.box
        lines.append(
            f"  region {number}: pixels {left},{top} to {right},{bottom}, "
            f"{counted(region.patches, 'patch')}, "
            f"level {region.level} at patch row {region.row}, column {region.column}"
        )
        if region.nearest is not None:
            near = region.nearest
            where = near.reference or ("another patch of the image" if near.row is not None else "")
            place = "" if near.row is None else f", row {near.row}, column {near.column}"
            lines.append(
                f"    nearest normal patch: {where or 'one of the bank'}{place}, "
                f"distance {score_text(near.distance, 4)}"
            )
        if region.compared is not None:
            told = region.compared
            lines.append(f"    {told.measure}: {score_text(told.distance, 4)}")
        for side, prompts in (("abnormal", region.abnormal), ("normal", region.normal)):
            for text, cosine in prompts:
                lines.append(f"    {side} prompt, cosine {cosine:.4f}: {text}")
    return "\n".join(map(plain, lines))


def draw_explanation(prediction: Prediction, regions: Sequence[Region]) -> NDArray[np.uint8]:
    """The image under its map with a numbered box around each region: RGB (h, w, 3).

    Args:
        prediction: with its picture, as :meth:`Predictor.explain` gives it.
    """
    import cv2

    shades = prediction.shades()
    image = np.asarray(prediction.picture)
    drawn = image.copy() if shades is None else overlay(image, shades, prediction.mask())
    line = max(1, min(prediction.size) // 200)
    # bright within dark, so that it shows on any ground
    for colour, width in ((DARK, 3 * line), (BRIGHT, line)):
        for number, region in enumerate(regions, start=1):
            left, top, right, bottom = region.box
            cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour, width)
            cv2.putText(
                drawn, str(number), (left + 3 * line, top + 15 * line), cv2.FONT_HERSHEY_SIMPLEX,
                0.45 * line, colour, width, cv2.LINE_AA,
            )  # fmt: skip
    return drawn
