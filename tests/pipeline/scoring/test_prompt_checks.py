"""Prompts that would do nothing are named."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from fade.errors import ParameterError
from pipeline.config.load import parse_params
from pipeline.config.schema import Params
from pipeline.scoring.prompt_checks import check_overrides, warn_of_both_sides
from tests.stages.test_vision_encoder import vision_params


def params(name: str, categories: list[str] | None) -> Params:
    prompts = {"segmentation": [{"normal": ["fine"], "abnormal": ["bent"]}]}
    return parse_params(
        vision_params(text__overrides={name: prompts}, dataset__categories=categories)
    )


def test_overrides_of_no_category(caplog: pytest.LogCaptureFixture) -> None:
    check_overrides(params("cable", None), ["cable", "nut"])
    with pytest.raises(ParameterError, match=r"'kable'.*did you mean cable.*correct the name"):
        check_overrides(params("kable", None), ["cable", "nut"])
    with pytest.raises(ParameterError, match=r"'x', .*there are cable; nut"):
        check_overrides(params("x", None), ["cable", "nut"])
    assert not caplog.records
    check_overrides(params("cable", ["nut"]), ["nut"])  # left out of this run, perhaps
    assert "'cable', which is no category of this run" in caplog.text


def test_sentences_of_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    warn_of_both_sides({("segmentation", "nut"): (["a", "b", "c"], np.array([0, 1, 1]))})
    assert not caplog.records
    warn_of_both_sides(
        {
            ("segmentation", "nut"): (["a", "b", "b", "c"], np.array([0, 0, 1, 1])),
            ("classification", "cable"): (["a", "a"], np.array([0, 1])),
        }
    )
    lines = sorted(record.getMessage() for record in caplog.records)
    assert [line.split(";")[0] for line in lines] == [
        f"text.{use}: sentences that are both normal and abnormal tell nothing: {what}"
        for use, what in (("classification", "cable: all of them"), ("segmentation", "nut: 'b'"))
    ]
