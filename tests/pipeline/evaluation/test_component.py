"""Which rows of the store a block of images needs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from cache.keys import Keys
from cache.layout import Space
from pipeline.evaluation.component import ImageFeatures


def test_rows_of_test_images_by_their_place_and_of_others_by_their_hash() -> None:
    located: Any = SimpleNamespace(
        space=Space("patch", {}, (1, 2), "float32"),
        locations=lambda keys: SimpleNamespace(narrowed=lambda: list(keys)),
    )
    features = ImageFeatures((located,), Keys.of("abcdef"))
    (tests,) = features.of(pd.DataFrame({"category": ["nut", "nut"]}), 3)
    (others,) = features.of(pd.DataFrame({"hash": ["x", "a"]}), None)
    assert (tests.places, others.places) == (["d", "e"], ["x", "a"])
