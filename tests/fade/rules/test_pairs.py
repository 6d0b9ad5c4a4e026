"""Plans of mutual scoring: no pair is lost, none is computed twice."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fade.errors import ParameterError
from fade.rules.pairs import (
    all_pairs,
    check_batch,
    circle_pairs,
    count_pairs,
    disjoint_sets,
    pair_blocks,
    pairing,
)


def as_set(pairs: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in pairs.tolist()}


@given(st.integers(0, 60))
def test_all_pairs_are_each_unordered_pair_once(images: int) -> None:
    pairs = all_pairs(images)
    assert len(pairs) == images * (images - 1) // 2 == len(as_set(pairs))
    assert (pairs[:, 0] > pairs[:, 1]).all()


@given(st.integers(34, 400), st.integers(1, 16), st.integers(0, 5))
def test_on_a_circle_each_image_has_exactly_its_partners(images: int, half: int, seed: int) -> None:
    pairs = circle_pairs(images, 2 * half, seed)
    assert len(pairs) == images * half == len(as_set(pairs))
    assert (pairs[:, 0] > pairs[:, 1]).all()
    assert np.bincount(pairs.reshape(-1), minlength=images).tolist() == [2 * half] * images


def test_a_circle_of_33_images_is_all_pairs() -> None:
    assert as_set(circle_pairs(33, 32, 0)) == as_set(all_pairs(33))
    assert as_set(circle_pairs(20, 32, 0)) == as_set(all_pairs(20))


def test_seeds_draw_circles() -> None:
    assert as_set(circle_pairs(100, 32, 0)) == as_set(circle_pairs(100, 32, 0))
    assert as_set(circle_pairs(100, 32, 0)) != as_set(circle_pairs(100, 32, 1))


@given(st.integers(5, 300), st.integers(5, 80), st.integers(0, 3))
def test_disjoint_sets_hold_each_image_once(images: int, largest: int, seed: int) -> None:
    sets = disjoint_sets(images, largest, seed)
    assert sorted(np.concatenate(sets).tolist()) == list(range(images))
    sizes = [len(one) for one in sets]
    assert min(sizes) >= 5
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(largest, 9)


@given(images=st.integers(5, 60), largest=st.integers(5, 30), seed=st.integers(0, 99))
def test_an_image_is_compared_with_all_others_of_its_set(
    images: int, largest: int, seed: int
) -> None:
    order, pairs = pairing(images, partners=None, largest=largest, seed=seed)
    assert sorted(order.tolist()) == list(range(images))
    found = {frozenset(order[pair].tolist()) for pair in pairs}
    sets = [part.tolist() for part in disjoint_sets(images, largest, seed)]
    assert found == {frozenset(two) for part in sets for two in combinations(part, 2)}
    assert len(pairs) == len(found) == count_pairs(images, partners=None, largest=largest)
    assert all(len(part) <= max(largest, 9) for part in sets)


@given(st.integers(5, 90), st.integers(1, 20), st.booleans())
def test_blocks_hold_each_pair_once_and_few_images(
    images: int, side: int, everything: bool
) -> None:
    pairs = all_pairs(images) if everything else circle_pairs(images, 4, 0)
    blocks = pair_blocks(pairs, side)
    together = np.concatenate([block.pairs for block in blocks])
    assert len(together) == len(pairs)
    assert as_set(together) == as_set(pairs)
    for block in blocks:
        assert len(block.images) <= 2 * side
        assert set(block.pairs.reshape(-1).tolist()) == set(block.images.tolist())


@given(st.integers(5, 60), st.sampled_from([2, 4, 16]), st.integers(0, 5))
def test_an_image_is_compared_with_its_partners_on_the_circle(
    images: int, partners: int, seed: int
) -> None:
    order, pairs = pairing(images, partners=partners, largest=5, seed=seed)
    assert sorted(order.tolist()) == list(range(images))
    assert (pairs[:, 0] > pairs[:, 1]).all()
    assert as_set(order[pairs]) == as_set(circle_pairs(images, partners, seed))
    assert len(pairs) == count_pairs(images, partners=partners, largest=5)


def test_no_pairs_make_no_blocks() -> None:
    assert pair_blocks(all_pairs(1), 4) == []


def test_blocks_and_sets_that_hold_too_little() -> None:
    with pytest.raises(ParameterError, match="blocks of 0 images"):
        pair_blocks(all_pairs(5), 0)
    with pytest.raises(ParameterError, match="sets of 4 images: use at least 5"):
        pairing(20, partners=None, largest=4, seed=0)


@pytest.mark.parametrize("images", [0, 1, 4])
def test_few_images_cannot_score_each_other(images: int) -> None:
    with pytest.raises(ParameterError, match=f"a batch of {images} images? .* at least 5"):
        check_batch(images)


@pytest.mark.parametrize("partners", [0, 1, 7])
def test_partners_come_in_twos(partners: int) -> None:
    with pytest.raises(ParameterError, match="even number"):
        circle_pairs(100, partners, 0)
