"""PatchCore's image score, which looks into the bank once more: for the worst patch of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.store import Store
from fade.faiss_index import index_vectors
from fade.reductions import reweighted
from fade.types import Trial
from pipeline.artefacts.catalogue import SELECTION
from pipeline.artefacts.tables import read_table
from pipeline.config.schema import Params
from pipeline.evaluation.component import Component, ImageFeatures
from pipeline.scoring.banks import BANK_TABLE, Bank, Comparison, bank_copies, comparisons
from pipeline.scoring.views import FeatureView, view_plan

if TYPE_CHECKING:
    import pandas as pd


def bank_vectors(bank: Bank, comparison: Comparison, patches: int) -> np.ndarray:
    """The vectors (n, dim) that a comparison compares with.

    Args:
        comparison: which references of it.
    """
    if not bank.exact:
        return index_vectors(bank.index(bank.views[0], comparison.trial)).copy()
    index = bank.index(bank.views[0])  # held here, as a view of its vectors does not
    vectors = index_vectors(index)
    images = vectors.reshape(-1, patches * bank.copies, vectors.shape[1])
    return images[list(comparison.references)].reshape(-1, vectors.shape[1])


def worst_reweighted(vision: np.ndarray, vectors: np.ndarray, bank: np.ndarray) -> float:
    """The re-weighted distance of the worst patch, see :func:`fade.reductions.reweighted`.

    Args:
        vision: (rows, columns) distances to the bank.
        vectors: (rows x columns, dim) of the image.
        bank: (n, dim).
    """
    return reweighted(float(vision.max()), vectors[vision.argmax()], bank)


@dataclass(frozen=True)
class Reweighting:
    """What one block of images needs for it.

    Attributes:
        features: rows of the view's features.
        comparisons: of each trial and image what it is compared with.
    """

    view: FeatureView
    features: tuple[Component, ...]
    banks: tuple[Bank, ...]
    comparisons: tuple[tuple[Comparison, ...], ...]

    def scores(self, store: Store, vision_maps: Sequence[np.ndarray | None]) -> np.ndarray:
        """The re-weighted distances of the images: (trials, images) float64.

        Args:
            vision_maps: of each trial (images, rows, columns), not multiplied.
        """
        spaces = [component.space for component in self.features]
        stored = [component.read(store) for component in self.features]
        distances = [np.asarray(maps) for maps in vision_maps]  # vision has a part
        patches = prod(self.view.grid(spaces))
        # of an image one vector is needed: all of a block would take the memory of their features again
        worst = np.empty((len(distances), len(self.banks), self.view.dim(spaces)), np.float32)
        for i, vectors in enumerate(self.view.each(spaces, stored)):
            for number, maps in enumerate(distances):
                worst[number, i] = vectors[maps[i].argmax()]
        found = np.empty(worst.shape[:2])
        for number, (maps, of_images) in enumerate(zip(distances, self.comparisons, strict=True)):
            last: tuple[Bank, Comparison] | None = None
            bank = np.empty(0)
            for i, pair in enumerate(zip(self.banks, of_images, strict=True)):
                if pair != last:  # images of one category stand together
                    bank, last = bank_vectors(*pair, patches), pair
                found[number, i] = reweighted(float(maps[i].max()), worst[number, i], bank)
        return found


@dataclass(frozen=True)
class Reweigher:
    """Finds what blocks need; see :meth:`open`.

    Attributes:
        view: of images, the only one.
        features: of the scored images.
        banks: by category.
        comparisons: by category and trial.
        positions: in the bank by category and key of a reference.
    """

    view: FeatureView
    features: ImageFeatures
    banks: Mapping[str, Bank]
    comparisons: Mapping[tuple[str, Trial], Comparison]
    positions: Mapping[str, Mapping[str, int]]

    @classmethod
    def open(cls, params: Params, store: Store) -> Reweigher:
        """Find the features and banks of a run.

        Raises:
            StoreError: they are missing or damaged.
        """
        (view,) = view_plan(params)
        features = ImageFeatures.open([one.label for one in view.features], store)
        selection, _ = read_table(SELECTION.path)
        table, _ = read_table(BANK_TABLE)
        drawn = dict(tuple(selection.groupby("category", sort=False)))
        positions: dict[str, dict[str, int]] = {}
        chosen: dict[tuple[str, Trial], Comparison] = {}
        for name, rows in table.groupby("category", sort=False):
            category = str(name)
            at = dict(zip(rows["hash"], rows["position"].astype(int), strict=True))
            positions[category] = at
            for comparison, _ in comparisons(drawn.get(category, selection.iloc[:0]), at, params):
                chosen[category, comparison.trial] = comparison
        shared, views = Bank.shared(params), (view.label,)
        banks = {
            name: Bank(name, views, shared, root=Path.cwd(), copies=bank_copies(params, name))
            for name in positions
        }
        return cls(view, features, banks, chosen, positions)

    def block(
        self,
        images: pd.DataFrame,
        first: int | None,
        trials: Sequence[Trial],
        held_out: Mapping[str, str],
    ) -> Reweighting:
        """What a block needs.

        Args:
            images: with ``category``; to calibrate also ``hash``.
            first: row of the first image among the test images; None for images to calibrate on.
            held_out: images that are left out of the bank that they are compared with.
        """
        categories = images["category"].astype(str).tolist()
        hashes = images["hash"].tolist() if first is None else [""] * len(images)
        rows = tuple(
            tuple(
                self._without(category, self.comparisons[category, trial], key, held_out)
                for category, key in zip(categories, hashes, strict=True)
            )
            for trial in trials
        )
        features = self.features.of(images, first)
        return Reweighting(self.view, features, tuple(self.banks[c] for c in categories), rows)

    def _without(
        self, category: str, comparison: Comparison, key: str, held_out: Mapping[str, str]
    ) -> Comparison:
        if key not in held_out:
            return comparison
        own = self.positions[category][key]
        left = tuple(position for position in comparison.references if position != own)
        return replace(comparison, references=left)
