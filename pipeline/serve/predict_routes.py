"""Routes for new images: what is served, and ``POST /predict``."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from fade.decode import decode_rgb, image_size
from fade.errors import DataError, ParameterError, plain
from pipeline.inference.explain import group_box, patch_groups
from pipeline.inference.output import explanation_json, record
from pipeline.inference.prediction import Prediction
from pipeline.inference.predictor import Predictor
from pipeline.serve.answers import (
    PredictAnswer,
    PredictionAnswer,
    RegionAnswer,
    RunAnswer,
    TrialAnswer,
)
from pipeline.serve.drawing import drawn_map, encoded, fitted, fitted_size
from pipeline.serve.guard import Refused, hung_up
from pipeline.serve.judge import Judge, Turn
from pipeline.serve.limits import Limits
from pipeline.serve.site import RunSite, Site
from pipeline.serve.telemetry import Telemetry

SIDE = 640
"""Longer side of pictures that go into an answer."""
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            }
        },
    }
}


class _Parser(MultiPartParser):
    """Keeps files in memory, which the guard bounds: nothing is written to a disk."""

    spool_max_size = 1 << 40


def add_predict_routes(
    router: APIRouter, site: Site, judge: Judge, limits: Limits, telemetry: Telemetry
) -> None:
    """Add the routes to those of the application."""

    @router.get("/run")
    async def run() -> RunAnswer:
        """What is served."""
        if isinstance(site, RunSite):
            snapshot = await run_in_threadpool(site.snapshot)
            index = snapshot.index
            return RunAnswer(
                name=site.name, run=snapshot.key, has_images=True, has_maps=snapshot.has_maps,
                images=len(index), trials=[TrialAnswer.of(trial) for trial in index.scores],
                trial=TrialAnswer.of(snapshot.trial), categories=list(snapshot.run.categories),
                defects=index.kinds(None), labels_file=site.labels_file,
                labels_used=site.uses_labels(snapshot),
                corrected=int((index.labels != index.given).sum()), model=site.model, reason=site.reason,
            )  # fmt: skip
        found = await judge.run(lambda turn: site.models().predictor())
        own = TrialAnswer.of(found.trial)
        return RunAnswer(
            name=site.name, run="bundle", has_images=False,
            has_maps=found.params.fusion.segmentation_mode != "none", images=0, trials=[own],
            trial=own, categories=list(found.categories), defects=[], labels_file=None,
            labels_used=False, corrected=0,
            model=site.model, reason=site.reason,
        )  # fmt: skip

    @router.post("/predict", openapi_extra=BODY)
    async def predict(
        request: Request,
        category: Annotated[str | None, Query(description="Not needed if there is one.")] = None,
        shots: Annotated[int | None, Query(ge=0)] = None,
        seed: Annotated[int | None, Query(ge=0)] = None,
        explain: Annotated[
            bool, Query(description="Add the nearest normal patch and prompts of each region.")
        ] = False,
        pictures: Annotated[
            bool, Query(description="Add the image and its overlay as data: addresses.")
        ] = False,
    ) -> PredictAnswer:
        """Decide about new images: one or several files of a multipart form.

        Decisions come in the order of the files. Nothing of the images is kept.
        """
        start = time.monotonic()
        trial = None
        if isinstance(site, RunSite):
            trial = site.trial(await run_in_threadpool(site.snapshot), shots, seed)
        elif shots is not None or seed is not None:
            raise ParameterError("shots and seed go with runs: a bundle holds one trial")
        with judge.place(_length(request, limits)):
            files = await _files(request, limits)

            def work(turn: Turn) -> list[PredictionAnswer]:
                predictor = site.models().predictor(trial)
                name = _category(predictor, category)
                answers = []
                for image, data in files:
                    turn.check()
                    answers.append(_answer(predictor, name, image, data, limits, explain, pictures))
                return answers

            found = await judge.run(work, partial(hung_up, request))
        for one in found:
            telemetry.add_decision(one.category, "error" if one.error else one.decision)
        telemetry.add_seconds(time.monotonic() - start)
        return PredictAnswer(predictions=found)


def _length(request: Request, limits: Limits) -> int:
    """The bytes that a request may come to."""
    given = request.headers.get("content-length", "")
    return int(given) if given.isdecimal() else limits.body_bytes


async def _files(request: Request, limits: Limits) -> list[tuple[str, bytes]]:
    """The names and contents of the files in a form.

    Raises:
        Refused: it is no such form, or has none or too many.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refused(415, "send images as files of a form: multipart/form-data")
    parser = _Parser(
        request.headers, request.stream(), max_files=limits.images, max_fields=limits.images
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, f"the form cannot be read: {plain(error.message)}") from None
    found = [
        (_shown(part.filename, number), await part.read())
        for number, (_, part) in enumerate(form.multi_items(), start=1)
        if isinstance(part, UploadFile)
    ]
    if not found:
        raise Refused(400, "there is no file in the form: send one or several images")
    return found


