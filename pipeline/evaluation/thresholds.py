"""Thresholds on image scores and map levels: what is above them is anomalous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fade.errors import StoreError, counted
from fade.levels import FINE, UNIT, Scale
from fade.metrics import PixelHistogram
from fade.types import Trial
from pipeline.artefacts.tables import read_json, write_json
from pipeline.config.values import clause

ThresholdSource = Literal["training", "references", "labels", "given", "none"]
Text = Annotated[str, Field(strict=True)]
Count = Annotated[int, Field(ge=0, lt=1 << 63, strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]


NO_SCORES = "none on image scores, which single images do not have"
"""What a remark says where there is a threshold on pixels alone."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What makes an image or a pixel of one category anomalous in one trial.

    Attributes:
        image: scores above it are anomalous; None where there is no decision.
        pixel: levels above it are anomalous, 0 to 255, or to 65535 where there is a scale; None where
            there is none.
        source: training images that the bank does not use; references, each compared with the
            others; the labels of the test images; given by threshold.overrides; or none.
        images: how many images it rests on.
        remark: what to know before relying on it, a sentence.
        set_by: path in the data set of the image whose score, times the factor, ``image`` is; None where
            it is no single normal image's.
        false_alarm_limit: the share of normal images above ``image``, of such as it was drawn from, is
            at most this with 95 % confidence; None where normal images did not set it.
        warning: why to look at it before relying on it, a sentence; empty without a reason.
        lacking: how many more normal images, or parts, ``threshold.false_alarms`` needs; None where it
            is kept, or not asked for.
        parts: how many parts these images show, where ``evaluate.group`` says which; None elsewhere.
        scale, offset: level k of a map stands for ``offset + k scale``; None where maps have FADE's 256
            levels from 0 to 1.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    category: Annotated[Text, Field(min_length=1)]
    shots: Count
    seed: Count
    image: Number | None
    pixel: Annotated[Count, Field(lt=FINE)] | None
    source: ThresholdSource
    images: Count
    remark: Text
    set_by: Text | None = None
    false_alarm_limit: Annotated[Number, Field(ge=0, le=1)] | None = None
    warning: Text = ""
    lacking: Count | None = None
    parts: Count | None = None
    scale: Annotated[Number, Field(gt=0, lt=1e15)] | None = None
    offset: Annotated[Number, Field(gt=-1e15, lt=1e15)] | None = None

    def on(self, scale: Scale) -> Threshold:
        """The same, of maps on a scale."""
        if scale == UNIT:
            return self
        return replace(self, scale=scale.step, offset=scale.offset)

    def as_json(self) -> dict[str, Any]:
        """What files hold of it: a scale, parts, and what is lacking, only where there is one."""
        content = asdict(self)
        return {
            name: value
            for name, value in content.items()
            if value is not None or name not in ("lacking", "parts", "scale", "offset")
        }

    @property
    def map_scale(self) -> Scale:
        """What the levels of maps stand for."""
        if self.scale is None or self.offset is None:
            return UNIT
        return Scale(FINE, self.scale, self.offset)

    @property
    def confidence(self) -> str:
        """How sure the limit is: references that are compared with each other are not independent."""
        return "about 95 %" if self.source == "references" else "95 %"

    @property
    def trial(self) -> Trial:
        """Whose threshold it is."""
        return Trial(self.shots, self.seed)


