"""Corrected labels against a plain look at each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fade.errors import DataError
from pipeline.artefacts.labels import write_labels
from pipeline.evaluation.corrections import corrected_tests, correction_warnings

TESTS = pd.DataFrame(
    {
        "path": ["a/0.png", 'a/"1", one.png', "b/2.png", "b/3.png", "b/4.png", "b/5.png"],
        "category": ["a", "a", "b", "b", "b", "b"],
        "defect": ["good", "cut", "good", "cut", "", ""],
        "is_anomaly": np.array([False, True, False, True, None, None], object),
        "mask": np.array([None, "m1.png", None, "m3.png", None, None], object),
        "mask_hash": np.array([None, "h1", None, "h3", None, None], object),
    }
)


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return "labels.csv"


@pytest.mark.parametrize("kind", ["object", "boolean"])
def test_what_each_label_changes(labels: str, kind: Any) -> None:
    tests = TESTS.assign(is_anomaly=TESTS["is_anomaly"].astype(kind))
    write_labels(
        {
            "a/0.png": True, 'a/"1", one.png': False, "b/3.png": True, "b/4.png": True,
            "b/5.png": False,
        },
        Path(labels),
    )  # fmt: skip
    found, about = corrected_tests(tests, labels)
    assert found["is_anomaly"].tolist() == [True, False, False, True, True, False]
    assert found["defect"].tolist() == ["corrected", "good", "good", "cut", "corrected", "good"]
    masks = found[["mask", "mask_hash"]]
    assert masks.dropna().to_dict("index") == {3: {"mask": "m3.png", "mask_hash": "h3"}}
    assert masks.isna().sum().tolist() == [5, 5]
    assert about == {"corrected_labels": {"file": labels, "labels": 5, "changed": {"a": 2, "b": 2}}}
    assert tests["defect"].tolist() == TESTS["defect"].tolist()


def test_labels_of_the_data_set_change_nothing(labels: str) -> None:
    known = {"a/0.png": False, 'a/"1", one.png': True}
    write_labels(known, Path(labels))
    found, about = corrected_tests(TESTS, labels)
    pd.testing.assert_frame_equal(found, TESTS, check_dtype=False)
    assert about["corrected_labels"]["changed"] == {}
    assert correction_warnings(about) == []
    assert corrected_tests(TESTS, None) == (TESTS, {})


def test_labels_of_images_outside_the_run(labels: str) -> None:
    write_labels({"a/0.png": False, "c/7.png": True, "c/8.png": True}, Path(labels))
    with pytest.raises(DataError, match=r"'c/7\.png' \(and 1 more\), which is no test image"):
        corrected_tests(TESTS, labels)
    _, about = corrected_tests(TESTS, labels, part=True)
    assert about["corrected_labels"] == {"file": labels, "labels": 3, "changed": {}, "left_out": 2}
    (line,) = correction_warnings(about)
    assert line.startswith(f"2 labels of {labels} are of no test image of this run")


@pytest.mark.parametrize(
    ("categories", "words"),
    [(1, "(c0 1)"), (5, "c4 5)"), (6, "c4 5 and 1 more category)"), (7, "and 2 more categories)")],
)
def test_categories_beyond_the_fifth_are_counted(categories: int, words: str) -> None:
    changed = {f"c{n}": n + 1 for n in range(categories)}
    about = {"file": "a.csv", "changed": changed}
    (line,) = correction_warnings({"corrected_labels": about})
    assert words in line
    assert line.startswith(f"{sum(changed.values())} label")