def _shown(name: str | None, number: int) -> str:
    """A file's name without folders, for answers alone: nothing is opened by it."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return plain(last)[:255] or f"image {number}"


def _category(predictor: Predictor, category: str | None) -> str:
    if category is None:
        if len(predictor.categories) > 1:
            known = ", ".join(predictor.categories)
            raise ParameterError(f"give category in the address (?category=NAME): {known}")
        return predictor.categories[0]
    predictor.material.check_category(category)
    return category


def _answer(
    predictor: Predictor,
    category: str,
    name: str,
    data: bytes,
    limits: Limits,
    explain: bool,
    pictures: bool,
) -> PredictionAnswer:
    """What is said of one file, or why it cannot be used."""
    try:
        rotation = predictor.params.dataset.exif_rotation
        width, height = image_size(data, name, exif_rotation=rotation)
        if width * height > limits.pixels:
            raise DataError(
                f"{name} has {width} x {height} pixels, at most {limits.pixels:,} are judged here"
            )
        picture = decode_rgb(data, name, exif_rotation=rotation)
        threshold = predictor.thresholds[category]
        has_regions = (
            threshold.pixel is not None and predictor.params.fusion.segmentation_mode != "none"
        )
        if explain and has_regions:
            prediction, found = predictor.explain(picture, category)
            regions = [
                RegionAnswer(**{key: one[key] for key in RegionAnswer.model_fields})
                for one in explanation_json(prediction, found)["regions"]
            ]
        else:
            (prediction,) = predictor.predict([picture], category)
            regions = region_answers(prediction) if has_regions else []
        prediction = replace(prediction, name=name, picture=picture)
    except DataError as error:
        said = plain(str(error)).replace("image 0", name, 1)
        return PredictionAnswer(image=name, category=category, error=said)
    known = record(prediction)
    answer = PredictionAnswer(
        **{key: known[key] for key in PredictionAnswer.model_fields if key in known},
        width=prediction.size[0], height=prediction.size[1], regions=regions,
    )  # fmt: skip
    return _with_pictures(answer, prediction) if pictures else answer


def region_answers(prediction: Prediction) -> list[RegionAnswer]:
    """The groups of patches above the pixel threshold, the highest first."""
    levels = prediction.patch_levels()
    if levels is None or prediction.pixel_threshold is None:
        return []
    return [
        RegionAnswer(
            box=group_box(group, prediction.size), patches=int(group.sum()),
            level=int(levels[group].max()),
        )
        for group in patch_groups(levels, prediction.pixel_threshold)
    ]  # fmt: skip


def _with_pictures(answer: PredictionAnswer, prediction: Prediction) -> PredictionAnswer:
    assert prediction.picture is not None
    image = fitted(prediction.picture, SIDE, SIDE)
    found = {"picture": _data_uri(encoded(image, ".webp"))}
    if prediction.levels is not None:
        small = replace(prediction, size=fitted_size(prediction.size, SIDE, SIDE))
        found["overlay"] = _data_uri(encoded(drawn_map(small, "overlay", image), ".webp"))
    return answer.model_copy(update=found)


def _data_uri(data: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(data).decode()
