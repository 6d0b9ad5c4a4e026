"""Views: how raw patch features become the vectors that a rule compares.

A view names a size, the layers that make one vector, pooling and norms. Each layer goes through layer
norm and pooling on its own grid; layers are joined on the largest grid; unit length comes last.
Sources: MuSc (arXiv 2401.16753), section 3.2; PatchCore (arXiv 2106.08265), section 3.1; AnomalyDINO
(arXiv 2405.14529), section 3; SubspaceAD (arXiv 2602.23013).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np

from fade.aspect import Shape
from fade.errors import DataError, ParameterError
from fade.maps import largest_grid

Join = Literal["apart", "mean", "concatenated"]
Metric = Literal["cosine", "euclidean"]

EPSILON = 1e-5
"""Added to the variance in layer norms, as torch does."""


@dataclass(frozen=True, slots=True, order=True)
class View:
    """One way to look at an image's patches.

    Attributes:
        size: pixels a side of the square, or of the rectangle of as many pixels.
        layers: of the encoder, that make one vector together.
        join: how several layers make it: ``mean`` or ``concatenated``.
        pooling: each patch is the mean of so many times so many neighbours; odd.
        layer_norm: whether an image's features of a layer get mean 0 and variance 1 first (MuSc).
        unit: whether vectors get unit length at last.
        tile, overlap: cells a side of tiles that are encoded alone, and of their overlap; 0 for none.

    Examples:
        >>> View(240, (6, 9)).join
        'concatenated'
    """

    size: int
    layers: tuple[int, ...]
    join: Join = "concatenated"
    pooling: int = 1
    layer_norm: bool = False
    unit: bool = True
    tile: int = 0
    overlap: int = 0

    def __post_init__(self) -> None:
        if not self.layers:
            raise ParameterError("a view needs at least one layer")
        if self.join not in ("mean", "concatenated"):
            raise ParameterError(
                f"the layers of one view are joined by mean or concatenated, not {self.join!r}"
            )
        check_pooling(self.pooling)


def expand_views(
    sizes: Sequence[int],
    layers: Sequence[int],
    *,
    join: Join,
    pooling: Sequence[int] = (1,),
    layer_norm: bool = False,
    unit: bool = True,
    tile: int = 0,
    overlap: int = 0,
) -> list[View]:
    """All views that a setting asks for; their scores are averaged.

    Args:
        sizes: pixels a side.
        layers: of the encoder.
        join: ``apart`` for a view of each layer; else all layers make one.
        pooling: sizes of neighbourhoods, each of which makes views of its own.
        layer_norm, unit, tile, overlap: as in :class:`View`.

    Raises:
        ParameterError: an unknown join, an even or repeated pooling, or nothing to look at.

    Examples:
        >>> [(view.size, view.layers) for view in expand_views([240, 448], [6, 9], join="apart")]
        [(240, (6,)), (240, (9,)), (448, (6,)), (448, (9,))]
        >>> [view.layers for view in expand_views([240], [6, 9], join="mean")]
        [(6, 9)]
    """
    if join not in get_args(Join):
        raise ParameterError(f"layers are joined by {', '.join(get_args(Join))}, not by {join!r}")
    for what, values in (("sizes", sizes), ("layers", layers), ("pooling", pooling)):
        if not values or len(set(values)) < len(values):
            raise ParameterError(f"{what} {list(values)}: give at least one, each once")
    groups: Iterable[tuple[int, ...]] = [tuple(layers)]
    if join == "apart":
        groups = [(layer,) for layer in layers]
    return [
        View(
            size=size,
            layers=group,
            join="concatenated" if join == "apart" else join,
            pooling=radius,
            layer_norm=layer_norm,
            unit=unit,
            tile=tile,
            overlap=overlap,
        )
        for size, group, radius in product(sizes, groups, pooling)
    ]


def view_vectors(view: View, levels: Sequence[np.ndarray]) -> np.ndarray:
    """The vectors of one image in a view.

    Args:
        view: what to do.
        levels: for each layer of the view the raw features, (rows, columns, dim) floats, each on its
            own grid; a single array where the encoder has averaged the layers already, which a view
            with layer norm does not allow.

    Returns:
        (R, C, D) float32 on the largest grid.

    Raises:
        DataError: another number of layers, or a mean of layers of different width.

    Examples:
        >>> import numpy as np
        >>> vectors = view_vectors(View(32, (1,)), [np.array([[[3.0, 4.0]]])])
        >>> vectors.shape, vectors.round(2).tolist()
        ((1, 1, 2), [[[0.6000000238418579, 0.800000011920929]]])
    """
    averaged = view.join == "mean" and len(levels) == 1 and not view.layer_norm
    if len(levels) != len(view.layers) and not averaged:
        raise DataError(f"the view needs {len(view.layers)} layers, not {len(levels)}")
    parts = [np.asarray(level, np.float32) for level in levels]
    if view.layer_norm:
        parts = [layer_norm(part) for part in parts]
    parts = [pool(part, view.pooling) for part in parts]
    vectors = join_layers(parts, view.join)
    return unit_length(vectors) if view.unit else vectors


def layer_norm(patches: np.ndarray) -> np.ndarray:
    """Patches (rows, columns, dim) with mean 0 and variance 1 over all values of the image.

    Examples:
        >>> import numpy as np
        >>> layer_norm(np.array([[[1.0, 3.0]]])).round(3).tolist()
        [[[-1.0, 1.0]]]
    """
    wide = patches.astype(np.float64)
    centred = wide - wide.mean()
    return (centred / np.sqrt(centred.var() + EPSILON)).astype(np.float32)


def check_pooling(size: int) -> None:
    """Refuse neighbourhoods that have no centre (ParameterError).

    Examples:
        >>> check_pooling(4)
        Traceback (most recent call last):
        fade.errors.ParameterError: pooling over 4 x 4 patches has no centre: use 1, 3 or 5
    """
    if size < 1 or size % 2 == 0:
        raise ParameterError(f"pooling over {size} x {size} patches has no centre: use 1, 3 or 5")


def pool(patches: np.ndarray, size: int) -> np.ndarray:
    """The mean over each patch's ``size`` x ``size`` neighbourhood.

    Patches beyond the border count as zeros: the sum is divided by ``size ** 2`` everywhere, as MuSc
    and PatchCore do.

    Args:
        patches: (rows, columns, dim) float32.
        size: odd; 1 changes nothing.

    Returns:
        The same shape, float32.

    Examples:
        >>> import numpy as np
        >>> pool(np.full((3, 1, 1), 9.0, np.float32), 3).ravel().tolist()
        [2.0, 3.0, 2.0]
    """
    check_pooling(size)
    if size == 1:
        return patches
    for axis in (0, 1):
        patches = _sums(patches, size, axis)
    return patches / np.float32(size * size)


def _sums(patches: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Of each patch the sum with its neighbours along an axis, added in their order."""
    length, pad = patches.shape[axis], size // 2
    room = list(patches.shape)
    room[axis] += 2 * pad
    # np.pad and a moved axis take four times as long
    padded = np.zeros(room, patches.dtype)

    def shifted(by: int) -> np.ndarray:
        return padded[(slice(None),) * axis + (slice(by, by + length),)]

    shifted(pad)[...] = patches
    total = shifted(0) + shifted(1)
    for by in range(2, size):
        total += shifted(by)
    return total


