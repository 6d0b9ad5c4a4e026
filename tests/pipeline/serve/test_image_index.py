"""The index of a run's images against one row at a time, on made-up rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fade.errors import ParameterError, StoreError
from fade.metrics import image_metrics
from fade.types import Trial
from pipeline.evaluation.thresholds import Threshold, best_threshold
from pipeline.serve import image_index
from pipeline.serve.image_index import ImageFilter, ImageIndex, Sort

TRIALS = (Trial(1, 0), Trial(4, 0))
LIMITS = {("cable", Trial(4, 0)): 0.4, ("plate", Trial(4, 0)): 0.6, ("tile", Trial(4, 0)): None}


def made_up() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for trial in TRIALS:
        for category in ("plate", "cable", "tile"):
            for n in range(40):
                defect = ("good", "hole", "Bent")[n % 3]
                unknown = n % 4 == 0 if category == "tile" else category == "plate" and n % 5 == 1
                is_anomaly = None if unknown else defect != "good"
                parts.append(
                    {
                        "path": f"{category}/test/{defect}/{n:03}.png", "category": category,
                        "defect": defect, "is_anomaly": is_anomaly, "shots": trial.shots,
                        "seed": trial.seed, "score": round(float(rng.random()), 2),
                    }
                )  # fmt: skip
    frame = pd.DataFrame(parts)
    frame.loc[[3, 125, 130], "score"] = np.nan
    return frame


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return made_up()


@pytest.fixture
def index(frame: pd.DataFrame) -> ImageIndex:
    return ImageIndex(pa.Table.from_pandas(frame, preserve_index=False))


@pytest.fixture
def limits(index: ImageIndex) -> np.ndarray:
    thresholds = {
        key: Threshold(key[0], key[1].shots, key[1].seed, image, None, "training", 3, "")
        for key, image in LIMITS.items()
    }
    return index.limits(TRIALS[1], thresholds)


def plain_rows(frame: pd.DataFrame, wanted: ImageFilter) -> list[int]:
    """The rows of the second trial, one at a time."""
    found = []
    images: Any = frame.iloc[120:].itertuples()
    for row, image in enumerate(images):
        limit = LIMITS[image.category, TRIALS[1]]
        decision = None
        if limit is not None and not np.isnan(image.score):
            decision = "anomalous" if image.score > limit else "normal"
        label = {None: "unknown", True: "anomalous", False: "good"}[image.is_anomaly]
        if (
            wanted.category in (None, image.category)
            and wanted.defect in (None, image.defect)
            and wanted.decision in (None, decision or "none")
            and wanted.label in (None, label)
            and wanted.text in image.path
            and (not wanted.disagreement or (decision in ("anomalous", "normal") and label != "unknown"
                 and (decision == "anomalous") != (label == "anomalous")))
        ):  # fmt: skip
            found.append(row)
    return found


class Compared(str):
    """A name that counts with how many others it is compared."""

    seen = 0

    def __eq__(self, other: object) -> bool:
        Compared.seen += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_names_are_not_searched_for() -> None:
    """Else counts of all categories would grow by the square of categories."""
    names = [f"part{number}" for number in range(30)]
    index = ImageIndex(pa.Table.from_pandas(made_up()[:0], preserve_index=False), names)
    Compared.seen = 0
    assert [index.category_number(Compared(name)) for name in names] == list(range(30))
    assert Compared.seen <= 2 * len(names)


@pytest.mark.parametrize(
    "wanted",
    [
        ImageFilter(),
        ImageFilter(category="cable"),
        ImageFilter(category="plate", defect="hole", decision="anomalous"),
        ImageFilter(decision="none"),
        ImageFilter(label="unknown"),
        ImageFilter(label="good", disagreement=True),
        ImageFilter(disagreement=True),
        ImageFilter(disagreement=True, text="/Bent/"),
        ImageFilter(text="no such path"),
    ],
)
def test_filters_find_what_a_loop_finds(
    wanted: ImageFilter, index: ImageIndex, frame: pd.DataFrame, limits: np.ndarray
) -> None:
    found = index.select(TRIALS[1], wanted, "order", limits).tolist()
    assert found == plain_rows(frame, wanted)
    for sort in ("highest", "lowest", "nearest"):
        assert sorted(index.select(TRIALS[1], wanted, sort, limits).tolist()) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(("sort", "sign"), [("highest", -1), ("lowest", 1)])
def test_images_without_a_score_come_last(
    sort: Sort, sign: int, index: ImageIndex, limits: np.ndarray
) -> None:
    scores = index.scores[TRIALS[1]][index.select(TRIALS[1], ImageFilter(), sort, limits)]
    assert np.isnan(scores[-2:]).all()
    assert (np.diff(sign * scores[:-2]) >= 0).all()


@pytest.mark.parametrize("sort", ["highest", "lowest", "nearest"])
@pytest.mark.parametrize("wanted", [ImageFilter(category="cable"), ImageFilter()])
def test_a_page_is_that_of_all_in_order(
    sort: Sort,
    wanted: ImageFilter,
    index: ImageIndex,
    limits: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_index, "STEP", 5)
    rows = index.select(TRIALS[1], wanted, sort, limits)
    for start in range(0, len(rows) + 5, 3):
        some = index.select(TRIALS[1], wanted, sort, limits, (start, start + 3))
        assert some[start : start + 3].tolist() == rows[start : start + 3].tolist()
        assert sorted(some.tolist()) == sorted(rows.tolist())


def test_the_nearest_to_their_threshold_come_first(index: ImageIndex, limits: np.ndarray) -> None:
    rows = index.select(TRIALS[1], ImageFilter(category="cable"), "nearest", limits)
    away = np.abs(index.scores[TRIALS[1]][rows] - 0.4)
    assert (np.diff(away[~np.isnan(away)]) >= 0).all()


def test_a_text_in_small_letters_finds_capitals_too(index: ImageIndex, limits: np.ndarray) -> None:
    found = [
        len(index.select(TRIALS[1], ImageFilter(text=text), "order", limits))
        for text in ("/Bent/", "/bent/", "/BENT/")
    ]
    assert found == [39, 39, 0]


def test_paths_are_searched_in_parts(
    index: ImageIndex, limits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> list[int]:
        rows = index.select(TRIALS[1], ImageFilter(text="bent"), "order", limits)
        return [int(row) for row in rows]

    whole = found()
    assert whole == [row for row in range(len(index)) if "bent" in index.path(row).lower()]
    monkeypatch.setattr(image_index, "SEARCHED", 7)
    assert found() == whole


def test_measures_follow_the_labels(index: ImageIndex, frame: pd.DataFrame) -> None:
    rows = frame.iloc[120:]
    own = rows[(rows["category"] == "plate") & rows["score"].notna() & rows["is_anomaly"].notna()]
    labels, values = own["is_anomaly"].to_numpy(bool), own["score"].to_numpy(float)
    expected = image_metrics(values, labels)[0]["full_image_auroc"]
    auroc, best = index.measures(TRIALS[1], "plate")
    assert auroc == pytest.approx(expected)
    assert best == best_threshold(values, labels)
    index.correct_all({index.path(int(row)): True for row in np.flatnonzero(index.given == 0)})
    assert index.measures(TRIALS[1], "plate") == (None, None)


def test_counts_are_those_of_the_scores(index: ImageIndex, frame: pd.DataFrame) -> None:
    rows = frame.iloc[120:]
    own = rows[(rows["category"] == "cable") & rows["score"].notna()]
    above, bad = own["score"] > 0.4, own["is_anomaly"].astype(bool)
    found = index.counts(TRIALS[1], "cable", 0.4)
    assert (found.images, found.called) == (len(own), above.sum())
    assert (found.good, found.false_alarms) == ((~bad).sum(), (above & ~bad).sum())
    assert (found.anomalous, found.missed) == (bad.sum(), (~above & bad).sum())
    undecided = index.counts(TRIALS[1], "tile", None)
    assert (undecided.unlabelled, undecided.called, undecided.missed) == (10, 0, 0)
    bars = index.histogram(TRIALS[1], "cable")
    assert sum(bars["good"]) == found.good
    assert sum(bars["anomalous"]) == found.anomalous


def test_bars_of_equal_scores_have_a_width(frame: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(frame.assign(score=0.5), preserve_index=False)
    bars = ImageIndex(table).histogram(TRIALS[1], "cable")
    assert bars["low"] < bars["high"]
    assert sum(bars["good"]) == 14


def test_a_category_without_test_images_is_there_and_empty(frame: pd.DataFrame) -> None:
    """The run has it: its images may be judged, and none are listed."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    index = ImageIndex(table, ["bolt", "tile", "plate", "cable"])
    assert index.categories == ("plate", "cable", "tile", "bolt")
    assert (index.size("tile"), index.size("bolt"), index.kinds("bolt")) == (40, 0, [])
    assert index.counts(TRIALS[1], "bolt", 0.5).images == 0
    assert index.measures(TRIALS[1], "bolt") == (None, None)
    assert index.histogram(TRIALS[1], "bolt")["good"] == []
    wanted = ImageFilter(category="bolt")
    assert not len(index.select(TRIALS[1], wanted, "highest", index.limits(TRIALS[1], {}), (0, 60)))


