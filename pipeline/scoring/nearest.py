"""Rule nearest in all its forms: metric, neighbours, place. FADE's own form is in :mod:`fade.bank`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fade.aspect import Shape
from fade.bank import anomaly
from fade.errors import ParameterError
from fade.rules.nearest import (
    mean_of_nearest,
    nearest_by_index,
    nearest_in_place,
    nearest_in_references,
    nearest_others,
)
from fade.views import Metric
from pipeline.config.vision import VisionParams


@dataclass(frozen=True, slots=True)
class Nearest:
    """How patches are compared with those of a bank.

    Attributes:
        metric: ``cosine`` is 0.5 x (1 - cosine), ``euclidean`` the length of the difference.
        per_dimension: whether distances are divided by the number of dimensions.
        neighbours: the mean of so many nearest ones counts.
        radius: patches may differ by so many rows and columns; None for any place.
    """

    metric: Metric = "cosine"
    per_dimension: bool = False
    neighbours: int = 1
    radius: int | None = None

    @classmethod
    def of(cls, vision: VisionParams) -> Nearest:
        """What the parameters ask for."""
        return cls(vision.metric, vision.per_dimension, vision.neighbours, vision.radius)

    @property
    def plain(self) -> bool:
        """Whether it is FADE's: the nearest patch by cosine."""
        return self == Nearest()

    def described(self) -> dict[str, Any]:
        """What components depend on; nothing where it is FADE's."""
        if self.plain:
            return {}
        # ranks by products of the vectors as they are missed near ones among long vectors
        ranks = {"ranks": "centred on the image"} if self.metric == "euclidean" else {}
        return {"nearest": asdict(self) | ranks}

    def check(self, patches: int, more: str = "use larger features.segmentation_sizes") -> None:
        """Refuse more neighbours than there are patches to be found (ParameterError).

        Args:
            more: what to do for more patches.
        """
        if self.neighbours > patches:
            raise ParameterError(
                f"vision.neighbours is {self.neighbours}, and there are {patches} patches to compare "
                f"with: lower it, or {more}"
            )

    def to_references(
        self, query: np.ndarray, bank: np.ndarray, copies: int, grid: Shape
    ) -> np.ndarray:
        """Distances of each patch to the nearest of each reference: (references, patches, k).

        Args:
            query: (patches, dim) float32.
            bank: (references x copies x patches, dim) float32.
            copies: images that a reference stands for.
            grid: (rows, columns) of the patches.
        """
        patches, dim = query.shape
        self.check(copies * patches)
        if self.radius is None:
            return nearest_in_references(
                query, bank, copies * patches, k=self.neighbours, metric=self.metric
            )
        return nearest_in_place(
            query.reshape(*grid, dim), bank.reshape(-1, copies, *grid, dim), self.radius,
            metric=self.metric,
        )[..., None]  # fmt: skip

    def to_others(self, query: np.ndarray) -> np.ndarray:
        """The same to the other patches of the image: (1, patches, k)."""
        self.check(len(query) - 1)
        return nearest_others(query, k=self.neighbours, metric=self.metric)[None]

    def by_index(self, query: np.ndarray, index: Any) -> np.ndarray:
        """The same to the patches that an index finds: (1, patches, k)."""
        self.check(index.ntotal)
        return nearest_by_index(query, index, k=self.neighbours, metric=self.metric)[None]

    def patch_map(self, parts: Sequence[np.ndarray], dim: int, grid: Shape) -> np.ndarray:
        """The vision map from the distances to the parts of a bank.

        Args:
            parts: (n, patches, k) of each.
            dim: width of the vectors.
            grid: (rows, columns) of the patches.

        Returns:
            (rows, columns) float32.
        """
        distances = mean_of_nearest(np.concatenate(parts))
        factor = self.factor(dim)
        return (distances * np.float32(factor)).astype(np.float32).reshape(grid)

    def factor(self, dim: int) -> float:
        """What makes the map's values of distances as :meth:`by_index` and others give them."""
        return self.per_length(dim) * (0.5 if self.metric == "cosine" else 1.0)

    def per_length(self, dim: int) -> float:
        """What distances are multiplied by for vectors of so many numbers."""
        return 1 / dim if self.per_dimension else 1.0

    def of_patch(
        self,
        query: np.ndarray,
        vectors: np.ndarray,
        place: int,
        places: NDArray[np.integer],
        columns: int,
    ) -> NDArray[np.floating]:
        """The map's values of one patch for each patch that it may be compared with: (n,).

        Infinite where the rule does not compare the two.

        Args:
            query: (dim,) the patch.
            vectors: (n, dim) the others.
            place: of the patch on its grid, row by row.
            places: (n,) of the others.
            columns: of the grid.
        """
        found = patch_distances(vectors, query, self.metric) * self.per_length(len(query))
        if self.radius is not None:
            (rows, across), own = np.divmod(places, columns), divmod(place, columns)
            apart = np.maximum(np.abs(rows - own[0]), np.abs(across - own[1]))
            found[apart > self.radius] = np.inf
        return found


def pairs_described(metric: Metric, unit: bool) -> dict[str, str]:
    """What distances between images depend on besides their metric, see :meth:`Nearest.described`.

    Args:
        unit: whether vectors have unit length, of which products lose none.
    """
    return {"ranks": "centred"} if metric == "euclidean" and not unit else {}


def patch_distances(vectors: np.ndarray, query: np.ndarray, metric: Metric) -> np.ndarray:
    """Distances of a patch (dim,) to others (n, dim), before they are divided by the dimension: (n,).

    Examples:
        >>> vectors = np.array([[0.0, 1.0], [3.0, 4.0]])
        >>> patch_distances(vectors, np.array([0.0, 0.0]), "euclidean").tolist()
        [1.0, 5.0]
    """
    if metric == "euclidean":
        return np.asarray(np.linalg.norm(vectors - query, axis=1))
    return np.asarray(anomaly(vectors @ query))
