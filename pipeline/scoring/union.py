"""Vision components of rule nearest where other test images count beside the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cache.keys import Keys
from cache.layout import Space
from cache.store import Store
from fade.maps import merge_sizes
from pipeline.artefacts.receipts import Receipt
from pipeline.config.rules import partners_of
from pipeline.config.schema import Params
from pipeline.scoring.bank_plan import VisionPlan, VisionScorer
from pipeline.scoring.before import RowIndex
from pipeline.scoring.mutual import MERGE_IMAGES, MergeScorer, lacking_pairs, merge_scorer
from pipeline.scoring.pairs import Batch, PairStep, PairView, pair_views

NEAREST = 1e-9
"""Share of an image's partners of which the nearest one counts."""


@dataclass(frozen=True)
class UnionScorer(VisionScorer):
    """Takes for each patch the smaller of its distances to references and to other test images.

    Attributes:
        to_batch: reads the distances between images.
    """

    to_batch: MergeScorer

    def rows(
        self, output: Space, features: Sequence[Space], vectors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """See :class:`pipeline.scoring.plan.Scorer`."""
        by_view = []
        for view, of_batch in zip(self.views, self.to_batch.by_view(), strict=True):
            factor = np.float32(self.bank.rule.per_length(view.dim(features)))
            maps = []
            for query, other in zip(view.each(features, vectors), of_batch, strict=True):
                known = self.bank.view_maps(view.label, query, self.comparisons)
                nearest = other * factor
                maps += [nearest if one is None else np.minimum(one, nearest) for one in known]
            by_view.append(maps)
        return np.stack([merge_sizes(maps) for maps in zip(*by_view, strict=True)])


@dataclass(frozen=True, eq=False)
class UnionPlan(VisionPlan):
    """The work on one category. Its blocks can be made once the pairs are in the store.

    Attributes:
        batch: the test images, and the images that are compared with them.
        pair_views: how they are compared.
        pairs: where their distances are.
    """

    batch: Batch
    pair_views: tuple[PairView, ...]
    pairs: RowIndex

    block_images = MERGE_IMAGES

    def scorer(self, keys: tuple[str, ...], against: Sequence[str]) -> UnionScorer:
        """See :class:`ComponentPlan`; the scorer knows where the images' pairs are."""
        merge = merge_scorer(self.batch, self.pair_views, NEAREST, self.pairs, keys)
        known = super().scorer(keys, against)
        return UnionScorer(known.bank, known.comparisons, known.views, merge)


@dataclass(frozen=True, eq=False)
class Union:
    """The batches that count beside references.

    Attributes:
        batches: by category, with the images to calibrate on, which are compared with all or as
            many images as test images are.
        views: how images are compared.
        pairs: where distances are.
    """

    batches: Mapping[str, Batch]
    views: tuple[PairView, ...]
    receipt: Receipt
    pairs: RowIndex

    @classmethod
    def plan(
        cls,
        params: Params,
        tests: Mapping[str, Keys],
        calibration: Mapping[str, Keys],
        receipt: Receipt,
        store: Store,
    ) -> Union:
        """The batches of a run.

        Raises:
            ParameterError: a category has too few test images.
        """
        batches = {}
        for category, images in tests.items():
            batch = Batch.of(category, images, params.vision)
            partners = partners_of(params.vision, len(batch.keys))
            batches[category] = batch.with_others(calibration.get(category, ()), partners)
        return cls(batches, pair_views(params, receipt), receipt, RowIndex(store))

    def digest(self, category: str) -> str | None:
        """What stands for a category's batch in keys of components."""
        return self.batches[category].digest if category in self.batches else None

    def step(self, plans: Sequence[VisionPlan]) -> PairStep:
        """The pairs of categories that lack a component."""
        unfinished = {plan.bank.category for plan in plans if plan.lacking}
        batches = tuple(self.batches.values())
        needed = [batch.category in unfinished for batch in batches]
        store = self.pairs.store
        lacking = tuple(lacking_pairs(view, batches, needed, store) for view in self.views)
        return PairStep(self.views, batches, lacking, self.receipt)
