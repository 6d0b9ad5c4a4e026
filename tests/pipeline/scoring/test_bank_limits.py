"""What a bank must hold, told from numbers alone."""

from __future__ import annotations

from typing import Any

import pytest

from fade.errors import ParameterError
from pipeline.config.load import parse_params
from pipeline.scoring.bank_limits import asks_for_patches, check_bank_sizes
from tests.stages.test_vision_encoder import vision_params


@pytest.mark.parametrize(
    ("leaves", "held"),
    [
        ({}, 16),  # of one reference, as those of two are looked at apart
        ({"vision__transforms": "flips"}, 48),
        ({"vision__transforms": "flips", "vision__transform_overrides": {"b": "none"}}, 16),
        ({"vision__query_in_bank": True}, 15),
        ({"vision__coreset": 0.5}, 8),
        ({"vision__thinning": "superadd", "vision__bank_size": 9}, 9),
        ({"vision__thinning": "superadd", "vision__bank_size": 99}, 16),
        ({"vision__index": "IVF4,Flat", "vision__shots": [2]}, 32),
    ],
)
def test_neighbours(leaves: dict[str, Any], held: int) -> None:
    for neighbours in (held, held + 1):
        given = {"vision__transforms": "none", "vision__neighbours": neighbours, **leaves}
        params = parse_params(vision_params(**given))
        assert asks_for_patches(params)
        if neighbours == held:
            check_bank_sizes(params, 16, 8, ["a", "b"])
            continue
        with pytest.raises(ParameterError, match=f"is {neighbours}, and there are {held} patches"):
            check_bank_sizes(params, 16, 8, ["a", "b"])


def test_what_asks_for_nothing() -> None:
    assert not asks_for_patches(parse_params(vision_params()))
