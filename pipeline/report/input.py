"""All that the report shows, as the report stage hands it to the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fade.metrics import PixelHistogram
from fade.types import Trial
from pipeline.evaluation.thresholds import Threshold
from pipeline.evaluation.trials import choose_trial
from pipeline.report.gallery import Mask, Pixels
from pipeline.report.nearest import NearestFinder
from pipeline.report.pull import PullFinder

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
        load_above: as ``load_map``, the pixels that count as anomalous: bool (H, W). None: those above
            the threshold.
        load_nearest: of a category and rows of the shown trial's scores, the worst patch of each and
            the nearest good one; None where that is not known.
        load_pull: of the same, the sentences nearest to each and to its worst patch.
        reasons: why a metric is undefined, by category, shots, seed and metric.
        load_map: of a trial's label and the row within that trial's scores, the fused map: uint8
            (H, W), or None where there are no maps.
        originals: the address of the folder that paths are relative to, see :func:`originals_address`.
        load_image: of a row's ``path``, the image: uint8 RGB (h, w, 3).
        load_mask: of a row's ``path``, the mask: bool (h, w), or None where there is none.
        trial: the one that plots, galleries and decisions show; by default the one that ``fade predict``
            takes, of those that scores or thresholds are of.
        thresholds: of categories and trials, what makes an image or a pixel anomalous.
        pixels: of categories and trials, the histograms of their pixels.
        pro_limit: false positive rate up to which AUPRO integrates.
        skipped: of each image that was left out, why; each reason names its image.
        unused: of each folder with files that are not used, how many and why.
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
    load_above: Callable[[str, int], Mask | None] | None = None
    load_nearest: NearestFinder | None = None
    load_pull: PullFinder | None = None
    originals: str = ""
    reasons: Reasons = field(default_factory=dict)
    trial: Trial | None = None
    thresholds: Sequence[Threshold] = ()
    pixels: Mapping[tuple[str, Trial], PixelHistogram] = field(default_factory=dict)
    pro_limit: float = 0.3
    skipped: Sequence[str] = ()
    unused: Sequence[str] = ()
    gallery_size: int = 4

    def shown_trial(self) -> Trial | None:
        """The trial that the page shows; None where there is neither a score nor a threshold."""
        if self.trial is not None:
            return self.trial
        trials = {threshold.trial for threshold in self.thresholds}
        if not self.scores.empty:
            pairs = self.scores[["shots", "seed"]].drop_duplicates().to_numpy()
            trials = {Trial(int(shots), int(seed)) for shots, seed in pairs}
        return choose_trial(sorted(trials)) if trials else None
