"""How one new image is compared by rules that have no bank, with what a finished run left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from cache.keys import Keys
from cache.segment import DamagedSegmentError
from cache.store import Store
from fade.aspect import Shape
from fade.errors import StoreError
from fade.maps import merge_sizes
from fade.rules.mutual import mutual_scores, score_against_sample
from fade.rules.pairs import pairing
from fade.rules.subspace import Subspace
from fade.types import Trial
from fade.views import Metric
from pipeline.artefacts.catalogue import MANIFEST, TEST, VISION
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_table
from pipeline.config.rules import partners_of
from pipeline.config.schema import Params
from pipeline.config.vision import VisionParams
from pipeline.scoring.banks import Comparison, HeldBank
from pipeline.scoring.fits import open_fit
from pipeline.scoring.pairs import Batch, halved, mutual_digest
from pipeline.scoring.union import NEAREST
from pipeline.scoring.views import view_plan

SAME_FEATURES = 1e-3
"""Largest difference between the features of an image and of itself, as a share of the largest value:
other images in its batch change the last bits."""


class HeldRule(Protocol):
    """What is normal of a category, held in memory."""

    def vision_map(
        self, queries: Mapping[str, np.ndarray], grids: Mapping[str, Shape]
    ) -> np.ndarray:
        """The vision map of one image, before any multiplier.

        Args:
            queries: by view the image's patches, (patches, dim) float32.
            grids: by view their (rows, columns).

        Returns:
            (R, C) float32 on the largest grid.
        """

    @property
    def measure(self) -> str:
        """What the map's values are, in words."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """By view what a bundle takes along, (..., dim)."""


