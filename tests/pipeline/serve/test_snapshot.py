"""Maps of a finished run, at evaluation size, from the levels that it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fade.filters import Finish
from pipeline.evaluation.recipe import Recipe
from pipeline.serve.snapshot import Snapshot


@pytest.mark.parametrize("finish", [Finish("corners"), Finish("nearest", 1.0)])
def test_what_has_one_level_keeps_it(finish: Finish, finished: Path) -> None:
    """Rounding made it one lower, and a defect at the first level above the threshold normal."""
    snapshot = Snapshot(finished)
    snapshot._recipe = Recipe("vision", "vision", finish=finish)
    for level in (0, 1, 8, 33, 37, 128, 254, 255):
        snapshot.__dict__["_maps"] = lambda label, row, level=level: np.full(
            (3, 5), level, np.uint8
        )
        found = snapshot.prediction(0, snapshot.trial)
        assert found.finished is not None
        assert np.unique(found.finished).tolist() == [level]
