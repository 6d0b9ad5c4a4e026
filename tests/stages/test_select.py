"""Which references are chosen."""

from __future__ import annotations

import pandas as pd
import pytest

from fade.errors import DataError, ParameterError
from fade.sampling import reference_order
from stages.select import select_references


def manifest(**images: int) -> pd.DataFrame:
    """Training images by category, and a test image each."""
    rows = [
        (category, "train", f"{category}/{n}.png", f"{category}-{n}")
        for category, count in images.items()
        for n in range(count)
    ]
    rows += [(category, "test", f"{category}/t.png", f"{category}-t") for category in images]
    return pd.DataFrame(rows, columns=["category", "split", "path", "hash"])


def test_shots_nest_and_follow_the_official_order() -> None:
    table = manifest(bolt=9, nut=5)
    chosen = select_references(table, ["nut", "bolt"], 4, [0, 3])
    for category, count in (("bolt", 9), ("nut", 5)):
        for seed in (0, 3):
            part = chosen[(chosen["category"] == category) & (chosen["seed"] == seed)]
            order = reference_order(count, seed)[:4]
            assert part["hash"].tolist() == [f"{category}-{n}" for n in order]
            assert part["rank"].tolist() == [0, 1, 2, 3]
    fewer = select_references(table, ["nut", "bolt"], 2, [0, 3])
    pd.testing.assert_frame_equal(fewer, chosen[chosen["rank"] < 2].reset_index(drop=True))


def test_no_shots_need_no_training_image() -> None:
    assert select_references(manifest(bolt=0), ["bolt"], 0, []).empty


def test_refused() -> None:
    with pytest.raises(DataError, match="'nut' has no training image"):
        select_references(manifest(bolt=3, nut=0), ["bolt", "nut"], 1, [0])
    with pytest.raises(ParameterError, match="only 3 training images"):
        select_references(manifest(bolt=3), ["bolt"], 4, [0])
