"""How a declared threshold divides what is labelled: F1, recall and false-alarm rate.

The F1 of pixels at a threshold is SegF1 of MVTec AD 2. What is above a threshold is anomalous, as in
predictions; thresholds of curves are at or below what they detect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fade.metrics import Evaluation, PixelHistogram, values_and_reasons

RATES = ("f1", "recall", "false_alarms")
IMAGE_RATES = tuple(f"full_image_{name}" for name in RATES)
PIXEL_RATES = tuple(f"full_pixel_{name}" for name in RATES)


def image_rates(
    scores: NDArray[np.floating], is_anomaly: NDArray[np.bool_], threshold: float
) -> Evaluation:
    """F1, recall and false-alarm rate of images at a threshold.

    Args:
        scores: (n,), finite.
        is_anomaly: labels (n,).
        threshold: scores above it are called anomalous.

    Examples:
        >>> scores, is_anomaly = np.array([0.1, 0.4, 0.8]), np.array([False, True, True])
        >>> image_rates(scores, is_anomaly, 0.4)[0]["full_image_recall"]
        0.5
    """
    above = scores > threshold
    anomalous, good = int(is_anomaly.sum()), int((~is_anomaly).sum())
    true, false = int((above & is_anomaly).sum()), int((above & ~is_anomaly).sum())
    missing = ("no anomalous test image", "no good test image")
    return _rates(IMAGE_RATES, true, false, anomalous, good, missing)


def pixel_rates(histogram: PixelHistogram, level: int) -> Evaluation:
    """F1, recall and false-alarm rate of pixels at a level of the map; levels above it are a defect.

    Args:
        histogram: of the images.
        level: from 0 to the map's highest.

    Examples:
        >>> from fade.regions import label_regions
        >>> levels = np.array([[0, 10, 200]], np.uint8)
        >>> one = PixelHistogram.of_image(levels, label_regions(levels > 100))
        >>> pixel_rates(one, 0)[0]
        {'full_pixel_f1': 0.6666666666666666, 'full_pixel_recall': 1.0, 'full_pixel_false_alarms': 0.5}
    """
    true, false = (
        int(histogram.anomalous[level + 1 :].sum()),
        int(histogram.normal[level + 1 :].sum()),
    )
    anomalous, good = int(histogram.anomalous.sum()), int(histogram.normal.sum())
    missing = ("no defect pixel", "no normal pixel")
    return _rates(PIXEL_RATES, true, false, anomalous, good, missing)


def _rates(
    names: tuple[str, ...],
    true: int,
    false: int,
    anomalous: int,
    good: int,
    missing: tuple[str, str],
) -> Evaluation:
    of = (
        2 * true / (true + false + anomalous) if anomalous else missing[0],
        true / anomalous if anomalous else missing[0],
        false / good if good else missing[1],
    )
    return values_and_reasons(dict(zip(names, of, strict=True)))
