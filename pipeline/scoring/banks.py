"""Finished memory banks: where their files lie, and what a scoring worker does with one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.layout import fingerprint
from fade import bank as cpu
from fade import faiss_index, gpu
from fade.aspect import Shape
from fade.bank import similarity_by_index
from fade.device import choose_device
from fade.faiss_index import CANDIDATES, FLAT, PROBED, read_index, stored_digest
from fade.maps import merge_sizes
from fade.types import Device, Trial
from fade.vision import patch_map
from pipeline.artefacts.catalogue import BANKS, safe_name
from pipeline.config.schema import Params
from pipeline.dataset.images import references_of
from pipeline.scoring.nearest import Nearest, pairs_described

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.artefacts.receipts import Receipt

BANK_TABLE = BANKS.path / "references.parquet"
"""Which reference image lies at which position of its category's shared indexes."""


def bank_path(category: str, view: str, trial: Trial | None = None) -> Path:
    """The index file of a category and view; of one trial where trials cannot share it."""
    folder = BANKS.path / safe_name(category)
    return (folder / trial.label if trial else folder) / f"{view}.faiss"


@lru_cache(maxsize=16)
def open_index(path: Path, digest: bytes) -> Any:
    """An index, kept by each worker; the file's checksum tells a rewritten file from the old one."""
    return read_index(path)


@dataclass(frozen=True)
class Comparison:
    """What the patches of a query are compared with in one trial.

    Attributes:
        references: positions in the category's shared indexes.
        query: whether the query's own other patches count too.
    """

    trial: Trial
    references: tuple[int, ...]
    query: bool


@dataclass(frozen=True)
class Bank:
    """The memory bank of a category, opened where it is used.

    Attributes:
        views: labels of the views, sizes ascending.
        exact: whether all trials share one exact index a view.
        root: folder of the project; a worker may run in another one.
        grids: by view the patches' (rows, columns), where they make no squares.
        device: where exact searches run; each worker finds out for itself what ``auto`` is.
        copies: how many images a reference stands for: itself and its transforms.
        rule: how patches are compared.
    """

    category: str
    views: tuple[str, ...]
    exact: bool
    root: Path = field(default=Path(), kw_only=True)
    grids: Mapping[str, Shape] = field(default_factory=dict, kw_only=True)
    device: Device = field(default="cpu", kw_only=True)
    copies: int = field(default=1, kw_only=True)
    rule: Nearest = field(default=Nearest(), kw_only=True)

    @staticmethod
    def shared(params: Params) -> bool:
        """Whether trials are choices of rows of one exact index."""
        vision = params.vision
        return vision.index == FLAT and vision.coreset == 1.0 and vision.bank_size is None

    def vision_maps(
        self, queries: Mapping[str, np.ndarray], comparisons: Sequence[Comparison]
    ) -> np.ndarray:
        """Vision maps of one image, one for each comparison, before any multiplier.

        The minimum over references is taken on each view's own grid, before views are merged.

        Args:
            queries: by view the image's patches, (patches, dim) float32.
            comparisons: what to compare with.

        Returns:
            (comparisons, R, C) float32 on the largest grid.
        """
        return merged_views(self.maps_in(view, queries[view], comparisons) for view in self.views)

    def view_maps(
        self, view: str, query: np.ndarray, comparisons: Sequence[Comparison]
    ) -> list[np.ndarray | None]:
        """Maps of one image in one view, one for each comparison; None where it holds nothing."""
        some = [one for one in comparisons if one.references or one.query]
        found = iter(self.maps_in(view, query, some) if some else ())
        return [next(found) if one.references or one.query else None for one in comparisons]

    def index(self, view: str, trial: Trial | None = None) -> Any:
        """The FAISS index of a view; of one trial where trials cannot share it."""
        path = self.root / bank_path(self.category, view, trial)
        return open_index(path.resolve(), stored_digest(path))

    def maps_in(
        self, view: str, query: np.ndarray, comparisons: Sequence[Comparison]
    ) -> list[np.ndarray]:
        """Maps of one image in one view, one for each comparison, none of which is empty.

        Args:
            query: the image's patches, (patches, dim) float32.
        """
        rule, side = self.rule, isqrt(len(query))
        grid = self.grids.get(view, (side, side))
        device = choose_device(self.device) if rule.plain else "cpu"
        search = cpu if device == "cpu" else gpu
        placed: Any = query if device == "cpu" else gpu.to_device(query, device)
        needed = sorted({position for c in comparisons for position in c.references})
        to_reference: dict[int, np.ndarray] = {}
        if self.exact and needed:
            index = self.index(view)  # held here, as a view of its vectors does not
            vectors = (
                faiss_index.index_vectors(index)
                if device == "cpu"
                else gpu.index_vectors(index, device)
            )
            patches = len(query) * self.copies
            chosen = _images_at(needed, vectors, patches)
            if rule.plain:
                best = search.similarity_to_references(placed, chosen, patches)
            else:
                best = rule.to_references(query, chosen, self.copies, grid)[:, None]
            to_reference = dict(zip(needed, best, strict=True))
        to_others = None
        if any(c.query for c in comparisons):
            to_others = search.similarity_to_others(placed) if rule.plain else rule.to_others(query)
        maps = []
        for comparison in comparisons:
            terms = [to_reference[position] for position in comparison.references if self.exact]
            if comparison.references and not self.exact:
                index = self.index(view, comparison.trial)
                by_index = similarity_by_index if rule.plain else rule.by_index
                terms.append(by_index(query, index))
            if comparison.query and to_others is not None:
                terms.append(to_others)
            maps.append(
                patch_map(terms, self.grids.get(view))
                if rule.plain
                else rule.patch_map(terms, query.shape[1], grid)
            )
        return maps


