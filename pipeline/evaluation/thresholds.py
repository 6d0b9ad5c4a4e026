"""Thresholds on image scores and map levels: what is above them is anomalous."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fade.errors import StoreError
from fade.levels import FINE, UNIT, Scale
from fade.metrics import LEVELS, PixelHistogram
from fade.types import Trial
from pipeline.artefacts.tables import read_json, write_json

ThresholdSource = Literal["training", "references", "labels", "given", "none"]


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
        set_by: path in the data set of the image whose score ``image`` is; None where it is no single
            normal image's.
        false_alarm_limit: the share of normal images above ``image``, of such as it was drawn from, is
            at most this with 95 % confidence; None where normal images did not set it.
        warning: why to look at it before relying on it, a sentence; empty without a reason.
        lacking: how many more normal images ``threshold.false_alarms`` needs; None where it is kept, or
            not asked for.
        scale, offset: level k of a map stands for ``offset + k scale``; None where maps have FADE's 256
            levels from 0 to 1.
    """

    category: str
    shots: int
    seed: int
    image: float | None
    pixel: int | None
    source: ThresholdSource
    images: int
    remark: str
    set_by: str | None = None
    false_alarm_limit: float | None = None
    warning: str = ""
    lacking: int | None = None
    scale: float | None = None
    offset: float | None = None

    def on(self, scale: Scale) -> Threshold:
        """The same, of maps on a scale."""
        if scale == UNIT:
            return self
        return replace(self, scale=scale.step, offset=scale.offset)

    def as_json(self) -> dict[str, Any]:
        """What files hold of it: a scale, and what is lacking, only where there is one."""
        content = asdict(self)
        return {
            name: value
            for name, value in content.items()
            if value is not None or name not in ("lacking", "scale", "offset")
        }

    @property
    def map_scale(self) -> Scale:
        """What the levels of maps stand for."""
        if self.scale is None or self.offset is None:
            return UNIT
        return Scale(FINE, self.scale, self.offset)

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
        return undecided(category, trial, "the test images are not both good and anomalous").on(
            scale
        )
    remark = f"best F1 on the labels of the {len(scores)} test images themselves: optimistic"
    return Threshold(
        category, trial.shots, trial.seed, image, pixel, "labels", len(scores), remark
    ).on(scale)


def undecided(category: str, trial: Trial, reason: str) -> Threshold:
    """No threshold, and why."""
    return Threshold(
        category, trial.shots, trial.seed, None, None, "none", 0, f"no decision: {reason}"
    )


def write_thresholds(
    thresholds: Sequence[Threshold],
    fusion: Mapping[str, Any],
    path: Path,
    against: Mapping[str, Any] | None = None,
) -> None:
    """Write ``thresholds.json``.

    Args:
        thresholds: of all trials.
        fusion: that they hold for.
        path: of the file.
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


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e300 < value < 1e300  # not NaN, which is in no range


def _is_count(value: Any, most: int = 2**63 - 1) -> bool:
    return type(value) is int and 0 <= value <= most


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "category": (lambda value: isinstance(value, str) and value != "", "a name"),
    "shots": (_is_count, "a whole number from 0"),
    "seed": (_is_count, "a whole number from 0"),
    "image": (lambda value: value is None or _is_number(value), "a finite number or null"),
    "pixel": (
        lambda value: value is None or _is_count(value, FINE - 1),
        f"a level from 0 to {LEVELS - 1} or null, on a scale to {FINE - 1}",
    ),
    "source": (
        lambda value: value in get_args(ThresholdSource),
        f"one of {', '.join(get_args(ThresholdSource))}",
    ),
    "images": (_is_count, "a whole number from 0"),
    "remark": (lambda value: isinstance(value, str), "a text"),
    "set_by": (lambda value: value is None or isinstance(value, str), "a path or null"),
    "false_alarm_limit": (
        lambda value: value is None or (_is_number(value) and 0 <= value <= 1),
        "a share from 0 to 1 or null",
    ),
    "warning": (lambda value: isinstance(value, str), "a text"),
    "lacking": (lambda value: value is None or _is_count(value), "a whole number or null"),
    "scale": (
        lambda value: value is None or (_is_number(value) and value > 0),
        "a number above 0 or null",
    ),
    "offset": (lambda value: value is None or _is_number(value), "a finite number or null"),
}
"""Fields of a threshold's JSON: whether a value is valid, and in words which values are."""
_LATER = frozenset({"set_by", "false_alarm_limit", "warning", "lacking", "scale", "offset"})
"""Fields that files of earlier versions lack."""


def parse_thresholds(
    content: Mapping[str, Any], source: str, remedy: str = "run `dvc repro --force evaluate`"
) -> list[Threshold]:
    """The thresholds of what :func:`write_thresholds` wrote.

    Args:
        content: of the file.
        source: its name, for errors.
        remedy: what to do about a damaged one, for errors.

    Raises:
        StoreError: it is none of that, or a value cannot be what it stands for.
    """
    items = content.get("thresholds")
    if not isinstance(items, list):
        raise StoreError(f"{source} holds no thresholds: {remedy}")
    found: dict[tuple[str, Trial], Threshold] = {}
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict) or not set(_FIELDS) - _LATER <= set(item) <= set(_FIELDS):
            raise StoreError(
                f"{source} holds no thresholds (number {number} must have {', '.join(_FIELDS)}): {remedy}"
            )
        for name, (fits, needed) in _FIELDS.items():
            if name in item and not fits(item[name]):
                value = item[name]
                shown = type(value).__name__ if isinstance(value, list | dict) else repr(value)[:60]
                raise StoreError(
                    f"{source}, threshold {number}: {name} is {shown}, but must be {needed}: {remedy}"
                )
        threshold = Threshold(**item)
        if (threshold.pixel or 0) >= threshold.map_scale.count:
            raise StoreError(
                f"{source}, threshold {number}: pixel is {threshold.pixel}, but must be a level from 0 "
                f"to {threshold.map_scale.count - 1}: {remedy}"
            )
        if found.setdefault((threshold.category, threshold.trial), threshold) is not threshold:
            raise StoreError(
                f"{source}, threshold {number}: there is one of {threshold.category} at "
                f"{threshold.shots} shots, seed {threshold.seed} already: {remedy}"
            )
    return list(found.values())


def read_thresholds(path: Path) -> list[Threshold]:
    """Read what :func:`write_thresholds` wrote.

    Raises:
        StoreError: missing, damaged or of another schema version.
    """
    return parse_thresholds(read_json(path), str(path))
