"""Views of images: which stored features each is made of, and the vectors that rules compare.

The store keeps raw features, one space for each size, layer and transform. Layers are joined, pooled
and normed when they are read, so that a change of these encodes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from cache.layout import Space
from fade.aspect import Shape
from fade.bank import float16_to_float32, normalized_float32
from fade.maps import largest_grid
from fade.transforms import Transform
from fade.types import Feature
from fade.views import View, view_vectors
from pipeline.config.schema import Params
from pipeline.scoring.components import patch_grid


@dataclass(frozen=True)
class FeatureView:
    """A view and what the store keeps for it; small, as it is sent to workers.

    Attributes:
        view: what is done with the features.
        features: of an image, one for each layer, or a single one.
        label: a name among the views of a run, e.g. ``448`` or ``448-layer5-pool3``.
    """

    view: View
    features: tuple[Feature, ...]
    label: str

    @property
    def plain(self) -> bool:
        """Whether stored vectors are compared as they are: CLIP's, which have unit length."""
        view = self.view
        return (
            self.features[0].stream != "vision"
            and view.pooling == 1
            and view.unit
            and not view.layer_norm
        )

    def labels(self, transform: Transform) -> list[str]:
        """Labels of the features of a transform of a reference."""
        return [replace(feature, transform=transform).label for feature in self.features]

    def positions(self, spaces: Sequence[Space]) -> list[int]:
        """Where the view's features are among those of a component."""
        at = {space.label: number for number, space in enumerate(spaces)}
        return [at[feature.label] for feature in self.features]

    def grid(self, spaces: Sequence[Space]) -> Shape:
        """(rows, columns) of the view's vectors.

        Args:
            spaces: of features of a component, the view's among them.
        """
        return largest_grid([patch_grid(spaces[at]) for at in self.positions(spaces)])

    def dim(self, spaces: Sequence[Space]) -> int:
        """Width of the view's vectors, see :meth:`grid`."""
        widths = [spaces[at].shape[-1] for at in self.positions(spaces)]
        return widths[0] if self.view.join == "mean" else sum(widths)

    def vectors(self, spaces: Sequence[Space], stored: Sequence[np.ndarray]) -> np.ndarray:
        """The vectors of some images.

        Args:
            spaces: of features of a component, the view's among them.
            stored: of each space the rows (images, patches, dim) as the store keeps them.

        Returns:
            (images, rows x columns, dim) float32, row by row.
        """
        at = self.positions(spaces)
        return joined(self, [spaces[i] for i in at], [stored[i] for i in at])

    def each(self, spaces: Sequence[Space], stored: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The same one image after the other: (rows x columns, dim) float32 of each.

        A block of float16 would take twice its memory again if all of it were float32 at one time.
        """
        for number in range(len(stored[0])):
            yield self.vectors(spaces, [rows[number : number + 1] for rows in stored])[0]


def view_plan(params: Params) -> list[FeatureView]:
    """All views of a run, sizes in ascending order; their scores are averaged."""
    views = params.views()
    apart = len({view.layers for view in views}) > 1
    pooled = len({view.pooling for view in views}) > 1
    return [
        FeatureView(
            view,
            tuple(params.vision.features_of(view)),
            f"{view.size}"
            + ("-layer" + "+".join(map(str, view.layers)) if apart else "")
            + (f"-pool{view.pooling}" if pooled else ""),
        )
        for view in views
    ]


def view_shapes(params: Params, spaces: Mapping[Feature, Space]) -> list[tuple[int, int]]:
    """How many vectors an image has in each view of a run, and their width."""
    of_views = [(view, [spaces[one] for one in view.features]) for view in view_plan(params)]
    return [(prod(view.grid(own)), view.dim(own)) for view, own in of_views]


def joined(view: FeatureView, spaces: Sequence[Space], stored: Sequence[np.ndarray]) -> np.ndarray:
    """The vectors of some images, or of one of their transforms, from the features of a view.

    Args:
        spaces: of its features, in their order.
        stored: of each the rows (images, patches, dim) as the store keeps them.

    Returns:
        (images, rows x columns, dim) float32.
    """
    if view.plain:
        return normalized_float32(stored[0])
    clip = view.features[0].stream != "vision"
    levels = [
        (normalized_float32(rows) if clip else _float32(rows)).reshape(
            len(rows), *patch_grid(space), rows.shape[-1]
        )
        for space, rows in zip(spaces, stored, strict=True)
    ]
    found = [view_vectors(view.view, of_image) for of_image in zip(*levels, strict=True)]
    return np.stack(found).reshape(len(found), -1, found[0].shape[-1])


def _float32(rows: np.ndarray) -> np.ndarray:
    return float16_to_float32(rows) if rows.dtype == np.float16 else np.asarray(rows, np.float32)


def described(views: Sequence[FeatureView], spaces: Sequence[Space]) -> list[dict[str, Any]] | None:
    """What components depend on besides the features; None where these are compared as they are."""
    if all(view.plain for view in views):
        return None
    return [
        {
            "features": one.positions(spaces),
            "join": one.view.join,
            "pooling": one.view.pooling,
            "layer_norm": one.view.layer_norm,
            "unit": one.view.unit,
        }
        for one in views
    ]
