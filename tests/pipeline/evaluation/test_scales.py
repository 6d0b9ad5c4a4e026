"""Scales of maps without an upper limit: what they reach to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from fade.types import Trial
from pipeline.config.load import parse_params
from pipeline.evaluation.planner import BLOCK_IMAGES
from pipeline.evaluation.scales import map_scales
from pipeline.evaluation.trial_thresholds import CalibrationPart
from tests.stages.test_vision_encoder import vision_params

ONE, TWO = Trial(1, 0), Trial(2, 0)


def images(count: int) -> pd.DataFrame:
    return pd.DataFrame({"path": [f"{n}.png" for n in range(count)]})


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_scale_reaches_beyond_what_a_threshold_can_be(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """Test images in two blocks, and in two more those that give one trial its threshold."""
    params = parse_params(
        vision_params(
            vision__metric="euclidean",
            vision__unit=False,
            evaluate__top=0,
            threshold__factor=factor,
        )
    )
    of_blocks = [
        {("nut", ONE): (2.0, 9.0), ("nut", TWO): (1.0, 3.0)},
        {("nut", ONE): (1.0, 20.0), ("nut", TWO): (1.0, 4.0)},
        {("nut", ONE): (3.0, 18.0)},
        {("nut", ONE): (0.5, 16.0)},
    ]
    monkeypatch.setattr("pipeline.evaluation.scales.read_blocks", lambda *given: iter(of_blocks))
    planner: Any = SimpleNamespace(blocks=lambda *given, **named: iter(()))
    part = CalibrationPart("nut", ONE, images(2 * BLOCK_IMAGES), False, None, "")
    found = map_scales(planner, images(BLOCK_IMAGES + 1), [part], [ONE, TWO], params)
    top = {
        place: scale.values(pd.array([scale.count - 1]).to_numpy())[0]
        for place, scale in found.items()
    }
    highest = max(18.0, factor * 18.0)  # of the images to calibrate on, and of their thresholds
    assert found["nut", ONE].offset == 0.5
    assert top["nut", ONE] == pytest.approx(max(20.0, highest + 0.01 * (highest - 0.5)))
    assert found["nut", TWO].offset == 1.0  # nothing sets a threshold
    assert top["nut", TWO] == pytest.approx(4.0)
    assert map_scales(None, images(0), [], [ONE], params) == {}
    assert map_scales(planner, images(1), [part], [ONE], parse_params(vision_params())) == {}
