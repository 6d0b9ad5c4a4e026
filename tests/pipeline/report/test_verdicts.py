"""What decisions are worth against labels."""

from __future__ import annotations

import pytest

from pipeline.report.verdicts import VerdictCounts


def test_f1_counts_both_kinds_of_errors() -> None:
    found = VerdictCounts(images=7, good=3, anomalous=3, called=4, alarms=2, missed=1)
    assert found.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
