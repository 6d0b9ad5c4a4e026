"""The eight metrics: of images from their scores, of pixels from histograms that add up.

Maps have 256 levels, or 65,536 where values have no upper limit, so how many normal and anomalous
pixels lie at each level says all that the pixel metrics need to know. Such histograms are taken per
image and added; no array of all pixels is ever built, and the result is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fade.errors import DataError, ParameterError
from fade.level_counts import LEVELS, LEVELS_OF, LevelCounts
from fade.regions import Regions

METRIC_NAMES: tuple[str, ...] = (
    "full_image_auroc",
    "full_image_aupr",
    "full_image_f1_max",
    "full_pixel_auroc",
    "full_pixel_f1_max",
    "full_pixel_au_pro",
    "anomaly_pixel_auroc",
    "anomaly_pixel_f1_max",
)
"""Names of the metrics, in the order of the results."""

Evaluation = tuple[dict[str, float], dict[str, str]]
"""Metrics by name, NaN where undefined; and for each undefined one the reason."""

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""The abscissas and ordinates of a curve's points, from its left end."""

_SHAPES = {(count,) for count in LEVELS_OF.values()}

_Floats = NDArray[np.float64]
_Counts = NDArray[np.int64]


@dataclass(eq=False, slots=True)
class PixelHistogram:
    """All that the pixel metrics need to know of a set of images; add two to join their sets.

    Arrays have one entry per level: ``normal`` counts the pixels outside regions,
    ``normal_beside_defects`` those of them that lie in images with a defect pixel, ``anomalous``
    the pixels inside regions. ``pro`` sums over ``regions`` the fraction of the region's pixels
    that is at each level. Sums are exact and free of order; of ``pro``, to rounding. Images are added in
    place by :meth:`add`, at the levels that they have.

    Raises:
        DataError: an array has another shape, or a negative or non-finite entry.

    Examples:
        >>> import numpy as np
        >>> from fade.regions import label_regions
        >>> levels = np.array([[0, 200]], np.uint8)
        >>> one = PixelHistogram.of_image(levels, label_regions(levels > 100))
        >>> two = one + one
        >>> int(two.anomalous[200]), int(two.normal[0]), two.regions
        (2, 2, 2)
    """

    normal: _Counts
    normal_beside_defects: _Counts
    anomalous: _Counts
    pro: _Floats
    regions: int

    def __post_init__(self) -> None:
        for name in ("normal", "normal_beside_defects", "anomalous", "pro"):
            array = getattr(self, name)
            known = array.shape == self.normal.shape and array.shape in _SHAPES
            if not known or not (array.min() >= 0 and array.max() < np.inf):
                raise DataError(
                    f"a pixel histogram's {name!r} of shape {array.shape} is damaged: it must "
                    f"have shape ({LEVELS},) or (65536,) and finite entries of at least 0; compute it "
                    "again"
                )

    @classmethod
    def empty(cls, levels: int = LEVELS) -> PixelHistogram:
        """Return the histogram of no image, to add to: of maps of so many levels."""
        normal, beside, anomalous = np.zeros((3, levels), np.int64)
        return cls(normal, beside, anomalous, np.zeros(levels), 0)

    @classmethod
    def of_image(
        cls, levels: NDArray[np.uint8] | NDArray[np.uint16], regions: Regions
    ) -> PixelHistogram:
        """Return the histogram of one map (H, W), uint8 or uint16, against the regions of its mask.

        Raises:
            DataError: the map is of another type, or not of the mask's shape.
        """
        counts = LevelCounts.of_image(levels, regions)
        found = cls.empty(counts.size)
        found.add(counts)
        return found

    def add(self, image: LevelCounts) -> None:
        """Add an image whose map has as many levels."""
        # the levels of one image differ: none is added to twice
        self.normal[image.levels] += image.normal
        if image.anomalous.any():
            self.normal_beside_defects[image.levels] += image.normal
            self.anomalous[image.levels] += image.anomalous
            self.pro[image.levels] += image.pro
            self.regions += image.regions

    def __add__(self, other: PixelHistogram) -> PixelHistogram:
        return PixelHistogram(
            self.normal + other.normal,
            self.normal_beside_defects + other.normal_beside_defects,
            self.anomalous + other.anomalous,
            self.pro + other.pro,
            self.regions + other.regions,
        )


