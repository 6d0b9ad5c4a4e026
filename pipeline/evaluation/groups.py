"""Images of one part that are judged together: the part's score is the highest of its views."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "folder"
"""``evaluate.group`` where the images of one folder show one part."""


def group_names(paths: Iterable[str], group: str) -> list[str]:
    """The part that each image shows.

    Args:
        paths: of the images, with ``/``.
        group: :data:`FOLDER`, or a regular expression whose first group, if it has one, is the part's
            name; a path in which it is not found is a part of its own.

    >>> group_names(["ok/7/a.png", "ok/7/b.png"], "folder")
    ['ok/7', 'ok/7']
    >>> group_names(["ok/7_top.png", "ok/7_side.png", "ok/8.png"], "(.*)_(top|side)")
    ['ok/7', 'ok/7', 'ok/8.png']
    """
    if group == FOLDER:
        return [posixpath.dirname(path) or path for path in paths]
    pattern = re.compile(group)
    found = ((path, pattern.search(path)) for path in paths)
    return [
        path if match is None else (match[1 if pattern.groups else 0] or path)
        for path, match in found
    ]


def parts_of(paths: Iterable[str], group: str | None) -> list[str] | None:
    """The part that each image shows, see :func:`group_names`; None where none is asked for."""
    return None if group is None else group_names(paths, group)


def counted_noun(group: str | None) -> str:
    """What decisions count: images, or the parts of ``evaluate.group``."""
    return "image" if group is None else "part"


def drawn_names(paths: Iterable[str], group: str | None) -> list[str]:
    """The names by which bootstrap samples draw images, the same for all views of a part.

    Images of two runs that differ in suffix alone are the same ones.

    >>> drawn_names(["ok/7/a.png", "ok/7/b.png"], None)
    ['ok/7/a', 'ok/7/b']
    """
    paths = list(paths)
    parts = paths if group is None else group_names(paths, group)
    return [
        posixpath.splitext(path)[0] if part == path else part
        for path, part in zip(paths, parts, strict=True)
    ]


def _numbers(table: pd.DataFrame, keys: list[str]) -> NDArray[np.intp]:
    """The number of each row's group, by first appearance."""
    return np.asarray(table.groupby(keys, sort=False, observed=True).ngroup(), np.intp)


def _labels(rows: NDArray[np.intp], count: int, is_anomaly: pd.Series) -> NDArray[np.object_]:
    """Labels of groups: anomalous if a view is, good if all are, else unknown."""
    ranks = np.where(is_anomaly.isna(), 1, np.where(is_anomaly.eq(True), 2, 0))
    highest = np.zeros(count, int)
    np.maximum.at(highest, rows, ranks)
    return np.array([False, None, True], object)[highest]


def _first(rows: NDArray[np.intp], preferred: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The first image of each group, a preferred one where there is one."""
    order = np.lexsort((np.arange(len(rows)), ~preferred))
    _, first = np.unique(rows[order], return_index=True)
    return np.asarray(order[first])


def grouped_tests(
    tests: pd.DataFrame, scores: NDArray[np.float64], group: str | None
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Test images and their scores (trials, images), or those of the parts that they show.

    A part stands where its first image did, and has the row of its first anomalous one.

    Args:
        tests: with ``category``, ``path`` and ``is_anomaly``.
        scores: of the images, NaN where there are none.
        group: see :func:`group_names`; None for the images themselves.
    """
    if group is None or tests.empty:
        return tests, scores
    named = tests.assign(group=group_names(tests["path"], group))
    rows = _numbers(named, ["category", "group"])
    count = int(rows.max()) + 1
    first = _first(rows, tests["is_anomaly"].eq(True).to_numpy(bool))
    highest = np.full((len(scores), count), -np.inf)
    for values, of_trial in zip(highest, scores, strict=True):
        np.maximum.at(values, rows, of_trial)
    labels = _labels(rows, count, tests["is_anomaly"])
    return tests.iloc[first].assign(is_anomaly=labels).reset_index(drop=True), highest


def group_warnings(tests: pd.DataFrame, judged: pd.DataFrame) -> list[str]:
    """Why parts may not be meant so: all good, or anomalous, images are one part, or none has two.

    Args:
        judged: the parts, see :func:`grouped_tests`.
    """
    found = []
    if len(judged) == len(tests) > 0:
        found.append(
            "evaluate.group puts no two test images together, and each is judged alone: see that it "
            "names parts"
        )
    for label, word in ((False, "good"), (True, "anomalous")):
        images, parts = (
            table[table["is_anomaly"].eq(label)].groupby("category", sort=False).size()
            for table in (tests, judged)
        )
        found += [
            f"{category}: evaluate.group makes 1 {word} part, and {images.get(category, 0)} test images "
            f"are {word}: metrics of images count it once; see that it names parts"
            for category, count in parts.items()
            if count == 1 < images.get(category, 0)
        ]
    return found


def grouped_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``scores.parquet`` by part, where it names parts: else as they are.

    A part's ``image`` is its name, its score the highest of its views, its ``defect`` that of the first
    anomalous one.
    """
    if "group" not in table or table.empty:
        return table
    keys = [name for name in ("category", "shots", "seed", "group") if name in table]
    rows = _numbers(table, keys)
    count = int(rows.max()) + 1
    highest = np.full(count, -np.inf)
    np.maximum.at(highest, rows, table["score"].to_numpy(np.float64))
    first = _first(rows, table["is_anomaly"].eq(True).to_numpy(bool))
    found = table.iloc[first].drop(columns="group")
    return found.assign(
        image=table["group"].to_numpy()[first],
        is_anomaly=_labels(rows, count, table["is_anomaly"]),
        score=highest,
    ).reset_index(drop=True)