def test_corrections_count_and_can_be_taken_back(index: ImageIndex, limits: np.ndarray) -> None:
    before = index.counts(TRIALS[1], "plate", 0.6)
    row = int(np.flatnonzero(index.labels == 0)[0])
    index.correct(row, True)
    after = index.counts(TRIALS[1], "plate", 0.6)
    assert (after.good, after.anomalous) == (before.good - 1, before.anomalous + 1)
    corrected = ImageFilter(label="corrected")
    assert index.select(TRIALS[1], corrected, "order", limits).tolist() == [row]
    assert index.correct_all({index.path(5): True, "elsewhere.png": False}) == 1
    assert index.labels[row] == index.given[row]
    assert index.labels[5] == 1
    index.correct(5, None)
    assert index.counts(TRIALS[1], "plate", 0.6) == before


def test_names_that_are_not_there_are_refused(index: ImageIndex, limits: np.ndarray) -> None:
    with pytest.raises(ParameterError, match="no category 'wood'"):
        index.select(TRIALS[1], ImageFilter(category="wood"), "order", limits)
    with pytest.raises(ParameterError, match="no defect 'dent'"):
        index.select(TRIALS[1], ImageFilter(defect="dent"), "order", limits)


def test_trials_of_other_images_are_refused(frame: pd.DataFrame) -> None:
    other = frame.copy()
    other.loc[200, "path"] = "another.png"
    with pytest.raises(StoreError, match="other images in one trial"):
        ImageIndex(pa.Table.from_pandas(other, preserve_index=False))
    with pytest.raises(StoreError, match="trial by trial"):
        ImageIndex(pa.Table.from_pandas(frame.iloc[1:], preserve_index=False))
    with pytest.raises(StoreError, match="trial by trial"):
        ImageIndex(pa.Table.from_pandas(pd.concat([frame, frame]), preserve_index=False))


def test_no_images_are_no_error(frame: pd.DataFrame) -> None:
    empty = ImageIndex(pa.Table.from_pandas(frame, preserve_index=False).slice(0, 0))
    assert (len(empty), empty.scores, empty.categories) == (0, {}, ())
    empty.scores[TRIALS[0]] = np.empty(0)
    for sort in ("highest", "lowest", "nearest", "order"):
        rows = empty.select(TRIALS[0], ImageFilter(text="x"), sort, np.empty(0), (0, 60))  # type: ignore[arg-type]
        assert rows.tolist() == []


def test_a_missing_or_damaged_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with pytest.raises(StoreError, match="is missing"):
        ImageIndex.open(path)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match="cannot be read"):
        ImageIndex.open(path)
