"""Why a map is high where it is: groups of patches, the normal patch nearest to one, sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fade.aspect import Shape
from fade.errors import ParameterError
from fade.faiss_index import index_vectors
from fade.maps import places_on
from fade.transforms import NONE, Transform
from pipeline.inference.material import CategoryBank
from pipeline.inference.prediction import Compared, NormalPatch, Prediction, Region
from pipeline.scoring.sentences import Similar


def patch_groups(levels: NDArray[np.uint8], above: int) -> list[NDArray[np.bool_]]:
    """The 8-connected groups of patches above a level, the one with the highest level first."""
    import cv2

    count, labels = cv2.connectedComponents((levels > above).astype(np.uint8), connectivity=8)
    groups = [np.asarray(labels == number) for number in range(1, count)]
    return sorted(groups, key=lambda group: (-int(levels[group].max()), -int(group.sum())))


def region_level(prediction: Prediction, level: int | None) -> int:
    """The level above which patches make regions: the pixel threshold, where none is given.

    Raises:
        ParameterError: there is neither, or no such level.
    """
    above = prediction.pixel_threshold if level is None else level
    highest = prediction.scale.count - 1
    if above is None:
        raise ParameterError(
            f"there is no pixel threshold ({prediction.remark}): give a level from 0 to {highest}"
        )
    if not 0 <= above <= highest:
        raise ParameterError(f"there is no level {above}: give one from 0 to {highest}")
    return above


def group_box(group: NDArray[np.bool_], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a group of patches, in pixels of an image of (width, height)."""
    rows, columns = np.nonzero(group)
    (down, across), (width, height) = group.shape, size
    return (
        int(columns.min()) * width // across,
        int(rows.min()) * height // down,
        -(-(int(columns.max()) + 1) * width // across),
        -(-(int(rows.max()) + 1) * height // down),
    )


def untransformed_positions(
    transforms: Sequence[Transform], grid: Shape, size: Shape | None = None
) -> np.ndarray:
    """For the patches of all transforms of an image in turn, their positions in the image.

    Args:
        grid, size: see :meth:`fade.transforms.Transform.sources`.
    """
    return np.concatenate([one.sources(grid, size).reshape(-1) for one in transforms])


def nearest_patch(
    patches: np.ndarray,
    position: int,
    held: CategoryBank,
    shown: tuple[int, ...],
    transforms: Sequence[Transform] = (NONE,),
    size: Shape | None = None,
) -> NormalPatch:
    """The normal patch nearest to one patch of an image, in the last view, the largest.

    Args:
        patches: (patches, dim) of the image in that view.
        position: of the patch on the view's grid.
        held: what it is compared with.
        shown: (rows, columns) of the map, on which the normal patch is named.
        transforms: of each reference.
        size: (height, width) of the image; rotated references are taken to have its aspect ratio.
    """
    query = patches[position : position + 1]
    view, count = held.bank.views[-1], len(patches)
    rows, columns = held.bank.grids[view]
    rule, own = held.bank.rule, np.arange(count)
    found: list[tuple[float, str | None, int | None]] = []
    if held.comparison.references and held.bank.exact:
        positions = untransformed_positions(transforms, (rows, columns), size)
        index = held.bank.index(view)
        images = index_vectors(index).reshape(-1, count * held.bank.copies, patches.shape[1])
        for number in held.comparison.references:
            distances = rule.of_patch(query[0], images[number], position, positions, columns)
            best = int(np.argmin(distances))
            untransformed = int(positions[best])
            found.append((float(distances[best]), held.references[number], untransformed))
    elif held.comparison.references:
        nearest = float(rule.by_index(query, held.bank.index(view))[0, 0, 0])
        found.append((nearest * rule.factor(patches.shape[1]), None, None))
    if held.comparison.query:
        distances = rule.of_patch(query[0], patches, position, own, columns)
        distances[position] = np.inf
        best = int(np.argmin(distances))
        found.append((float(distances[best]), None, best))
    distance, reference, best_place = min(found, key=lambda item: item[0])
    if best_place is None:
        return NormalPatch(None, None, None, distance)
    row, column = divmod(int(places_on(best_place, (rows, columns), shown)), shown[1])
    return NormalPatch(reference, row, column, distance)


def worst_in(inside: NDArray[np.bool_], levels: NDArray) -> int:
    """Position, row by row, of the highest level of a group of patches."""
    return int(np.flatnonzero(inside)[np.argmax(levels[inside])])


def region(
    inside: NDArray[np.bool_],
    levels: NDArray,
    size: tuple[int, int],
    nearest: NormalPatch | None,
    similar: tuple[Similar, Similar] | None,
    compared: Compared | None = None,
) -> Region:
    """A group of patches as a region of the image.

    Args:
        inside: which patches (rows, columns) belong to it.
        size: width and height of the image in pixels.
        nearest: the normal patch nearest to its worst one.
        similar: abnormal and normal sentences that are nearest to it.
        compared: what a rule without a bank says of its worst patch.
    """
    row, column = divmod(worst_in(inside, levels), levels.shape[1])
    return Region(
        group_box(inside, size), int(np.count_nonzero(inside)), int(levels[row, column]),
        row, column, nearest, *(similar or ((), ())), compared,
    )  # fmt: skip
