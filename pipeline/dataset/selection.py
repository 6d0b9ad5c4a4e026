"""Which training images of a category become references, and which thresholds come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cache.keys import Keys
from fade.errors import DataError, ParameterError, counted
from fade.rules.pairs import MIN_IMAGES
from fade.sampling import reference_order


def check_shots(category: str, images: int, shots: int) -> None:
    """Refuse to take more references than there are training images.

    Args:
        images: how many training images it has.
        shots: how many of them each seed takes; 0 asks for none.

    Raises:
        DataError: there is no training image.
        ParameterError: there are fewer than ``shots``.

    Examples:
        >>> check_shots("nut", images=2, shots=4)
        Traceback (most recent call last):
            ...
        fade.errors.ParameterError: vision.shots asks for 4 references, but category 'nut' has only 2 ...
    """
    if shots and not images:
        raise DataError(
            f"category {category!r} has no training image, but vision.shots asks for {shots}: "
            "add good images to its train folder, leave it out by dataset.categories, or set "
            "vision.shots to [0] with vision.query_in_bank true"
        )
    if images < shots:
        raise ParameterError(
            f"vision.shots asks for {counted(shots, 'reference')}, but category {category!r} has only "
            f"{counted(images, 'training image')}: lower vision.shots or add images"
        )


def check_batches(images: Mapping[str, int]) -> None:
    """Refuse batches that are too small.

    Args:
        images: how many distinct test images each category has.

    Raises:
        ParameterError: fewer than five, with the category's name.

    Examples:
        >>> check_batches({"nut": 3})
        Traceback (most recent call last):
            ...
        fade.errors.ParameterError: category 'nut' has 3 different test images, too few for ...
    """
    for category, count in images.items():
        if count < MIN_IMAGES:
            raise ParameterError(
                f"category {category!r} has {counted(count, 'different test image')}, too few for "
                f"vision.bank batch, which needs {MIN_IMAGES}: add images, leave the category out by "
                "dataset.categories, or set vision.bank to references"
            )


def reference_positions(images: int, shots: int, seeds: Iterable[int]) -> dict[int, list[int]]:
    """Positions of each seed's references among a category's training images, by rank.

    Examples:
        >>> reference_positions(images=10, shots=2, seeds=[0, 1])
        {0: [6, 7], 1: [4, 2]}
    """
    return {seed: reference_order(images, seed)[:shots] for seed in seeds} if shots else {}


def calibration_positions(keys: Keys, seeds: Sequence[int], limit: int) -> NDArray[np.intp]:
    """Positions of a category's training images to calibrate thresholds on, equal ones once.

    They are those that the seeds would take last as references. So a trial has as many of them
    outside its bank as can be, and more shots change nothing here.

    Args:
        keys: contents of the training images, in the manifest's order.
        limit: how many to take at most.

    Returns:
        Positions in ascending order.
    """
    if not limit or not len(keys):
        return np.zeros(0, np.intp)
    ranks = np.full(len(keys), len(keys))
    for seed in seeds:
        order = reference_order(len(keys), seed)
        ranks[order] = np.minimum(ranks[order], np.arange(len(order)))
    # a bank holds a content, under whichever name
    number, first = keys.factorize()
    lowest = np.full(len(first), len(keys))
    np.minimum.at(lowest, number, ranks)
    distinct = np.sort(first)
    last = np.argsort(-lowest[number[distinct]], kind="stable")[:limit]
    return np.sort(distinct[last])
