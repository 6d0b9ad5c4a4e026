"""What a person is told at the end of a run."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from pipeline.artefacts.tables import write_csv, write_json, write_table
from pipeline.evaluation.thresholds import Threshold, write_thresholds
from pipeline.project import summary as module
from pipeline.project.summary import summary


def results(folder: Path, limits: dict[str, float | None], **data: list[object]) -> None:
    """Two categories, two trials; in the one that is shown, scores 0.1 to 0.4."""
    rows = [(name, shots, 0) for name in ("tile", "weave") for shots in (0, 4)]
    write_csv(
        pd.DataFrame(rows, columns=["category", "shots", "seed"]), folder / "results/metrics.csv"
    )
    write_json({"categories": 2}, folder / "results/evaluation.json")
    write_json({"skipped": [], "warnings": [], **data}, folder / "artefacts/skipped.json")
    remark = "no decision: no good image" if None in limits.values() else ""
    thresholds = [
        Threshold(name, shots, 0, limits[name], 9, "training", 3, remark) for name, shots, _ in rows
    ]
    write_thresholds(thresholds, {}, folder / "results/thresholds.json")
    scores = [
        {"category": name, "shots": shots, "seed": 0, "score": score}
        for name, shots, _ in rows
        for score in ((0.1, 0.2, 0.3, 0.4) if shots else (0.9, 0.9, 0.9, 0.9))
    ]
    write_table(pd.DataFrame(scores), folder / "results/scores.parquet")


def test_counts_are_those_of_the_trial_that_is_shown(tmp_path: Path) -> None:
    results(tmp_path, {"tile": 0.3, "weave": 0.05})
    assert summary(tmp_path) == [
        "8 test images of 2 categories, 2 trials",
        "5 called anomalous, 3 normal with 4 shots, seed 0",
        "report: results/report/index.html; `fade serve --open` shows every image",
    ]


def test_image_without_a_score_is_not_called_anomalous(tmp_path: Path) -> None:
    results(tmp_path, {"tile": 0.3, "weave": 0.05})
    scores = pd.read_parquet(tmp_path / "results/scores.parquet")
    scores["score"] = scores["score"].where(scores["score"] < 0.35)
    write_table(scores, tmp_path / "results/scores.parquet")
    assert summary(tmp_path)[1] == "3 called anomalous, 5 normal with 4 shots, seed 0"


def test_pandas_is_not_asked(tmp_path: Path) -> None:
    results(tmp_path, {"tile": 0.3, "weave": 0.05})
    code = f"""
import sys
from pathlib import Path
from pipeline.project.dvc import repro
from pipeline.project.summary import summary
assert len(summary(Path({str(tmp_path)!r}))) == 3
sys.exit("pandas" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_was_left_out_and_what_is_odd(tmp_path: Path) -> None:
    results(
        tmp_path, {"tile": 0.3, "weave": None},
        skipped=[{"path": "a.png", "reason": "a.png is cut short"}], warnings=["one", "two"],
    )  # fmt: skip
    assert summary(tmp_path)[1:4] == [
        "1 called anomalous, 3 normal with 4 shots, seed 0; 4 without a decision",
        "1 image could not be used and left out",
        "2 warnings about the data",
    ]


def test_without_thresholds_nothing_is_decided(tmp_path: Path) -> None:
    results(tmp_path, {"tile": None, "weave": None})
    assert summary(tmp_path)[1] == "no decisions with 4 shots, seed 0: no good image"


def test_damaged_results_are_not_summed_up(tmp_path: Path) -> None:
    assert summary(tmp_path) == []
    results(tmp_path, {"tile": 0.3, "weave": 0.05})
    (tmp_path / "results/evaluation.json").write_text(json.dumps({"schema": 1}))
    assert summary(tmp_path) == []


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(module).failed == 0
