"""The good patch nearest to the worst patch of an image, from the features that the store keeps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cache.layout import Space
from cache.store import Store
from fade.aspect import Shape
from fade.errors import StoreError
from fade.maps import places_on
from fade.types import Trial
from pipeline.artefacts.catalogue import REFERENCES, SELECTION, TEST, Artefact, store_root
from pipeline.artefacts.maps import map_loader
from pipeline.artefacts.receipts import Located, read_receipt
from pipeline.artefacts.tables import read_table
from pipeline.config.schema import Params
from pipeline.scoring.nearest import Nearest
from pipeline.scoring.views import FeatureView, view_plan

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")

MAX_REFERENCES = 32
"""Largest number of references of a category that are read again for the report."""
MAX_IMAGES = 50_000
"""Largest number of test images whose receipt is searched for those that are shown."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch of an image: the image's path, the patch's row and column, and its grid."""

    path: str
    row: int
    column: int
    grid: Shape

    @classmethod
    def at(cls, path: str, position: int, grid: Shape) -> Patch:
        """The patch at a position, counted row by row."""
        return cls(path, *divmod(position, grid[1]), grid)


@dataclass(frozen=True, slots=True)
class NearestPatch:
    """The patch of an image where its map is highest, and the most similar patch of a reference."""

    worst: Patch
    good: Patch


NearestFinder = Callable[[str, Sequence[int]], Mapping[int, NearestPatch]]
"""Of a category and rows of its trial's scores, what is known of each."""


def nearest_finder(
    params: Params, trial: Trial, scores: pd.DataFrame, listed: Callable[[str], Mapping[str, Any]]
) -> NearestFinder | None:
    """What finds nearest good patches at the largest size, among references as they are, unturned.

    Args:
        trial: whose maps and references.
        scores: of this trial, with ``path`` by row.
        listed: what the manifest says of a path.

    Returns:
        None where features are not kept, or nothing is compared with patches of references.
    """
    by_patch = params.vision.keeps_banks(trial.shots) and trial.shots > 0
    kept = params.features.keep and params.needs_vision and len(scores) <= MAX_IMAGES
    if not (by_patch and kept):
        return None
    selection, _ = read_table(SELECTION.path, seed=trial.seed)
    chosen = selection[selection["rank"] < trial.shots].drop_duplicates(["category", "hash"])
    references = dict(tuple(chosen.groupby("category", sort=False)))
    store, view, stored = (
        Store(store_root(params.features.store)),
        view_plan(params)[-1],
        map_loader(),
    )
    tests, goods = (
        lru_cache(1)(partial(_Vectors.of, view, store, one)) for one in (TEST, REFERENCES)
    )

    def find(category: str, positions: Sequence[int]) -> Mapping[int, NearestPatch]:
        own = references.get(category, chosen.iloc[:0])
        peaks = find_peaks(partial(stored, trial.label), positions, tests().grid)
        if not peaks or not 0 < len(own) <= MAX_REFERENCES:
            return {}
        paths = [str(scores["path"].iloc[place]) for place in peaks]
        try:
            worst = [
                Patch.at(*one, tests().grid) for one in zip(paths, peaks.values(), strict=True)
            ]
            images = (tests().read(str(listed(path)["hash"])) for path in paths)
            queries = [
                (peak, image[peak]) for image, peak in zip(images, peaks.values(), strict=True)
            ]
            good = nearest_of(goods(), own, queries, Nearest.of(params.vision))
        except StoreError as error:
            log.warning("the report shows no nearest good patches of %s: %s", category, error)
            return {}
        return dict(zip(peaks, map(NearestPatch, worst, good), strict=True))

    return find


def find_peaks(
    load: Callable[[int], np.ndarray | None], positions: Sequence[int], grid: Shape
) -> dict[int, int]:
    """Where maps are highest, as the position of a patch on a grid; without images that have no map.

    Args:
        load: the map (rows, columns) of a row of the trial's scores.
        grid: rows and columns of patches.
    """
    maps = {position: load(position) for position in positions}
    return {
        position: int(places_on(levels.argmax(), levels.shape, grid))
        for position, levels in maps.items()
        if levels is not None
    }


@dataclass(frozen=True)
class _Vectors:
    """The patches of a receipt's images in a view; the store is searched once."""

    view: FeatureView
    store: Store
    rows: tuple[Located, ...]

    @classmethod
    def of(cls, view: FeatureView, store: Store, artefact: Artefact) -> _Vectors:
        receipt = read_receipt(artefact)
        return cls(view, store, tuple(receipt.located(store, f.label) for f in view.features))

    @property
    def spaces(self) -> list[Space]:
        return [rows.space for rows in self.rows]

    @property
    def grid(self) -> Shape:
        return self.view.grid(self.spaces)

    def read(self, key: str) -> np.ndarray:
        """(patches, dim) of one image."""
        found = [self.store.read(rows.space, list(rows.locations([key]))) for rows in self.rows]
        return self.view.vectors(self.spaces, found)[0]


class _Held(Protocol):
    """Vectors of images on a grid."""

    @property
    def grid(self) -> Shape:
        """(rows, columns) of patches."""

    def read(self, key: str) -> np.ndarray:
        """(patches, dim) of one image."""


def nearest_of(
    held: _Held,
    references: pd.DataFrame,
    queries: Sequence[tuple[int, np.ndarray]],
    rule: Nearest,
) -> list[Patch]:
    """Of each query, place and (dim,), the nearest patch of all references, which are read one by one."""
    best: list[tuple[float, Patch]] = []
    for path, key in zip(references["path"], references["hash"], strict=True):
        vectors, here = held.read(str(key)), []
        for peak, query in queries:
            places = np.arange(len(vectors))
            distances = rule.of_patch(query, vectors, peak, places, held.grid[1])
            place = int(np.argmin(distances))
            here.append((float(distances[place]), Patch.at(str(path), place, held.grid)))
        pairs = zip(best, here, strict=True)
        best = [min(pair, key=lambda one: one[0]) for pair in pairs] if best else here
    return [patch for _, patch in best]
