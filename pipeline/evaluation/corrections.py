"""Corrected labels of test images, in place of those of the data set: ``evaluate.labels``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.errors import DataError, counted
from fade.types import GOOD
from pipeline.artefacts.labels import read_labels
from pipeline.config.schema import DatasetParams

if TYPE_CHECKING:
    import pandas as pd

CORRECTED = "corrected"
"""Defect of images that the data set does not call anomalous, and a correction does."""
_NAMED = 5


def named_labels(file: str, folder: Path = Path()) -> dict[str, bool]:
    """Whether each image of the file that ``evaluate.labels`` names is anomalous, by its path.

    Args:
        file: its path, from the project.

    Raises:
        DataError: it is not there, or a line of it cannot be used.
    """
    path = folder / file
    if not path.exists():
        raise DataError(
            f"{path} is not there, which evaluate.labels names: correct a label in `fade serve`, or set "
            "evaluate.labels to null"
        )
    return read_labels(path)


def corrections(file: str | None) -> dict[str, bool]:
    """What :func:`named_labels` gives; nothing where ``evaluate.labels`` names no file."""
    return {} if file is None else named_labels(file)


def leaves_out(dataset: DatasetParams) -> bool:
    """Whether a run leaves out images of the data set on purpose, to which labels may belong."""
    return dataset.limit is not None or dataset.categories is not None


def check_images(labels: Iterable[str], known: Container[str], file: str) -> None:
    """Refuse labels of what is no test image.

    Args:
        labels: paths that the file names.
        known: paths of the test images.
        file: ``evaluate.labels``.

    Raises:
        DataError: naming the first of them.
    """
    unknown = [path for path in labels if path not in known]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise DataError(
            f"{file} has a label of {unknown[0]!r}{more}, which is no test image of this run: fix or "
            "remove that line, or set evaluate.labels to null"
        )


def corrected_tests(
    tests: pd.DataFrame, file: str | None, *, part: bool = False
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Test images with corrected labels, and what evaluation.json says of that.

    An image corrected to good has no defect pixel, whatever its mask says. One corrected to anomalous is
    of the kind :data:`CORRECTED`; it has no mask, and so no part in pixel metrics. A label that says what
    the data set says changes nothing.

    Args:
        tests: with ``path``, ``category``, ``defect``, ``is_anomaly``, ``mask`` and ``mask_hash``.
        file: ``evaluate.labels``; None leaves all as it is.
        part: whether :func:`leaves_out` says so: labels of other images are then counted alone.

    Returns:
        The images; and under ``corrected_labels`` the file, how many labels it has, how many of them
        are not those of the data set, by category, and how many are of images outside the run, if any.

    Raises:
        DataError: the file cannot be used, or names an image that is no test image of the run.
    """
    if file is None:
        return tests, {}
    labels = named_labels(file)
    rows = tests["path"].isin(list(labels)).to_numpy(bool)
    known = set(tests["path"][rows])
    if not part:
        check_images(labels, known, file)
    given = tests["is_anomaly"].astype(object).where(tests["is_anomaly"].notna(), None)
    is_anomaly, defect, mask, mask_hash = (
        np.array(column, object)
        for column in (given, tests["defect"], tests["mask"], tests["mask_hash"])
    )
    changed: Counter[str] = Counter()
    for row in np.flatnonzero(rows).tolist():
        label, before = labels[str(tests["path"].iat[row])], is_anomaly[row]
        if before is not None and bool(before) == label:
            continue
        changed[str(tests["category"].iat[row])] += 1
        is_anomaly[row], defect[row] = label, CORRECTED if label else GOOD
        if not label:
            mask[row] = mask_hash[row] = None
    found = tests.assign(is_anomaly=is_anomaly, defect=defect, mask=mask, mask_hash=mask_hash)
    about: dict[str, Any] = {"file": file, "labels": len(labels), "changed": dict(changed)}
    if left := len(labels) - len(known):
        about["left_out"] = left
    return found, {"corrected_labels": about}


def correction_warnings(remark: dict[str, Any]) -> list[str]:
    """What to tell people of the labels that :func:`corrected_tests` changed.

    >>> correction_warnings({"corrected_labels": {"file": "a.csv", "changed": {"cable": 2}}})
    ['2 labels are those of a.csv and not of the data set (cable 2): all results of labels follow a.csv']
    """
    about = remark.get("corrected_labels", {})
    changed, left, found = about.get("changed", {}), about.get("left_out", 0), []
    if changed:
        named = ", ".join(f"{name} {count}" for name, count in list(changed.items())[:_NAMED])
        more = (
            f" and {counted(len(changed) - _NAMED, 'more category')}"
            if len(changed) > _NAMED
            else ""
        )
        count = sum(changed.values())
        which = "label is that" if count == 1 else "labels are those"
        found.append(
            f"{count} {which} of {about['file']} and not of the data set ({named}{more}): all results of "
            f"labels follow {about['file']}"
        )
    if left:
        found.append(
            f"{counted(left, 'label')} of {about['file']} {'is' if left == 1 else 'are'} of no test "
            "image of this run, which dataset.limit or dataset.categories makes smaller"
        )
    return found