def merged_views(of_views: Iterable[Sequence[np.ndarray]]) -> np.ndarray:
    """Maps of one image, one for each comparison, on the largest grid: (comparisons, R, C).

    Args:
        of_views: its maps in each view, see :meth:`Bank.maps_in`.
    """
    return np.stack([merge_sizes(maps) for maps in zip(*of_views, strict=True)])


def bank_copies(params: Params, category: str | None) -> int:
    """How many images a reference of a category stands for: itself and its transforms.

    Args:
        category: None stands for those without transforms of their own.
    """
    return len(params.vision.bank_transforms(category))


def _images_at(positions: list[int], vectors: Any, patches: int) -> Any:
    """Of (n x patches, dim) vectors on any device those of the images at ascending positions."""
    images = vectors.reshape(-1, patches, vectors.shape[1])
    # a run of neighbouring references, the usual case, is a view
    run = positions == list(range(positions[0], positions[-1] + 1))
    chosen = images[positions[0] : positions[-1] + 1] if run else images[positions]
    return chosen.reshape(-1, vectors.shape[1])


@dataclass(frozen=True)
class HeldBank(Bank):
    """A bank of a single trial that was opened once and is held in memory.

    Attributes:
        indexes: by view.
    """

    indexes: Mapping[str, Any]

    def index(self, view: str, trial: Trial | None = None) -> Any:
        """The FAISS index of a view."""
        return self.indexes[view]


def comparisons(
    selection: pd.DataFrame, positions: Mapping[str, int], params: Params
) -> list[tuple[Comparison, list[str]]]:
    """What each trial of rule nearest compares a category's images with, and those references' keys."""
    found = []
    for trial in params.trials():
        if params.vision.rule_at(trial.shots) != "nearest":
            continue
        keys = references_of(selection, trial)
        comparison = Comparison(
            trial, tuple(positions[key] for key in keys), params.query_in_bank(trial)
        )
        found.append((comparison, keys))
    return found


def comparison_digest(
    comparison: Comparison,
    keys: Sequence[str],
    receipt: Receipt,
    labels: Sequence[str],
    params: Params,
    batch: str | None = None,
) -> str:
    """Hash of what a comparison depends on, by which its maps are kept.

    Trials that compare with the same references share it, whatever their seeds. The references'
    checksums stand for their features.

    Args:
        keys: its references.
        labels: of the features that are compared.
        params: for the kind of index.
        batch: digest of the test images that count, too.
    """
    shared, vision = Bank.shared(params), params.vision
    thinned = [] if vision.bank_size is None else [vision.bank_size, comparison.trial.seed]
    # thinning and searches by products of the vectors as they are missed near ones among long vectors
    centred = ["centred"] if thinned or vision.metric == "euclidean" else []
    references = [[key, *(receipt.rows[label][key] for label in labels)] for key in keys]
    return fingerprint(
        {
            # an approximate index depends on the order that its vectors come in
            "references": sorted(references) if shared else references,
            "query": comparison.query,
            "index": None
            if shared or not keys
            else [vision.index, vision.coreset, PROBED, CANDIDATES, *thinned, *centred],
            **Nearest.of(vision).described(),
            **({"batch": batch, **pairs_described(vision.metric, vision.unit)} if batch else {}),
        }
    )
