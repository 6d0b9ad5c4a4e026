"""Two summaries side by side."""

from __future__ import annotations

import json

import pytest

from fade.errors import DataError, ParameterError
from pipeline.report.comparison import compare, comparison_json, comparison_markdown
from pipeline.report.plots import UNDEFINED
from tests.pipeline.summaries import summary

NAN = float("nan")
A = summary(
    {("plate", 0): (0.5, 0.0), ("weave", 0): (NAN, NAN), ("mean", 0): (0.5, 0.0),
     ("plate", 1): (0.75, 0.1), ("mean", 1): (0.75, 0.1)}
)  # fmt: skip
B = summary(
    {("plate", 0): (0.625, 0.0), ("weave", 0): (0.5, 0.0), ("extra", 0): (0.25, 0.0),
     ("mean", 0): (0.458, 0.0)}
)  # fmt: skip


def test_differences() -> None:
    found = compare(A, B, ["full_image_auroc"])
    assert [(row.category, row.shots, row.a, row.b, row.change) for row in found] == [
        ("plate", 0, 0.5, 0.625, 0.125),
        ("plate", 1, 0.75, None, None),
        ("weave", 0, None, 0.5, None),
        ("extra", 0, None, 0.25, None),
        ("mean", 0, 0.5, 0.458, pytest.approx(-0.042)),
        ("mean", 1, 0.75, None, None),
    ]


def test_markdown() -> None:
    text = comparison_markdown(compare(A, B), "old|run", "new")
    assert text.count("| category | shots | old\\|run | new | difference |") == 3
    assert "| plate | 0 | 50.0 | 62.5 | +12.5 |" in text
    assert f"| plate | 1 | 75.0 | {UNDEFINED} | {UNDEFINED} |" in text
    assert "| mean | 0 | 50.0 | 45.8 | -4.2 |" in text


def test_json_has_no_nan() -> None:
    records = comparison_json(compare(A, B, ["full_pixel_auroc"]))
    assert records[0] == {
        "metric": "full_pixel_auroc", "category": "plate", "shots": 0,
        "a": 0.5, "b": 0.625, "difference": 0.125, "low": None, "high": None, "p_value": None,
    }  # fmt: skip
    assert records[2]["a"] is None
    json.dumps(records, allow_nan=False)


def test_a_run_and_itself() -> None:
    assert {row.change for row in compare(B, B)} == {0}


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="no metric 'auroc'"):
        compare(A, B, ["auroc"])
    with pytest.raises(DataError, match="nothing to compare"):
        compare(summary({}), summary({}))
