"""The normal patch that is nearest to one patch of an image, by the definition."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from fade.errors import ParameterError
from fade.faiss_index import build_index
from fade.transforms import brightness, rotations
from fade.types import Trial
from fade.views import Metric, unit_length
from pipeline.inference.explain import (
    group_box,
    nearest_patch,
    patch_groups,
    region,
    region_level,
    worst_in,
)
from pipeline.inference.material import CategoryBank
from pipeline.inference.prediction import Prediction
from pipeline.report.nearest import Patch, nearest_of
from pipeline.scoring.banks import Comparison, HeldBank
from pipeline.scoring.nearest import Nearest

GRID = ROWS, COLUMNS = 3, 4


def vectors(images: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return unit_length(rng.standard_normal((images, ROWS * COLUMNS, 8)).astype(np.float32))


def held(bank: np.ndarray, chosen: tuple[int, ...], query: bool, rule: Nearest) -> CategoryBank:
    index = build_index(bank.reshape(-1, 8))
    copies = bank.shape[1] // (ROWS * COLUMNS)
    grids = {"48": (ROWS, COLUMNS)}
    found = HeldBank("nut", ("48",), True, {"48": index}, grids=grids, copies=copies, rule=rule)
    return CategoryBank(found, Comparison(Trial(2, 0), chosen, query), ("a", "b", "c"))


@pytest.mark.parametrize("position", range(ROWS * COLUMNS))
def test_an_images_own_patch_is_not_its_neighbour(position: int) -> None:
    """Whichever references are compared with, too: all of them are farther away than its others."""
    own, far = vectors(1)[0], -vectors(1)[0].mean(axis=0)
    bank = np.tile(unit_length(far[None]), (3, ROWS * COLUMNS, 1))
    found = nearest_patch(own, position, held(bank, (0, 2), True, Nearest()), GRID)
    cosines = own @ own[position]
    cosines[position] = -1
    best = int(cosines.argmax())
    assert (found.reference, found.row, found.column) == (None, *divmod(best, COLUMNS))
    assert found.distance == pytest.approx(0.5 * (1 - cosines[best]), abs=1e-6)


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_a_neighbour_by_place_lies_within_the_radius(radius: int) -> None:
    transforms = brightness()
    own, copies = vectors(1, seed=1)[0], vectors(3 * len(transforms))
    bank = copies.reshape(3, -1, 8)
    places = np.arange(ROWS * COLUMNS)
    row, column = np.divmod(np.tile(places, len(transforms)), COLUMNS)
    for position in places.tolist():
        near = np.abs(row - position // COLUMNS) <= radius
        near &= np.abs(column - position % COLUMNS) <= radius
        expected = min(0.5 * (1 - bank[n][near] @ own[position]).min() for n in (0, 1))
        rule = Nearest(radius=radius)
        found = nearest_patch(own, position, held(bank, (0, 1), False, rule), GRID, transforms)
        assert found.distance == pytest.approx(expected, abs=1e-6)
        assert found.row is not None
        assert found.column is not None
        assert (
            max(abs(found.row - position // COLUMNS), abs(found.column - position % COLUMNS))
            <= radius
        )


@pytest.mark.parametrize(
    "rule", [Nearest(), Nearest("euclidean"), Nearest("euclidean", per_dimension=True)]
)
@pytest.mark.parametrize("exact", [True, False])
def test_the_distance_is_the_maps(rule: Nearest, exact: bool) -> None:
    own, bank = 3 * vectors(4)[0], 2 * vectors(3)
    if rule.metric == "cosine":
        own, bank = own / 3, bank / 2
    metric: Metric = rule.metric
    index = build_index(bank.reshape(-1, 8), metric=metric)
    grids = {"48": (ROWS, COLUMNS)}
    one = HeldBank("nut", ("48",), exact, {"48": index}, grids=grids, rule=rule)
    comparison = Comparison(Trial(3, 0), (0, 1, 2), False)
    (expected,) = one.vision_maps({"48": own}, [comparison])
    for position, value in enumerate(expected.ravel().tolist()):
        found = nearest_patch(own, position, CategoryBank(one, comparison, ("a", "b", "c")), GRID)
        assert found.distance == pytest.approx(value, abs=1e-6)


@dataclass(frozen=True)
class Kept:
    """Stands for the store's vectors of references, by key."""

    images: dict[str, np.ndarray]
    grid = (ROWS, COLUMNS)

    def read(self, key: str) -> np.ndarray:
        return self.images[key]