def image_metrics(scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_]) -> Evaluation:
    """Return the three image metrics of scores (N,) and bool labels (N,), True where anomalous.

    AUROC is the area under the ROC curve, AUPR the area by trapezoids under scikit-learn's
    precision-recall curve (from recall 0 and precision 1; not average precision), F1 the best over
    all thresholds that occur. Equal scores share a threshold. AUROC needs good and anomalous
    images. The other two need anomalous ones only: without good images precision is 1 everywhere
    and both are 1, as with scikit-learn.

    Raises:
        DataError: shapes differ, labels are not bool, or a score is not a finite number.

    Examples:
        >>> import numpy as np
        >>> values, reasons = image_metrics(np.array([0.1, 0.4, 0.8]), np.array([False, True, True]))
        >>> values["full_image_auroc"], values["full_image_f1_max"], reasons
        (1.0, 1.0, {})
        >>> image_metrics(np.array([0.1]), np.array([False]))[1]["full_image_auroc"]
        'no anomalous test image'
    """
    true, false = _detections(scores, is_anomaly)
    no_anomalous = "" if true[-1] else "no anomalous test image"
    no_good = "" if false[-1] else "no good test image"
    if scores.size == 0:
        no_anomalous = "no test image"
    return values_and_reasons(
        {
            "full_image_auroc": no_anomalous or no_good or _auroc(true, false),
            "full_image_aupr": no_anomalous
            or float(np.trapezoid(_precision(true, false), true / true[-1])),
            "full_image_f1_max": no_anomalous or _f1_max(true, false),
        }
    )


def _detections(
    scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_]
) -> tuple[_Counts, _Counts]:
    """Return how many anomalous and good images are at or above each score, falling, from none.

    All metrics and curves of images start here, and so do the checks of their arguments.
    """
    if is_anomaly.dtype != np.bool_ or scores.ndim != 1 or scores.shape != is_anomaly.shape:
        raise DataError(
            f"scores of shape {scores.shape} and labels of shape {is_anomaly.shape} and dtype "
            f"{is_anomaly.dtype} cannot be evaluated: give one score and one bool label per image"
        )
    if scores.dtype.kind not in "fiu":
        raise DataError(f"scores of dtype {scores.dtype} cannot be evaluated: they must be numbers")
    if not np.isfinite(scores).all():
        first = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise DataError(
            f"the score of image {first} (counted from 0, of {scores.size}) is {scores[first]}: "
            "scores must be finite; compute it again"
        )
    values, ranks = np.unique(scores, return_inverse=True)
    true = _from_above(np.bincount(ranks[is_anomaly], minlength=values.size))
    false = _from_above(np.bincount(ranks[~is_anomaly], minlength=values.size))
    return true, false


