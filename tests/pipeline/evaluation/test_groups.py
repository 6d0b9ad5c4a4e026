"""Views of one part: which images belong together, and what the part's score and label are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.config.evaluate import EvaluateParams
from pipeline.evaluation.groups import (
    drawn_names,
    group_names,
    group_warnings,
    grouped_scores,
    grouped_tests,
)
from pipeline.evaluation.results import labelled_images
from pipeline.report.intervals import image_scores

# as Real-IAD has it: five views in the folder of a part, of which some show the defect
TESTS = pd.DataFrame(
    {
        "category": ["usb"] * 6 + ["pcb"],
        "path": [
            "r/usb/OK/S1/a_C1.jpg", "r/usb/OK/S1/a_C2.jpg", "r/usb/NG/BX/S1/b_C1.jpg",
            "r/usb/NG/BX/S1/b_C2.jpg", "r/usb/OK/S2/c_C1.jpg", "r/usb/OK/S2/c_C2.jpg",
            "r/pcb/OK/S1/d.jpg",
        ],
        "defect": ["good", "good", "good", "BX", "good", "", "good"],
        "is_anomaly": np.array([False, False, False, True, False, None, False], object),
    }
)  # fmt: skip
SCORES = np.array([[0.1, 0.3, 0.9, 0.2, 0.4, 0.5, 0.6]])


def test_the_highest_view_of_a_folder() -> None:
    parts, scores = grouped_tests(TESTS, SCORES, "folder")
    assert scores.tolist() == [[0.3, 0.9, 0.5, 0.6]]
    assert parts["is_anomaly"].tolist() == [False, True, None, False]
    assert parts["defect"].tolist() == ["good", "BX", "good", "good"]
    assert parts["category"].tolist() == ["usb", "usb", "usb", "pcb"]
    alone, same = grouped_tests(TESTS, SCORES, None)
    assert alone is TESTS
    assert same is SCORES


def test_a_part_in_a_table_of_scores_has_its_first_anomalous_view() -> None:
    """Of two trials, and of labels that are good, anomalous and unknown."""
    names = group_names(TESTS["path"], "folder")
    table = pd.concat(
        [
            TESTS.assign(
                image=TESTS["path"], group=names, shots=1, seed=seed, score=SCORES[0] + seed
            )
            for seed in (0, 1)
        ],
        ignore_index=True,
    )
    found = grouped_scores(table)
    assert found["defect"].tolist() == 2 * ["good", "BX", "good", "good"]
    assert found["is_anomaly"].tolist() == 2 * [False, True, None, False]
    assert found["seed"].tolist() == 4 * [0] + 4 * [1]
    assert found["score"].tolist() == [0.3, 0.9, 0.5, 0.6, 1.3, 1.9, 1.5, 1.6]
    assert found["image"].tolist() == 2 * list(dict.fromkeys(names))


def test_a_group_that_takes_all_images_is_warned_of() -> None:
    more = pd.concat([TESTS, TESTS.assign(path="2" + TESTS["path"])], ignore_index=True)
    scores = np.hstack([SCORES, SCORES])
    assert group_warnings(more, grouped_tests(more, scores, "folder")[0]) == []
    (found,) = group_warnings(TESTS, grouped_tests(TESTS, SCORES, "(usb|pcb)/OK")[0])
    assert found.startswith("usb: evaluate.group makes 1 good part, and 4 test images are good")


def test_a_group_that_puts_no_images_together_is_warned_of() -> None:
    (found,) = group_warnings(TESTS, grouped_tests(TESTS, SCORES, "no such part")[0])
    assert found.startswith("evaluate.group puts no two test images together")


def test_samples_draw_the_views_of_a_part_together() -> None:
    paths = ["r/usb/S1/a_C1.jpg", "r/usb/S1/a_C2.jpg", "r/usb/b.7.jpg"]
    assert drawn_names(paths, "folder") == ["r/usb/S1", "r/usb/S1", "r/usb"]
    assert drawn_names(paths, "(.*)_C[0-9]") == ["r/usb/S1/a", "r/usb/S1/a", "r/usb/b.7"]
    assert drawn_names(paths, None) == [path.removesuffix(".jpg") for path in paths]
    assert drawn_names(["S1.2/a.png", "a.png"], "folder") == ["S1.2", "a"]


def test_tables_of_scores_become_those_of_parts(tmp_path: object) -> None:
    table = TESTS.assign(
        group=group_names(TESTS["path"], "folder"), shots=1, seed=0, score=SCORES[0],
        image=TESTS["path"],
    )  # fmt: skip
    found = grouped_scores(table)
    assert found["image"].tolist() == [
        "r/usb/OK/S1",
        "r/usb/NG/BX/S1",
        "r/usb/OK/S2",
        "r/pcb/OK/S1",
    ]
    assert found["score"].tolist() == [0.3, 0.9, 0.5, 0.6]
    assert labelled_images(table)["is_anomaly"].tolist() == [False, True, False]
    (usb, _) = image_scores(table, tmp_path).values()  # type: ignore[arg-type]
    assert usb.images == ("r/usb/NG/BX/S1", "r/usb/OK/S1")
    assert usb.scores[0].tolist() == [0.9, 0.3]
    plain = table.drop(columns="group")
    assert grouped_scores(plain) is plain


def test_names_by_pattern() -> None:
    paths = ["t/good/p1_top.png", "t/good/p1_side.png", "t/cut/p1_top.png", "t/cut/p2.png"]
    assert group_names(paths, r"(.*)_(?:top|side)\.png$") == [
        "t/good/p1", "t/good/p1", "t/cut/p1", "t/cut/p2.png"
    ]  # fmt: skip
    assert group_names(paths, r"p\d") == ["p1", "p1", "p1", "p2"]


@pytest.mark.parametrize("pattern", [r"(cam\d)?_", r"t/(\d*)"])
def test_a_pattern_that_finds_no_name_leaves_each_image_a_part(pattern: str) -> None:
    """Its group is not in the match, or empty: images of one name, None or nothing, would be one part."""
    paths = ["t/good_1.png", "t/cut_1.png"]
    assert group_names(paths, pattern) == paths


def test_no_images_make_no_parts() -> None:
    nothing, scores = TESTS.iloc[:0], SCORES[:, :0]
    parts, same = grouped_tests(nothing, scores, "folder")
    assert (len(parts), same.shape) == (0, (1, 0))
    table = nothing.assign(group=[], shots=[], seed=[], score=[], image=[])
    assert grouped_scores(table).empty
    assert group_warnings(nothing, parts) == []


@pytest.mark.parametrize("pattern", ["(", "[a"])
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is no regular expression"):
        EvaluateParams(size=64, group=pattern)
