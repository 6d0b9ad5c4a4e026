"""Why masks cannot be written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from fade.errors import ParameterError
from pipeline.inference.pixel_calls import check_pixel_thresholds


@pytest.mark.parametrize(
    ("source", "image", "reason"),
    [
        ("labels", 0.5, "its test images have no masks with defects"),
        ("labels", None, "remark"),
        ("normal", 0.5, "remark"),
    ],
)
def test_the_reason_why_there_is_no_pixel_threshold(
    source: str, image: float | None, reason: str
) -> None:
    threshold = SimpleNamespace(image=image, pixel=None, remark="remark")
    run: Any = SimpleNamespace(
        thresholds={"a": threshold},
        params=SimpleNamespace(threshold=SimpleNamespace(source=source)),
    )
    with pytest.raises(ParameterError, match=f"a has no pixel threshold: .*{reason}"):
        check_pixel_thresholds(run, pd.DataFrame({"category": ["a"]}))