@pytest.mark.parametrize("rule", [Nearest(), Nearest(radius=1), Nearest("euclidean", radius=0)])
def test_the_report_shows_the_same_patch(rule: Nearest) -> None:
    own, bank = vectors(4)[0], vectors(3)[:, ::-1]
    images = dict(zip("abc", bank, strict=True))
    references = pd.DataFrame({"path": list(images), "hash": list(images)})
    queries = list(enumerate(own))
    for (position, _), shown in zip(
        queries, nearest_of(Kept(images), references, queries, rule), strict=True
    ):
        found = nearest_patch(own, position, held(bank, (0, 1, 2), False, rule), GRID)
        assert found.reference is not None
        assert found.row is not None
        assert found.column is not None
        assert shown == Patch(found.reference, found.row, found.column, Kept.grid)


@pytest.mark.parametrize("size", [(90, 120), (400, 100)])
def test_a_patch_of_a_rotated_reference_is_named_where_its_pixels_come_from(
    size: tuple[int, int],
) -> None:
    transforms = rotations(4)
    bank = vectors(3 * len(transforms)).reshape(3, -1, 8)
    for position in range(ROWS * COLUMNS):
        own = np.tile(bank[1, 2 * ROWS * COLUMNS + position], (ROWS * COLUMNS, 1))  # by 180 degrees
        other = np.tile(bank[1, ROWS * COLUMNS + position], (ROWS * COLUMNS, 1))  # by 90
        judged = held(bank, (0, 1, 2), False, Nearest())
        found = nearest_patch(own, 0, judged, GRID, transforms, size)
        place = ROWS * COLUMNS - 1 - position
        assert (found.reference, found.row, found.column) == ("b", *divmod(place, COLUMNS))
        found = nearest_patch(other, 0, judged, GRID, transforms, size)
        place = int(transforms[1].sources((ROWS, COLUMNS), size).flat[position])
        assert (found.reference, found.row, found.column) == ("b", *divmod(place, COLUMNS))


def test_the_patch_is_named_on_the_grid_of_the_map() -> None:
    """Text may have a finer one; a page draws the box by it."""
    own, bank = vectors(4)[0], vectors(3)[:, ::-1]
    found = held(bank, (0, 1, 2), False, Nearest())
    for position in range(ROWS * COLUMNS):
        near = nearest_patch(own, position, found, GRID)
        fine = nearest_patch(own, position, found, (3 * ROWS, 3 * COLUMNS))
        assert near.row is not None
        assert near.column is not None
        assert (fine.row, fine.column) == (3 * near.row + 1, 3 * near.column + 1)
        assert fine.reference == near.reference


LEVELS = np.array([[9, 0, 0, 5], [0, 9, 0, 6], [0, 0, 0, 6], [3, 3, 0, 0], [3, 0, 0, 9]], np.uint8)


def test_groups_touch_at_corners_and_the_highest_and_then_the_largest_comes_first() -> None:
    groups = [np.flatnonzero(group).tolist() for group in patch_groups(LEVELS, 4)]
    assert groups == [[0, 5], [19], [3, 7, 11]]
    assert np.flatnonzero(patch_groups(LEVELS, 5)[2]).tolist() == [7, 11]
    assert [int(group.sum()) for group in patch_groups(LEVELS[::-1], 4)] == [2, 1, 3]
    assert patch_groups(LEVELS, 9) == []
    uneven = patch_groups(np.array([[7, 7, 0, 5, 9]], np.uint8), 4)
    assert [np.flatnonzero(group).tolist() for group in uneven] == [[3, 4], [0, 1]]


def test_a_region_has_the_place_of_its_highest_patch() -> None:
    inside = patch_groups(LEVELS, 4)[2]
    assert worst_in(inside, LEVELS) == 7
    # 3 pixels a patch down, 2.5 across: a box covers all that it touches
    assert group_box(inside, (10, 15)) == (7, 0, 10, 9)
    assert group_box(patch_groups(LEVELS, 4)[0], (10, 15)) == (0, 0, 5, 6)
    assert group_box(np.equal(LEVELS, 3), (11, 13)) == (0, 7, 6, 13)
    found = region(inside, LEVELS, (10, 15), None, None)
    assert (found.row, found.column, found.level, found.patches) == (1, 3, 6, 3)


def test_levels_that_regions_may_lie_above() -> None:
    known = Prediction("", "nut", 0.1, 0.2, "normal", LEVELS, 7, "given", 0, "why", (4, 5))
    assert [region_level(known, level) for level in (None, 0, 255)] == [7, 0, 255]
    for level in (-1, 256):
        with pytest.raises(ParameterError, match="give one from 0 to 255"):
            region_level(known, level)
    with pytest.raises(ParameterError, match=r"no pixel threshold \(why\)"):
        region_level(replace(known, pixel_threshold=None), None)
