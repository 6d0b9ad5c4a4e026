"""All that the report shows, as the report stage hands it to the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fade.metrics import PixelHistogram
from fade.types import Trial
from pipeline.evaluation.thresholds import Threshold
from pipeline.report.gallery import Mask, Pixels

if TYPE_CHECKING:
    import pandas as pd


Reasons = Mapping[tuple[str, int, int, str], str]


@dataclass(frozen=True)
class ReportInput:
    """All that the report shows.

    Attributes:
        title: heading of the page.
        parameters: the run's parameters, nested as in ``params.yaml``.
        provenance: what the results come from, by name, e.g. versions and fingerprints.
        warnings: what a reader must know before believing a number, one sentence each.
        metrics: ``category`` (with rows ``mean``), ``shots``, ``seed`` and the eight metrics as
            fractions, NaN where undefined. Empty where there are no test images.
        summary: ``category``, ``shots``, ``<metric>_mean`` and ``<metric>_std`` over seeds.
        scores: a row per test image, shots and seed, columns as in ``scores.parquet``.
        reasons: why a metric is undefined, by category, shots, seed and metric.
        load_map: of a trial's label and the row within that trial's scores, the fused map: uint8
            (H, W), or None where there are no maps.
        load_image: of a row's ``path``, the image: uint8 RGB (h, w, 3).
        load_mask: of a row's ``path``, the mask: bool (h, w), or None where there is none.
        thresholds: of categories and trials, what makes an image or a pixel anomalous.
        pixels: of categories and trials, the histograms of their pixels.
        pro_limit: false positive rate up to which AUPRO integrates.
        skipped: of each image that was left out, why; each reason names its image.
        gallery_size: images of each kind per category.

    A loader may raise :class:`~fade.errors.FadeError`; its message then stands in for the
    picture.
    """

    title: str
    parameters: Mapping[str, Any]
    provenance: Mapping[str, str]
    warnings: Sequence[str]
    metrics: pd.DataFrame
    summary: pd.DataFrame
    scores: pd.DataFrame
    load_map: Callable[[str, int], Pixels | None]
    load_image: Callable[[str], Pixels]
    load_mask: Callable[[str], Mask | None]
    reasons: Reasons = field(default_factory=dict)
    thresholds: Sequence[Threshold] = ()
    pixels: Mapping[tuple[str, Trial], PixelHistogram] = field(default_factory=dict)
    pro_limit: float = 0.3
    skipped: Sequence[str] = ()
    gallery_size: int = 4
