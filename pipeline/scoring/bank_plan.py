"""Components of rule nearest: a category's bank at work on one block of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cache.layout import Space
from pipeline.scoring.banks import Bank, Comparison, merged_views
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
        images = range(len(vectors[0]))
        return np.concatenate(
            [self._maps(features, [one[i : i + 1] for one in vectors]) for i in images]
        )

    def _maps(self, features: Sequence[Space], image: Sequence[np.ndarray]) -> np.ndarray:
        """(comparisons, R, C) of one image, in float32 in one view at a time: that takes less memory."""
        return merged_views(
            self.bank.maps_in(label, view.vectors(features, image)[0], self.comparisons)
            for label, view in zip(self.bank.views, self.views, strict=True)
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
