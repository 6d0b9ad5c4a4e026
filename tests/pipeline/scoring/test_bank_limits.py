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
        ({"vision__shots": [2]}, 16),  # not the 32 of both
        ({"vision__shots": [0], "vision__query_in_bank": True}, 15),
        ({"vision__coreset": 0.47}, 8),  # 7.52
        ({"vision__coreset": 0.5, "vision__shots": [2]}, 16),
        ({"vision__coreset": 0.01, "vision__index": "HNSW8"}, 1),
        ({"vision__thinning": "superadd", "vision__bank_size": 9}, 9),
        ({"vision__thinning": "superadd", "vision__bank_size": 99}, 16),
        ({"vision__index": "IVF4,Flat", "vision__shots": [2]}, 32),
        (
            {
                "vision__thinning": "superadd",
                "vision__bank_size": 9,
                "vision__shots": [0, 1],
                "vision__query_in_bank": {"zero_shot": True, "few_shot": False},
            },
            9,
        ),
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


@pytest.mark.parametrize(
    ("leaves", "more"),
    [
        ({"vision__coreset": 0.5}, r"raise vision\.coreset$"),
        ({"vision__thinning": "superadd", "vision__bank_size": 9}, r"raise vision\.bank_size$"),
        ({"vision__coreset": 0.999}, "larger features.segmentation_sizes$"),  # all are kept
    ],
)
def test_what_would_give_more_neighbours(leaves: dict[str, Any], more: str) -> None:
    given = {"vision__transforms": "none", "vision__neighbours": 17, **leaves}
    with pytest.raises(ParameterError, match=more):
        check_bank_sizes(parse_params(vision_params(**given)), 16, 8)


def test_an_index_is_held_against_what_a_coreset_leaves() -> None:
    given = {"vision__index": "IVF9,Flat", "vision__shots": [1], "vision__transforms": "none"}
    check_bank_sizes(parse_params(vision_params(**given)), 16, 8)
    half = parse_params(vision_params(**given, vision__coreset=0.5))
    with pytest.raises(ParameterError, match="9 vectors at least, and the bank holds 8"):
        check_bank_sizes(half, 16, 8)


def test_what_asks_for_nothing() -> None:
    assert not asks_for_patches(parse_params(vision_params()))
    language = dict.fromkeys(
        ("fusion__classification_mode", "fusion__segmentation_mode"), "language"
    )
    alone = vision_params(
        **language, vision__encoder=None, vision__layers=[-1], vision__neighbours=99
    )
    assert not asks_for_patches(parse_params(alone))