def best_threshold(scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> float | None:
    """The threshold of the best F1 on labelled scores (n,), midway to the next score below.

    Of equally good ones the highest; None unless there are both good and anomalous images.
    """
    if is_anomaly.all() or not is_anomaly.any():
        return None
    values, position = np.unique(scores, return_inverse=True)
    true = np.bincount(position, is_anomaly, len(values))[::-1].cumsum()[::-1]
    false = np.bincount(position, ~is_anomaly, len(values))[::-1].cumsum()[::-1]
    f1 = 2 * true / (true + false + np.count_nonzero(is_anomaly))
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    if not best:
        return float(np.nextafter(values[0], -np.inf))
    low, high = float(values[best - 1]), float(values[best])
    middle = (low + high) / 2
    return middle if middle < high else low


def best_level(histogram: PixelHistogram) -> int | None:
    """The level of the best F1 on labelled pixels; None unless there are both kinds."""
    if not histogram.anomalous.any() or not histogram.normal.any():
        return None
    true = histogram.anomalous[::-1].cumsum()[::-1]
    false = histogram.normal[::-1].cumsum()[::-1]
    f1 = 2 * true / (true + false + true[0])
    # from level 1 on: a threshold below every level would call all of every image a defect
    return len(true) - 2 - int(np.argmax(f1[:0:-1]))


def from_labels(
    category: str,
    trial: Trial,
    scores: NDArray[np.float64],
    is_anomaly: NDArray[np.bool_],
    histogram: PixelHistogram | None,
    scale: Scale = UNIT,
) -> Threshold:
    """The threshold with the best F1 on the labelled test images: optimistic, as it has seen them."""
    known = bool(np.isfinite(scores).all())
    image = best_threshold(scores, is_anomaly) if known else None
    pixel = best_level(histogram) if histogram else None
    if image is None and pixel is None:
        reason = "the test images are not both good and anomalous"
        return undecided(category, trial, reason, scale)
    remark = f"best F1 on the labels of the {len(scores)} test images themselves: optimistic"
    if not known:
        remark += f"; {NO_SCORES}"
    return Threshold(
        category, trial.shots, trial.seed, image, pixel, "labels", len(scores), remark
    ).on(scale)


def undecided(category: str, trial: Trial, reason: str, scale: Scale = UNIT) -> Threshold:
    """No threshold, and why."""
    return Threshold(
        category, trial.shots, trial.seed, None, None, "none", 0, f"no decision: {reason}"
    ).on(scale)


def write_thresholds(
    thresholds: Sequence[Threshold],
    fusion: Mapping[str, Any],
    path: Path,
    against: Mapping[str, Any] | None = None,
) -> None:
    """Write ``thresholds.json``.

    Args:
        fusion: that they hold for.
        against: which banks and text classifiers they hold for: ``compared_with`` of :class:`Receipt`.
    """
    write_json(
        {
            "fusion": dict(fusion),
            "thresholds": [threshold.as_json() for threshold in thresholds],
            **({} if against is None else {"against": dict(against)}),
        },
        path,
    )


_LIST = TypeAdapter(list[Threshold])


def parse_thresholds(
    content: Mapping[str, Any], source: str, remedy: str = "run `fade run --force evaluate`"
) -> list[Threshold]:
    """The thresholds of what :func:`write_thresholds` wrote.

    Args:
        source: its name, for errors.
        remedy: what to do about a damaged one, for errors.

    Raises:
        StoreError: it is none of that, or a value cannot be what it stands for.
    """
    try:
        items = _LIST.validate_python(content.get("thresholds"))
    except ValidationError as error:
        first = error.errors()[0]
        if len(first["loc"]) < 2:
            raise StoreError(f"{source} holds no thresholds: {remedy}") from None
        raise StoreError(
            f"{source}, threshold {int(first['loc'][0]) + 1}: {clause(first, 1)}: {remedy}"
        ) from None
    found: dict[tuple[str, Trial], Threshold] = {}
    for number, threshold in enumerate(items, start=1):
        if (threshold.pixel or 0) >= threshold.map_scale.count:
            raise StoreError(
                f"{source}, threshold {number}: pixel is {threshold.pixel}, but must be a level from 0 "
                f"to {threshold.map_scale.count - 1}: {remedy}"
            )
        if found.setdefault((threshold.category, threshold.trial), threshold) is not threshold:
            raise StoreError(
                f"{source}, threshold {number}: there is one of {threshold.category} at "
                f"{counted(threshold.shots, 'shot')}, seed {threshold.seed} already: {remedy}"
            )
    return list(found.values())


def read_thresholds(path: Path) -> list[Threshold]:
    """Read what :func:`write_thresholds` wrote.

    Raises:
        StoreError: missing, damaged or of another schema version.
    """
    return parse_thresholds(read_json(path), str(path))