def roc_curve(scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_]) -> Curve | None:
    """Return the ROC curve of images: false and true positive rates at falling scores.

    None unless there are good and anomalous images. Arguments and errors as for
    :func:`image_metrics`.

    Examples:
        >>> import numpy as np
        >>> false_rate, true_rate = roc_curve(np.array([0.1, 0.9]), np.array([False, True]))
        >>> false_rate.tolist(), true_rate.tolist()
        ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    true, false = _detections(scores, is_anomaly)
    return (false / false[-1], true / true[-1]) if true[-1] and false[-1] else None


def recall_curve(scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_]) -> Curve | None:
    """Return recall and precision of images at falling scores, from recall 0 and precision 1.

    None without anomalous images. Arguments and errors as for :func:`image_metrics`.

    Examples:
        >>> import numpy as np
        >>> recall, precision = recall_curve(np.array([0.1, 0.9]), np.array([False, True]))
        >>> recall.tolist(), precision.tolist()
        ([0.0, 1.0, 1.0], [1.0, 1.0, 0.5])
    """
    true, false = _detections(scores, is_anomaly)
    return (true / true[-1], _precision(true, false)) if true[-1] else None


def pixel_metrics(histogram: PixelHistogram, pro_limit: float = 0.3) -> Evaluation:
    """Return the five pixel metrics of the images in a histogram.

    A pixel is detected at a threshold when its level is not below it; every level is a threshold.
    AUPRO (Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021) is the area under the
    mean overlap of the regions over the rate of false positives, from (0, 0) to ``pro_limit`` by
    trapezoids, the last one cut at the limit, divided by the limit. The two F1 (the best over all
    thresholds) need defect pixels, the others normal pixels too; the ``anomaly_pixel`` metrics
    look only at images with a defect pixel.

    Raises:
        ParameterError: ``pro_limit`` is not in (0, 1].

    Examples:
        >>> import numpy as np
        >>> from fade.regions import label_regions
        >>> levels = np.array([[0, 10, 200]], np.uint8)
        >>> values, _ = pixel_metrics(PixelHistogram.of_image(levels, label_regions(levels > 100)))
        >>> values["full_pixel_auroc"], values["full_pixel_au_pro"]
        (1.0, 1.0)
    """
    check_pro_limit(pro_limit)
    true = _from_above(histogram.anomalous)
    false = _from_above(histogram.normal)
    false_beside = _from_above(histogram.normal_beside_defects)
    no_defect = "" if true[-1] else "no defect pixel"
    no_normal = "" if false[-1] else "no normal pixel"
    no_normal_beside = "" if false_beside[-1] else "no normal pixel in an image with a defect"
    if not true[-1] and not false[-1]:
        no_defect = "no test image with a known mask"
    return values_and_reasons(
        {
            "full_pixel_auroc": no_defect or no_normal or _auroc(true, false),
            "full_pixel_f1_max": no_defect or _f1_max(true, false),
            "full_pixel_au_pro": no_defect or no_normal or au_pro(histogram, pro_limit),
            "anomaly_pixel_auroc": no_defect or no_normal_beside or _auroc(true, false_beside),
            "anomaly_pixel_f1_max": no_defect or _f1_max(true, false_beside),
        }
    )


def check_pro_limit(limit: float) -> None:
    """Refuse a limit of AUPRO outside (0, 1] (ParameterError).

    Examples:
        >>> check_pro_limit(0.3)
    """
    if not 0 < limit <= 1:
        raise ParameterError(
            f"pro_limit is {limit}: it must be above 0 and at most 1; 0.3 is usual"
        )


def values_and_reasons(results: dict[str, float | str]) -> Evaluation:
    """Part numbers from reasons; in a result, an undefined metric is the text that says why.

    Examples:
        >>> values_and_reasons({"full_pixel_auroc": 0.9, "full_pixel_ap": "no defect pixel"})
        ({'full_pixel_auroc': 0.9, 'full_pixel_ap': nan}, {'full_pixel_ap': 'no defect pixel'})
    """
    values = {name: float("nan") if isinstance(r, str) else r for name, r in results.items()}
    return values, {name: r for name, r in results.items() if isinstance(r, str)}


def _from_above(per_value: NDArray) -> NDArray:
    """Accumulate what lies at each value (ascending) from the highest down, starting at nothing.

    Of counts this gives the detections at each threshold. A value that does not occur repeats a
    point of the curves below, which adds no area and no other F1.
    """
    return np.concatenate([[0], np.cumsum(per_value[::-1])])


def _auroc(true: _Counts, false: _Counts) -> float:
    """Return the area under the true over the false positive rate, by trapezoids."""
    return float(np.trapezoid(true / true[-1], false / false[-1]))


def _precision(true: _Counts, false: _Counts) -> _Floats:
    """Return the share of detections that are right, 1 where nothing is detected."""
    return np.concatenate([[1.0], true[1:] / (true[1:] + false[1:])])


def _f1_max(true: _Counts, false: _Counts) -> float:
    """Return the best 2 TP / (TP + FP + P), the harmonic mean of precision and recall."""
    return float(np.max(2 * true / (true + false + true[-1])))


def pro_curve(histogram: PixelHistogram) -> Curve | None:
    """Return the PRO curve: false positive rates and mean overlaps of regions at falling levels.

    Its area is what AUPRO measures, see :func:`pixel_metrics`. None where there is no
    defect pixel or no normal one.

    Examples:
        >>> pro_curve(PixelHistogram.empty()) is None
        True
    """
    false = _from_above(histogram.normal)
    if not histogram.regions or not false[-1]:
        return None
    return false / false[-1], _from_above(histogram.pro) / histogram.regions


def au_pro(histogram: PixelHistogram, limit: float) -> float:
    """Return the area under :func:`pro_curve` up to a limit of the rate, divided by it.

    Args:
        histogram: with defect and with normal pixels.
        limit: in (0, 1].

    Raises:
        ParameterError: the limit is not in (0, 1].

    Examples:
        >>> from fade.regions import label_regions
        >>> mask = np.array([[True, False]])
        >>> levels = np.array([[200, 10]], np.uint8)
        >>> au_pro(PixelHistogram.of_image(levels, label_regions(mask)), 0.3)
        1.0
    """
    check_pro_limit(limit)
    curve = pro_curve(histogram)
    assert curve is not None  # asked for only where there are regions and normal pixels
    rate, overlap = curve
    within = rate <= limit
    area = np.trapezoid(
        np.append(overlap[within], np.interp(limit, rate, overlap)),
        np.append(rate[within], limit),
    )
    return float(area / limit)
