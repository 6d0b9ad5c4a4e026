"""Routes of a run's images: lists, single ones, their pictures and maps, counts, labels."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from fade.errors import ParameterError
from fade.types import Trial
from pipeline.inference.output import explanation_json
from pipeline.serve.answers import (
    CategoryAnswer,
    CountsAnswer,
    ExplanationAnswer,
    ImageAnswer,
    ImageRow,
    ImagesAnswer,
    LabelAnswer,
    LabelBody,
    RegionAnswer,
)
from pipeline.serve.drawing import (
    MAX_SCREEN,
    MIN_SCREEN,
    MapStyle,
    drawn_map,
    encoded,
    fitted,
    fitted_size,
    with_patch,
)
from pipeline.serve.guard import Refused, hung_up
from pipeline.serve.image_index import (
    UNKNOWN,
    DecisionFilter,
    ImageFilter,
    LabelFilter,
    Sort,
)
from pipeline.serve.judge import Judge, Turn
from pipeline.serve.site import RunSite
from pipeline.serve.snapshot import Snapshot

Id = Annotated[int, Path(ge=0, description="As `GET /images` has it.")]
Shots = Annotated[int | None, Query(ge=0, description="Which trial; default: most shots.")]
Seed = Annotated[int | None, Query(ge=0, description="Which trial; default: smallest seed.")]
Run = Annotated[
    str | None, Query(max_length=40, description="Of which run the id is: another one is refused.")
]
Name = Annotated[str | None, Query(max_length=1000)]
Number = Annotated[float | None, Query(allow_inf_nan=False)]
Level = Annotated[int | None, Query(ge=0, le=65535, description="In place of the pixel threshold.")]
ROWS = 500
"""Of a page of images at most."""


def add_image_routes(router: APIRouter, site: RunSite, judge: Judge) -> None:
    """Add the routes to those of the application."""

    def opened(run: str | None) -> Snapshot:
        """The run as it is now, if it is the one that the client means."""
        snapshot = site.snapshot()
        if run is not None and run != snapshot.key:
            raise Refused(409, "the project ran again: load the page again")
        return snapshot

    def of_row(run: str | None, row: int) -> Snapshot:
        snapshot = opened(run)
        if row >= len(snapshot.index):
            raise Refused(404, f"there is no image {row}: the run has {len(snapshot.index)}")
        return snapshot

    @router.get("/categories")
    def categories(shots: Shots = None, seed: Seed = None, run: Run = None) -> list[CategoryAnswer]:
        """Each category: its threshold, and how that divides the test images."""
        snapshot = opened(run)
        trial = site.trial(snapshot, shots, seed)
        found = []
        for category in snapshot.index.categories:
            threshold = snapshot.threshold(category, trial)
            counts = asdict(snapshot.index.counts(trial, category, threshold.image))
            found.append(
                CategoryAnswer(
                    **counts | {"images": snapshot.index.size(category)}, category=category,
                    threshold=threshold.image, remark=threshold.remark, warning=threshold.warning,
                )
            )  # fmt: skip
        return found

    @router.get("/counts")
    def counts(
        category: Annotated[str, Query(max_length=1000)],
        threshold: Number = None,
        shots: Shots = None,
        seed: Seed = None,
        run: Run = None,
    ) -> CountsAnswer:
        """How a threshold divides the images of a category; by default the run's.

        Counts, AUROC and the threshold of the best F1 (`best`) are those of the labels as corrected.
        """
        snapshot = opened(run)
        trial = site.trial(snapshot, shots, seed)
        own = snapshot.threshold(category, trial).image
        chosen = own if threshold is None else threshold
        auroc, best = snapshot.index.measures(trial, category)
        return CountsAnswer(
            run=snapshot.key, category=category, threshold=own, chosen=chosen,
            **asdict(snapshot.index.counts(trial, category, chosen)), image_auroc=auroc, best=best,
            histogram=snapshot.index.histogram(trial, category),
        )  # fmt: skip

    @router.get("/images")
    def images(
        category: Name = None,
        defect: Name = None,
        decision: DecisionFilter | None = None,
        label: LabelFilter | None = None,
        disagreement: Annotated[
            bool, Query(description="Only those whose decision and label differ.")
        ] = False,
        text: Annotated[str, Query(max_length=200, description="Part of the path.")] = "",
        sort: Sort = "highest",
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=ROWS)] = 60,
        threshold: Annotated[
            float | None, Query(allow_inf_nan=False, description="In place of the category's own.")
        ] = None,
        shots: Shots = None,
        seed: Seed = None,
        run: Run = None,
    ) -> ImagesAnswer:
        """A page of the test images."""
        snapshot = opened(run)
        trial = site.trial(snapshot, shots, seed)
        index = snapshot.index
        bounds = index.limits(trial, snapshot.thresholds)
        if threshold is not None:
            if category is None:
                raise ParameterError("threshold goes with category: each has its own")
            bounds[index.category_number(category)] = threshold
        wanted = ImageFilter(category, defect, decision, label, disagreement, text)
        rows = index.select(trial, wanted, sort, bounds, (offset, offset + limit))
        return ImagesAnswer(
            run=snapshot.key, total=len(rows), offset=offset,
            images=[
                _row(snapshot, int(row), trial, threshold) for row in rows[offset : offset + limit]
            ],
        )  # fmt: skip

    @router.get("/images/{id}")
    def image(
        id: Id, threshold: Number = None, shots: Shots = None, seed: Seed = None, run: Run = None
    ) -> ImageAnswer:
        """A test image."""
        snapshot = of_row(run, id)
        trial = site.trial(snapshot, shots, seed)
        row = _row(snapshot, id, trial, threshold)
        width, height = snapshot.size(id)
        own = snapshot.threshold(row.category, trial)
        return ImageAnswer(
            **row.model_dump(), run=snapshot.key, width=width, height=height,
            has_map=snapshot.has_maps, pixel_threshold=own.pixel, remark=own.remark,
        )  # fmt: skip

    @router.get("/images/{id}/explanation")
    async def explanation(
        request: Request, id: Id, level: Level = None,
        shots: Shots = None, seed: Seed = None, run: Run = None,
    ) -> ExplanationAnswer:  # fmt: skip
        """Why an image's map is high where it is: the nearest normal patch and prompts of each region.

        The image is encoded again, so that this takes as long as a decision.
        """
        snapshot = await run_in_threadpool(of_row, run, id)
        trial = site.trial(snapshot, shots, seed)
        category = snapshot.index.categories[snapshot.index.category[id]]
        models = site.models()

        def work(turn: Turn) -> ExplanationAnswer:
            predictor, picture = models.predictor(trial), snapshot.picture(id)
            prediction, regions = predictor.explain(picture, category, level=level)
            found = explanation_json(prediction, regions)["regions"]
            references = {path: n for n, path in enumerate(snapshot.references(category))}
            for region in found:
                if region["nearest"] is not None:
                    path = region["nearest"]["reference"]
                    region["nearest"]["number"] = references.get(path)
            levels = prediction.patch_levels()
            assert levels is not None
            return ExplanationAnswer(
                score=prediction.score,
                regions=[
                    RegionAnswer(**{key: one[key] for key in RegionAnswer.model_fields})
                    for one in found
                ],
                grid=(levels.shape[0], levels.shape[1]),
            )

        with judge.place(0):
            return await judge.run(work, partial(hung_up, request))

    @router.get("/thumbnails/{id}.webp", response_class=Response)
    def thumbnail(id: Id, run: Run = None) -> Response:
        """A test image, at most 224 pixels a side."""
        snapshot = of_row(run, id)
        return _picture(snapshot.thumbnail(id), "image/webp", kept=run is not None)

    @router.get("/pictures/{id}.webp", response_class=Response)
    def picture(id: Id, run: Run = None) -> Response:
        """A test image for a screen: 640 to 1,280 pixels on its longer side."""
        snapshot = of_row(run, id)
        content = encoded(fitted(snapshot.picture(id), MAX_SCREEN, MIN_SCREEN), ".webp")
        return _picture(content, "image/webp", kept=run is not None)

    @router.get("/originals.png", response_class=Response)
    def original(
        path: Annotated[str, Query(max_length=4096, description="As `GET /images` has it.")],
    ) -> Response:
        """A test image at its own size, without loss, as the run sees it.

        The path is looked up among those of the run: no other one is opened.
        """
        snapshot = opened(None)
        row = snapshot.row_of(path)
        if row is None:
            raise Refused(404, "the run has no test image of this path")
        return _picture(encoded(np.asarray(snapshot.picture(row)), ".png"), "image/png")

    @router.get("/report", response_class=Response)
    def report() -> Response:
        """The run's report. Pictures that are opened in it show their originals."""
        page, policy = opened(None).report()
        headers = {"cache-control": "no-cache", "content-security-policy": policy}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    @router.get("/maps/{id}.png", response_class=Response)
    def map_png(
        id: Id,
        style: MapStyle = "grey",
        level: Level = None,
        size: Annotated[
            Literal["screen", "image"],
            Query(description="640 to 1,280 pixels, or the image's own."),
        ] = "screen",
        shots: Shots = None,
        seed: Seed = None,
        run: Run = None,
    ) -> Response:
        """The map of a test image: grey levels, colours, an overlay, or the mask."""
        snapshot = of_row(run, id)
        trial = site.trial(snapshot, shots, seed)
        own = snapshot.size(id)
        most, least = (max(own), 0) if size == "image" else (MAX_SCREEN, MIN_SCREEN)
        prediction = snapshot.prediction(id, trial, fitted_size(own, most, least))
        if level is not None:
            prediction = replace(prediction, pixel_threshold=level)
        ground = fitted(snapshot.picture(id), most, least) if style == "overlay" else None
        return _picture(encoded(drawn_map(prediction, style, ground), ".png"), "image/png")

    @router.get("/references/{category}/{number}.webp", response_class=Response)
    def reference(
        category: Annotated[str, Path(max_length=1000)],
        number: Annotated[int, Path(ge=0)],
        rows: Annotated[int, Query(ge=1, le=4096)] = 1,
        columns: Annotated[int, Query(ge=1, le=4096)] = 1,
        row: Annotated[int | None, Query(ge=0)] = None,
        column: Annotated[int | None, Query(ge=0)] = None,
        run: Run = None,
    ) -> Response:
        """A reference image of a category, with a box around one patch of its grid."""
        snapshot = opened(run)
        drawn = fitted(snapshot.reference_picture(category, number), MAX_SCREEN, MIN_SCREEN)
        if row is not None and column is not None:
            drawn = with_patch(drawn, (rows, columns), row, column)
        return _picture(encoded(drawn, ".webp"), "image/webp")

    @router.post("/labels")
    def label(body: LabelBody) -> LabelAnswer:
        """Correct the label of a test image: it is in the project's `labels.csv` when this answers."""
        snapshot = of_row(body.run, body.id)
        known = {None: None, "good": False, "anomalous": True}
        if body.label not in known:
            raise Refused(422, "label: give good, anomalous, or null to take a correction back")

        def check(now: int) -> None:
            if body.shown is not None and body.shown != _label(now):
                raise Refused(
                    409, f"its label is {_label(now)} now, by another page: look, and say it again"
                )

        site.set_label(snapshot, body.id, known[body.label], check)
        index = snapshot.index
        return LabelAnswer(
            id=body.id, label=_label(int(index.labels[body.id])),
            corrected=bool(index.labels[body.id] != index.given[body.id]),
        )  # fmt: skip


def _row(snapshot: Snapshot, row: int, trial: Trial, threshold: float | None) -> ImageRow:
    index = snapshot.index
    category = index.categories[index.category[row]]
    limit = snapshot.threshold(category, trial).image if threshold is None else threshold
    score = float(index.scores[trial][row])
    return ImageRow(
        id=row, path=index.path(row), category=category, defect=index.defects[index.defect[row]],
        label=_label(int(index.labels[row])), corrected=bool(index.labels[row] != index.given[row]),
        score=None if score != score else score, threshold=limit,
        decision=snapshot.decision(row, trial, limit),
    )  # fmt: skip


def _label(number: int) -> str:
    return {UNKNOWN: "unknown", 0: "good", 1: "anomalous"}[number]


def _picture(content: bytes, kind: str, *, kept: bool = False) -> Response:
    """A picture; a browser keeps one that the run's key in its address makes its own."""
    cache = "private, max-age=3600" if kept else "no-store"
    return Response(content, media_type=kind, headers={"cache-control": cache})
