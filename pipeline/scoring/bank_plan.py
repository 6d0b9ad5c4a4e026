"""Components of rule nearest: a category's bank at work on one block of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cache.layout import Space
from pipeline.scoring.banks import Bank, Comparison
from pipeline.scoring.plan import ComponentPlan
from pipeline.scoring.views import FeatureView


@dataclass(frozen=True)
class VisionScorer:
    """A category's bank, what of it images are compared with, and how these are looked at."""

    bank: Bank
    comparisons: tuple[Comparison, ...]
    views: tuple[FeatureView, ...]

    @property
    def name(self) -> str:
        """The category."""
        return self.bank.category

    def rows(
        self, output: Space, features: Sequence[Space], vectors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """See :class:`pipeline.scoring.plan.Scorer`; the comparisons of an image one after the other."""
        of_views = [view.each(features, vectors) for view in self.views]
        return np.concatenate(
            [
                self.bank.vision_maps(
                    dict(zip(self.bank.views, one, strict=True)), self.comparisons
                )
                for one in zip(*of_views, strict=True)
            ]
        )


@dataclass(frozen=True, eq=False)
class VisionPlan(ComponentPlan):
    """The work on one category.

    Attributes:
        comparisons: by digest.
    """

    bank: Bank
    comparisons: Mapping[str, Comparison]
    views: tuple[FeatureView, ...]
    block_images = 64
    reads_once = True

    def scorer(self, keys: tuple[str, ...], against: Sequence[str]) -> VisionScorer:
        """See :class:`ComponentPlan`."""
        return VisionScorer(
            self.bank, tuple(self.comparisons[digest] for digest in against), self.views
        )
