"""Normal images that thresholds come from: training images, and what each trial does with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def calibration_images(train: pd.DataFrame, used: Collection[str], limit: int) -> pd.DataFrame:
    """The training images of one category to calibrate on, equal ones once.

    Images that no bank uses come first, then the others, each in the data set's order: so a trial
    has as many images outside its bank as there can be.

    Args:
        train: the category's training images with ``category``, ``path`` and ``hash``.
        used: hashes of the images that some trial's bank uses.
        limit: at most so many.
    """
    distinct = train.drop_duplicates("hash")
    taken = distinct["hash"].isin(list(used))
    ordered = distinct[~taken], distinct[taken]
    import pandas as pd

    chosen = pd.concat(ordered).head(limit)
    return chosen[["category", "path", "hash"]].reset_index(drop=True)


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
    """
    outside = tuple(key for key in candidates if key not in references)
    if outside or len(references) < 2:
        return TrialImages(outside, False)
    return TrialImages(tuple(candidates), True)
