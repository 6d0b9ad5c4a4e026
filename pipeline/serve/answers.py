"""What routes answer, as the OpenAPI description has it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from fade.types import Trial


class TrialAnswer(BaseModel):
    """A trial."""

    shots: int
    seed: int

    @classmethod
    def of(cls, trial: Trial) -> TrialAnswer:
        """The answer that a trial is."""
        return cls(shots=trial.shots, seed=trial.seed)


class CategoryAnswer(BaseModel):
    """A category: its threshold, what that rests on, and how it divides the test images."""

    category: str
    images: int
    threshold: float | None
    remark: str
    warning: str
    called: int
    good: int
    false_alarms: int
    anomalous: int
    missed: int
    unlabelled: int


class RunAnswer(BaseModel):
    """What is served. Without images (``has_images`` false) it is a bundle."""

    name: str
    run: str
    has_images: bool
    has_maps: bool
    images: int
    trials: list[TrialAnswer]
    trial: TrialAnswer
    categories: list[str]
    defects: list[str]
    labels_file: str | None
    labels_used: bool
    corrected: int
    model: str
    reason: str


class ImageRow(BaseModel):
    """An image of the run in a list."""

    id: int
    path: str
    category: str
    defect: str
    label: str
    corrected: bool
    score: float | None
    threshold: float | None
    decision: str | None


class ImagesAnswer(BaseModel):
    """A page of images, and how many there are in all."""

    run: str
    total: int
    offset: int
    images: list[ImageRow]


class ImageAnswer(ImageRow):
    """An image of the run, opened."""

    run: str
    width: int
    height: int
    has_map: bool
    pixel_threshold: int | None
    remark: str


class RegionAnswer(BaseModel):
    """A connected group of patches above the pixel threshold; its box in pixels of the image."""

    box: tuple[int, int, int, int]
    patches: int
    level: int
    nearest: dict[str, Any] | None = None
    abnormal_prompts: list[tuple[str, float]] = []
    normal_prompts: list[tuple[str, float]] = []
    compared: dict[str, Any] | None = None


class CountsAnswer(BaseModel):
    """How a threshold divides the images of a category, and how their scores lie."""

    run: str
    category: str
    threshold: float | None
    chosen: float | None
    best: float | None
    image_auroc: float | None
    images: int
    called: int
    good: int
    false_alarms: int
    anomalous: int
    missed: int
    unlabelled: int
    histogram: dict[str, Any]


class ExplanationAnswer(BaseModel):
    """Why an image's map is high where it is."""

    score: float | None
    regions: list[RegionAnswer]
    grid: tuple[int, int]


class PredictionAnswer(BaseModel):
    """What is said of a new image; ``error`` in place of all else where it cannot be used."""

    image: str
    category: str
    decision: str | None = None
    score: float | None = None
    threshold: float | None = None
    pixel_threshold: int | None = None
    threshold_source: str | None = None
    threshold_images: int | None = None
    remark: str | None = None
    shots: int | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    regions: list[RegionAnswer] = []
    picture: str | None = None
    overlay: str | None = None
    error: str | None = None


class PredictAnswer(BaseModel):
    """What is said of new images, in their order."""

    predictions: list[PredictionAnswer]


class LabelBody(BaseModel):
    """A correction: ``label`` null takes it back.

    ``shown``, if given, is the label that the client shows: where it is another one by now, the
    correction is refused.
    """

    id: Annotated[int, Field(ge=0, strict=True)]
    run: str
    label: str | None
    shown: str | None = None


class LabelAnswer(BaseModel):
    """An image's label as it is kept now."""

    id: int
    label: str
    corrected: bool


class HealthAnswer(BaseModel):
    """Whether the server answers, and its model."""

    status: str
    model: str


class ErrorAnswer(BaseModel):
    """What is wrong, in a line."""

    error: str
