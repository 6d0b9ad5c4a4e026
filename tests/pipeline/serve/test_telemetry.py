"""Counters are those of what happened, and readable whatever names have."""

from __future__ import annotations

from pipeline.serve.telemetry import Telemetry


def test_counters_are_those_of_what_happened() -> None:
    telemetry = Telemetry()
    for decision in ("normal", "anomalous", "normal", None):
        telemetry.add_decision('a"b\\c\nd', decision)
    for seconds in (0.05, 0.2, 40.0):
        telemetry.add_seconds(seconds)
    telemetry.add_request("GET", '/x"', 200)
    lines = telemetry.text(waiting=3, images=5).splitlines()
    name = r'fade_predictions_total{category="a\"b\\c\nd",decision='
    for decision, count in (("normal", 2), ("anomalous", 1), ("none", 1)):
        assert f'{name}"{decision}"}} {count}' in lines
    for most, count in (("0.05", 1), ("0.1", 1), ("0.25", 2), ("30.0", 2), ("+Inf", 3)):
        assert f'fade_predict_seconds_bucket{{le="{most}"}} {count}' in lines
    assert r'fade_requests_total{method="GET",route="/x\"",status="200"} 1' in lines
    assert {
        "fade_predict_seconds_sum 40.250000", "fade_predict_seconds_count 3",
        "fade_predict_waiting 3", "fade_images 5",
    } <= set(lines)  # fmt: skip
