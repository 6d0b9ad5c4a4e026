"""Maps in the report are those that were measured, as far as levels of patches tell."""

from __future__ import annotations

import numpy as np
import pytest

from fade.filters import Finish
from fade.levels import UNIT, Scale
from pipeline.config.load import parse_params
from pipeline.config.originals import original
from pipeline.config.yaml12 import load_yaml
from pipeline.evaluation.recipe import Recipe
from pipeline.report.shades import FinishedMaps


@pytest.mark.parametrize("finish", [Finish("corners"), Finish("nearest", 1.0)])
@pytest.mark.parametrize("scale", [UNIT, Scale.fine(2.0, 7.0)])
def test_what_has_one_level_keeps_it(finish: Finish, scale: Scale) -> None:
    """Rounding made it one lower, and a defect at the first level above the threshold normal."""
    size = {"width": 9, "height": 9}
    params = parse_params(load_yaml(original("params.yaml")) | {"evaluate": {"size": 24}})
    maps = FinishedMaps(
        params, ["a.png"], ["a"], lambda path: size, None, {}, lambda label, row: None,
        Recipe("vision", "vision", finish=finish),
    )  # fmt: skip
    for level in (0, 1, 8, 37, 128, scale.count - 2, scale.count - 1):
        patches = np.full((3, 5), level, np.uint8 if scale == UNIT else np.uint16)
        assert np.unique(maps.finished(patches, scale, 0)).tolist() == [level]
