"""Metrics that benchmarks of today ask for beside the eight, from the same scores and histograms.

Average precision is scikit-learn's: the sum over thresholds of precision times the step in recall.
AUPRO at several limits is that of :func:`fade.metrics.pixel_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fade.metrics import (
    Curve,
    Evaluation,
    PixelHistogram,
    au_pro,
    pixel_metrics,
    recall_curve,
    values_and_reasons,
)
from fade.rates import IMAGE_RATES, PIXEL_RATES

IMAGE_AP, PIXEL_AP, AUPIMO = "full_image_ap", "full_pixel_ap", "full_pixel_aupimo"


def au_pro_name(limit: float) -> str:
    """The name of AUPRO up to a further limit.

    Examples:
        >>> au_pro_name(0.05)
        'full_pixel_au_pro_0.05'
    """
    return f"full_pixel_au_pro_{limit:g}"


def au_spro_names(limits: Sequence[float]) -> tuple[str, ...]:
    """The names of AU-sPRO up to some limits; the first has none in its name.

    Examples:
        >>> au_spro_names([0.3, 0.05])
        ('full_pixel_au_spro', 'full_pixel_au_spro_0.05')
    """
    name = "full_pixel_au_spro"
    return tuple(f"{name}_{limit:g}" if number else name for number, limit in enumerate(limits))


def further_names(
    pro_limits: Sequence[float], spro_limits: Sequence[float] = ()
) -> tuple[str, ...]:
    """Names of the further metrics, in the order of the results.

    Args:
        pro_limits: of AUPRO; the first has a name among the eight.
        spro_limits: of AU-sPRO.

    Examples:
        >>> further_names([0.3, 0.05])[-2:]
        ('full_pixel_aupimo', 'full_pixel_au_pro_0.05')
    """
    fixed = (IMAGE_AP, *IMAGE_RATES, PIXEL_AP, *PIXEL_RATES, AUPIMO)
    return (*fixed, *map(au_pro_name, pro_limits[1:]), *au_spro_names(spro_limits))


def area_of_steps(curve: Curve) -> float:
    """The area under precision (n,) over recall (n,) by steps, each as high as its right end.

    Examples:
        >>> area_of_steps((np.array([0.0, 0.5, 1.0]), np.array([1.0, 1.0, 0.5])))
        0.75
    """
    recall, precision = curve
    return float(np.sum(np.diff(recall) * precision[1:]))


def further_image_metrics(
    scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_]
) -> Evaluation:
    """Average precision of images; undefined without anomalous ones.

    Arguments and errors as for :func:`fade.metrics.image_metrics`.

    Examples:
        >>> further_image_metrics(np.array([0.1, 0.4]), np.array([False, True]))[0]
        {'full_image_ap': 1.0}
    """
    curve = recall_curve(scores, is_anomaly)
    reason = "no anomalous test image" if scores.size else "no test image"
    return values_and_reasons({IMAGE_AP: area_of_steps(curve) if curve else reason})


def further_pixel_metrics(
    histogram: PixelHistogram, pro_limits: Sequence[float] = (0.3,)
) -> Evaluation:
    """Pixel average precision and AUPRO at all limits but the first, exact for maps in levels.

    Args:
        histogram: of the images.
        pro_limits: of AUPRO.

    Raises:
        ParameterError: a limit is not in (0, 1].

    Examples:
        >>> from fade.regions import label_regions
        >>> levels = np.array([[0, 10, 200]], np.uint8)
        >>> one = PixelHistogram.of_image(levels, label_regions(levels > 100))
        >>> further_pixel_metrics(one, [0.3, 0.05])[0]
        {'full_pixel_ap': 1.0, 'full_pixel_au_pro_0.05': 1.0}
    """
    _, undefined = pixel_metrics(histogram)
    found: dict[str, float | str] = {}
    # average precision needs what F1 needs, and each AUPRO what the first one needs
    found[PIXEL_AP] = undefined.get("full_pixel_f1_max") or _pixel_average_precision(histogram)
    for limit in pro_limits[1:]:
        reason = undefined.get("full_pixel_au_pro")
        found[au_pro_name(limit)] = reason or au_pro(histogram, limit)
    return values_and_reasons(found)


def _pixel_average_precision(histogram: PixelHistogram) -> float:
    true = histogram.anomalous[::-1].cumsum()
    detected = true + histogram.normal[::-1].cumsum()
    recall = np.concatenate([[0.0], true / true[-1]])
    # where nothing is detected, recall takes no step
    precision = np.concatenate([[1.0], true / np.maximum(detected, 1)])
    return area_of_steps((recall, precision))