@dataclass(frozen=True)
class HeldSubspaces:
    """Rule subspace: by view the fitted one."""

    subspaces: Mapping[str, Subspace]
    measure = "residual, the squared distance to the components of what is normal"

    def vision_map(
        self, queries: Mapping[str, np.ndarray], grids: Mapping[str, Shape]
    ) -> np.ndarray:
        """See :class:`HeldRule`."""
        return merge_sizes(
            [self.subspaces[v].residual(queries[v]).reshape(grid) for v, grid in grids.items()]
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """See :class:`HeldRule`: the mean, then a component a row."""
        return {
            view: np.concatenate([one.mean[None], one.components])
            for view, one in self.subspaces.items()
        }


@dataclass(frozen=True)
class HeldSample:
    """Rule mutual: by view the patches of the images of a batch that were kept.

    Attributes:
        sample: (patches, dim) float32 of each image.
        metric: how distances are measured.
        lowest: share of the images, the nearest, that a score is the mean of.
    """

    sample: Mapping[str, Sequence[np.ndarray]]
    metric: Metric
    lowest: float

    def vision_map(
        self, queries: Mapping[str, np.ndarray], grids: Mapping[str, Shape]
    ) -> np.ndarray:
        """See :class:`HeldRule`."""
        maps = []
        for view, others in without_itself(queries, self.sample).items():
            scores = score_against_sample(
                queries[view], others, share=self.lowest, metric=self.metric
            )
            maps.append(halved(scores, self.metric).reshape(grids[view]))
        return merge_sizes(maps)

    @property
    def measure(self) -> str:
        """See :class:`HeldRule`."""
        return f"mean of the lowest {100 * self.lowest:g} % of the distances to images of the batch"

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """See :class:`HeldRule`."""
        return {view: np.stack(images) for view, images in self.sample.items()}


@dataclass(frozen=True)
class HeldUnion:
    """Rule nearest where images of a batch count: the smaller distance, to them or to a bank.

    Attributes:
        sample: by view the patches (patches, dim) float32 of each image that was kept.
        bank: of references; it may hold none.
        comparison: what of it a patch is compared with.
    """

    sample: Mapping[str, Sequence[np.ndarray]]
    bank: HeldBank
    comparison: Comparison
    measure = "distance to the nearest patch of the references and the batch"

    def vision_map(
        self, queries: Mapping[str, np.ndarray], grids: Mapping[str, Shape]
    ) -> np.ndarray:
        """See :class:`HeldRule`."""
        bank, rule = replace(self.bank, grids=grids), self.bank.rule
        maps = []
        for view, others in without_itself(queries, self.sample).items():
            query = queries[view]
            found = score_against_sample(query, others, share=NEAREST, metric=rule.metric)
            found = halved(found, rule.metric).reshape(grids[view])
            found *= np.float32(rule.per_length(query.shape[1]))
            (known,) = bank.view_maps(view, query, [self.comparison])
            maps.append(found if known is None else np.minimum(known, found))
        return merge_sizes(maps)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """See :class:`HeldRule`."""
        return {view: np.stack(images) for view, images in self.sample.items()}


def without_itself(
    queries: Mapping[str, np.ndarray], sample: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, list[np.ndarray]]:
    """By view the images of a sample but for the query itself, which is one of them at times.

    The nearest one alone is left out: others that look the same are images of their own, as in a run.
    """
    apart = {
        view: np.array([np.abs(image - query).max() for image in sample[view]])
        / (np.abs(query).max() or 1)
        for view, query in queries.items()
    }
    first = next(iter(apart.values()))
    nearest = np.argsort(np.sum(list(apart.values()), axis=0))[:1]
    own = [number for number in nearest if first[number] <= SAME_FEATURES]
    return {
        view: [image for number, image in enumerate(images) if number not in own]
        for view, images in sample.items()
    }


def subspaces_of_run(
    folder: Path, params: Params, store: Store, category: str, trial: Trial
) -> tuple[HeldRule, str]:
    """A category's subspaces that stage score_vision fitted.

    Returns:
        The subspaces, and what stands for their images in keys of components.

    Raises:
        StoreError: they are not there, or damaged.
    """
    receipt = read_receipt(VISION, folder)
    try:
        digest = str(receipt.compared_with["vision-map"][category][trial.label])
    except (KeyError, TypeError):
        raise StoreError(
            f"{folder / VISION.path} knows no subspace of {category}: run `fade run`"
        ) from None
    found = {}
    for view in view_plan(params):
        space = receipt.space(f"subspace-{view.label}")
        place = receipt.locate(store, space.label, [digest])[digest]
        found[view.label] = open_fit(store.root, space, place)
    return HeldSubspaces(found), digest


def sample_of_run(
    folder: Path, params: Params, store: Store, category: str, trial: Trial
) -> tuple[HeldRule, str]:
    """The sample of a category's batch; see :func:`subspaces_of_run`.

    Raises:
        StoreError: the features of its images are not in the store.
    """
    batch, vision = batch_of_run(folder, params, category), params.vision
    sample = images_of_run(folder, params, store, category, batch.sample)
    return HeldSample(sample, vision.metric, vision.lowest), mutual_digest(batch, vision)


def batch_of_run(folder: Path, params: Params, category: str) -> Batch:
    """The test images of a category, and who of them is compared with whom."""
    tests, _ = read_table(folder / MANIFEST.path, ("category", "hash"), split="test")
    keys = Keys.of(tests.loc[tests["category"] == category, "hash"])
    return Batch.of(category, keys, params.vision)


def images_of_run(
    folder: Path, params: Params, store: Store, category: str, keys: Sequence[str]
) -> dict[str, list[np.ndarray]]:
    """By view the patches of test images that single new ones are compared with.

    Args:
        keys: content hashes of the images.

    Raises:
        StoreError: their features are not in the store.
    """
    receipt = read_receipt(TEST, folder)
    spaces = [receipt.space(feature.label) for feature in params.vision_features()]
    try:
        stored = [
            store.read(space, list(receipt.locate(store, space.label, keys).values()))
            for space in spaces
        ]
    except DamagedSegmentError as error:
        raise StoreError(
            f"single images of {category} are scored against {len(keys)} images of its batch, "
            f"and their features are gone ({error.fault}): run `fade run`, or score a folder against "
            "itself with `fade predict --batch FOLDER`"
        ) from None
    return {view.label: list(view.vectors(spaces, stored)) for view in view_plan(params)}


def batch_maps(
    images: Mapping[str, Mapping[str, np.ndarray]], grids: Mapping[str, Shape], vision: VisionParams
) -> dict[str, np.ndarray]:
    """Vision maps of images that score each other, before any multiplier.

    Args:
        images: by a key that equal images share, by view the patches (patches, dim) float32.
        grids: by view their (rows, columns).
        vision: for partners and share.

    Returns:
        By key (R, C) float32 on the largest grid.

    Raises:
        ParameterError: fewer than five images.
    """
    count, keys = len(images), sorted(images)
    partners = partners_of(vision, count)
    order, places = pairing(count, partners=partners, largest=vision.set_size, seed=0)
    by_view = []
    for view, grid in grids.items():
        patches = [images[key][view] for key in keys]
        found = mutual_scores(patches, order[places], share=vision.lowest, metric=vision.metric)
        by_view.append(halved(found, vision.metric).reshape(count, *grid))
    return dict(zip(keys, map(merge_sizes, zip(*by_view, strict=True)), strict=True))