def resize_grid(patches: np.ndarray, grid: Shape) -> np.ndarray:
    """Patches (rows, columns, dim) on another grid: bilinear, half-pixel centres, no antialiasing.

    Examples:
        >>> import numpy as np
        >>> resize_grid(np.array([[[0.0]], [[1.0]]], np.float32), (4, 1)).ravel().tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    rows, columns = patches.shape[:2]
    if (rows, columns) == tuple(grid):
        return patches
    tall = np.tensordot(_bilinear(rows, grid[0]), patches, axes=(1, 0))
    wide = np.tensordot(_bilinear(columns, grid[1]), tall, axes=(1, 1))
    return np.ascontiguousarray(wide.swapaxes(0, 1))


def _bilinear(source: int, target: int) -> np.ndarray:
    """(target, source) float32 weights that resample one axis."""
    position = (np.arange(target) + 0.5) * source / target - 0.5
    position = position.clip(0, source - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, source - 1)
    weights = np.zeros((target, source))
    np.add.at(weights, (np.arange(target), low), 1 - (position - low))
    np.add.at(weights, (np.arange(target), high), position - low)
    return weights.astype(np.float32)


def join_layers(parts: Sequence[np.ndarray], join: Join) -> np.ndarray:
    """One vector a patch from several layers, smaller grids resized to the largest.

    Args:
        parts: (rows, columns, dim) float32 each.
        join: ``mean``, or ``concatenated`` in the order given.

    Returns:
        (R, C, D) float32.

    Raises:
        DataError: a mean of layers of different width.

    Examples:
        >>> import numpy as np
        >>> coarse, fine = np.ones((1, 1, 2), np.float32), np.zeros((2, 2, 3), np.float32)
        >>> join_layers([coarse, fine], "concatenated").shape
        (2, 2, 5)
    """
    grid = largest_grid([part.shape[:2] for part in parts])
    resized = [resize_grid(part, grid) for part in parts]
    if len(resized) == 1:
        return resized[0]
    if join == "concatenated":
        return np.concatenate(resized, axis=-1)
    widths = {part.shape[-1] for part in resized}
    if len(widths) > 1:
        raise DataError(f"layers of width {sorted(widths)} have no mean: join them concatenated")
    return np.asarray(np.mean(resized, axis=0, dtype=np.float32))


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Vectors of the last axis with length 1, float32; those of length 0 stay.

    Examples:
        >>> import numpy as np
        >>> unit_length(np.array([[0.0, 2.0], [0.0, 0.0]])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """
    lengths = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32, copy=False)
