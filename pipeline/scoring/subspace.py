"""Vision components of rule subspace: distances to the principal components of normal patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cache.files import Location
from cache.index import Index
from cache.keys import Keys
from cache.layout import RowLocation, Space, fingerprint
from cache.store import Store
from fade.maps import merge_sizes
from fade.types import Trial
from pipeline.artefacts.catalogue import REFERENCES, SELECTION
from pipeline.artefacts.receipts import Receipt, read_receipt
from pipeline.artefacts.tables import read_table
from pipeline.config.schema import Params
from pipeline.dataset.images import references_of
from pipeline.scoring.before import RowIndex
from pipeline.scoring.fits import FIT_VERSION, Fit, FitStep, fit_space, open_fit
from pipeline.scoring.plan import ComparedWith, ComponentPlan, ComponentWork, missing_components
from pipeline.scoring.views import FeatureView, view_plan


@dataclass(frozen=True)
class SubspaceScorer:
    """Compares images of a category with subspaces.

    Attributes:
        store: where the subspaces are.
        spaces: of the subspaces, one for each view.
        places: for each view and comparison, where its subspace lies.
    """

    name: str
    store: Location
    views: tuple[FeatureView, ...]
    spaces: tuple[Space, ...]
    places: tuple[tuple[RowLocation, ...], ...]

    def rows(
        self, output: Space, features: Sequence[Space], vectors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """See :class:`pipeline.scoring.plan.Scorer`."""
        by_view = []
        for view, space, places in zip(self.views, self.spaces, self.places, strict=True):
            fits, grid = [open_fit(self.store, space, p) for p in places], view.grid(features)
            # image by image: the last digits of a product of several depend on which these are
            found = [fit.residual(image) for image in view.each(features, vectors) for fit in fits]
            by_view.append(np.stack(found).reshape(-1, *grid))
        return np.stack([merge_sizes(maps) for maps in zip(*by_view, strict=True)])


@dataclass(frozen=True, eq=False)
class SubspacePlan(ComponentPlan):
    """The work on one category. Its blocks can be made once the subspaces are in the store.

    Attributes:
        fit_spaces: of the subspaces, one for each view.
    """

    category: str
    views: tuple[FeatureView, ...]
    fit_spaces: tuple[Space, ...]
    fits: RowIndex

    block_images = 64
    reads_once = True

    def scorer(self, keys: tuple[str, ...], against: Sequence[str]) -> SubspaceScorer:
        """See :class:`ComponentPlan`."""
        places = tuple(tuple(self.fits.locations(space, against)) for space in self.fit_spaces)
        return SubspaceScorer(
            self.category, self.fits.store.root, self.views, self.fit_spaces, places
        )


def plan_subspace(
    params: Params,
    trials: Sequence[Trial],
    tests: Mapping[str, Keys],
    calibration: Mapping[str, Keys],
    receipt: Receipt,
    store: Store,
    output: Space,
    index: Index,
) -> ComponentWork:
    """Plan the components of all categories and trials.

    Args:
        tests: keys of test images by category.
        calibration: the same of images to calibrate on.
        index: what the store has of them.

    Raises:
        StoreError: artefacts of earlier stages are missing or damaged.
    """
    selection, _ = read_table(SELECTION.path)
    selections = dict(tuple(selection.groupby("category", sort=False)))
    references = read_receipt(REFERENCES)
    views = tuple(view_plan(params))
    features = tuple(receipt.space(feature.label) for feature in params.vision_features())
    fit_spaces = tuple(fit_space(view, features, params) for view in views)
    rows = RowIndex(store)
    checksums = {label: references.rows[label] for label in references.spaces}

    fits: dict[str, list[Fit]] = {}

    def digest_of(category: str, trial: Trial, keys: list[str]) -> str:
        with_batch = params.vision.has_batch(trial.shots)
        batch = sorted(set(tests.get(category, ()))) if with_batch else []
        mine = sorted(keys)
        labels = [feature.label for feature in params.bank_features(category)]
        content = {
            "rule": "subspace", "version": FIT_VERSION, "batch": batch,
            "references": [[key, *(checksums[label][key] for label in labels)] for key in mine],
            "spaces": [space.fingerprint for space in fit_spaces], "residuals": "by image",
        }  # fmt: skip
        fit = Fit(fingerprint(content), tuple(mine), tuple(batch))
        fits.setdefault(category, []).append(fit)
        return fit.digest

    plans: list[ComponentPlan] = []
    compared = ComparedWith(digest_of)
    for category in dict.fromkeys([*tests, *calibration]):
        own = selections.get(category, selection.iloc[:0])
        groups = compared.add(
            category,
            tests.get(category, Keys.of(())),
            list(calibration.get(category, ())),
            {trial: references_of(own, trial) for trial in trials},
        )
        missing = missing_components(groups, index)
        plans.append(
            SubspacePlan(output, features, groups, missing, category, views, fit_spaces, rows)
        )
    every = list(dict.fromkeys(one.digest for part in fits.values() for one in part))
    lacking = []
    for space in fit_spaces:
        there = store.repair(space).has(every)  # all: new images are compared with them later
        lacking.append(frozenset(d for d, known in zip(every, there, strict=True) if not known))
    step = FitStep(params, views, features, fits, tuple(lacking), references, receipt)
    against = {"vision-map": compared.trials, "held-out": compared.held_out}
    return ComponentWork(plans, against, (step,))
