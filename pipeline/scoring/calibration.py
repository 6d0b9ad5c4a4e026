"""Which normal images give a trial its thresholds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrialImages:
    """The images that give one trial its threshold in one category.

    Attributes:
        keys: their hashes.
        held_out: whether each is a reference of the trial, to be compared with the other ones.
    """

    keys: tuple[str, ...]
    held_out: bool


def trial_images(candidates: Sequence[str], references: Collection[str]) -> TrialImages:
    """Of a category's calibration images those that one trial's threshold comes from.

    Images outside the trial's bank; where there are none, its references, each compared with the
    others. One reference alone has no others, so that there is no image.

    Args:
        candidates: hashes of the category's calibration images.
        references: hashes of the trial's references, each once.

    Examples:
        >>> trial_images(["a", "b", "c"], references=["a"])
        TrialImages(keys=('b', 'c'), held_out=False)
        >>> trial_images(["a", "b"], references=["a", "b"])  # each is held against the others
        TrialImages(keys=('a', 'b'), held_out=True)
    """
    outside = tuple(key for key in candidates if key not in references)
    if outside or not candidates or len(references) < 2:
        return TrialImages(outside, False)
    return TrialImages(tuple(candidates), True)
