"""What tables call the metrics."""

from __future__ import annotations

import re

from pipeline.report.plots import LABELS

_FURTHER = {
    "full_image_ap": "Image AP",
    "full_image_f1": "Image F1 at the threshold",
    "full_image_recall": "Image recall at the threshold",
    "full_image_false_alarms": "False alarms of images at the threshold",
    "full_pixel_ap": "Pixel AP",
    "full_pixel_f1": "Pixel F1 at the threshold (SegF1)",
    "full_pixel_recall": "Pixel recall at the threshold",
    "full_pixel_aupimo": "AUPIMO",
    "full_pixel_au_spro": "Pixel AU-sPRO",
    "full_pixel_false_alarms": "False alarms of pixels at the threshold",
}
_UP_TO = re.compile(r"(full_pixel_au_s?pro)_([\d.e+-]+)")


def metric_label(name: str) -> str:
    """The words for a metric; of one without any, its name.

    >>> metric_label("full_pixel_ap"), metric_label("full_pixel_au_pro_0.05")
    ('Pixel AP', 'Pixel AUPRO at 0.05')
    """
    if limit := _UP_TO.fullmatch(name):
        return f"{metric_label(limit[1])} at {limit[2]}"
    return LABELS.get(name) or _FURTHER.get(name, name)
