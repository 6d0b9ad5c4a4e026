"""The curves of one trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fade.metrics import Curve, pro_curve, recall_curve, roc_curve
from fade.types import Trial
from pipeline.artefacts.pixel_histograms import PixelHistograms
from pipeline.evaluation.results import labelled_images
from pipeline.report.plots import CURVES

if TYPE_CHECKING:
    import pandas as pd


def category_curves(
    scores: pd.DataFrame, pixels: PixelHistograms, trial: Trial
) -> dict[str, dict[str, Curve]]:
    """By category, the curves of one trial that its images define."""
    found: dict[str, dict[str, Curve]] = {}
    chosen = scores[(scores["shots"] == trial.shots) & (scores["seed"] == trial.seed)]
    for name, own in labelled_images(chosen).groupby("category", sort=False):
        values, labels = own["score"].to_numpy(), own["is_anomaly"].to_numpy(dtype=bool)
        scored = np.isfinite(values).all()
        histogram = pixels.get((str(name), trial))
        curves = (
            roc_curve(values, labels) if scored else None,
            recall_curve(values, labels) if scored else None,
            pro_curve(histogram) if histogram else None,
        )
        found[str(name)] = {
            title: curve
            for (title, _, _), curve in zip(CURVES, curves, strict=True)
            if curve is not None
        }
    return found
