"""What a reader of the metrics must know of a data set: twins, odd masks, files that nobody reads."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache.keys import Keys
from fade.datasets.labels import meaning
from fade.datasets.tree import almost_named
from fade.errors import counted, summarise
from fade.types import GOOD, DataPath
from pipeline.artefacts.tables import table_parts
from pipeline.dataset.pixel_remarks import PixelRemarks


class Remarks:
    """What a reader of the metrics must know of the data, gathered row by row.

    Args:
        exif_rotation: whether images and masks are turned as their camera says.
    """

    def __init__(self, exif_rotation: bool = False) -> None:
        self._pixels = PixelRemarks(exif_rotation)
        self.rows = self.tests = self.unmasked = self.unlabelled = 0
        self.categories: dict[str, int] = {}
        self._kinds: dict[str, dict[str, int]] = {}
        self._empty: list[str] = []
        self._filled: list[str] = []
        self._at_odds: list[str] = []
        self._keys: list[Keys] = []
        self._category, self._test = array("I"), array("B")
        self._anomaly, self._labelled = array("B"), array("B")
        self._masks, self._masked = array("q"), array("I")
        self._images, self._unused = array("q"), array("q")

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take some rows in."""
        self._keys.append(Keys.of(row["hash"] for row in rows))
        for row in rows:
            category, path = row["category"], row["path"]
            self._pixels.add(row)
            self._images.append(hash(path))
            test, anomaly = row["split"] == "test", row["is_anomaly"]
            self._category.append(self.categories.setdefault(category, len(self.categories)))
            self._test.append(test)
            self._anomaly.append(bool(anomaly))
            self._labelled.append(anomaly is not None)
            self.rows += 1
            self.tests += test
            self.unlabelled += anomaly is None
            if test and anomaly is not None:
                kinds = self._kinds.setdefault(category, {})
                kinds[row["defect"]] = kinds.get(row["defect"], 0) + 1
            self.unmasked += bool(test and anomaly) and row["mask"] is None
            if anomaly and row["marked"] is False:
                self._empty.append(row["mask"])
            if not anomaly and row["marked"]:
                self._filled.append(row["unused_mask"])
            if row["mask"] is not None:
                self._masks.append(hash(row["mask"]))
                self._masked.append(self.rows - 1)
            elif row["unused_mask"] is not None:
                self._unused.append(hash(row["unused_mask"]))
            folder = path.split("/")[-2] if "/" in path else ""
            if (
                test
                and anomaly is not None
                and {_says(folder), _says(row["defect"])} - {None, anomaly}
            ):
                self._at_odds.append(f"{path} is labelled {row['defect']!r}")

    def lines(self, table: Path) -> Iterator[str]:
        """The remarks, one line each.

        Args:
            table: of the rows, in the order in which they were taken in.
        """
        leaked, shared, torn, repeated = self._duplicates()
        masked = np.frombuffer(self._masked, np.uintc)
        several = [masked[rows].tolist() for rows in _equal(np.frombuffer(self._masks, np.int64))]
        masks = np.frombuffer(self._masks + self._unused, np.int64)
        listed = np.isin(np.frombuffer(self._images, np.int64), masks)
        images = [[int(row)] for row in np.flatnonzero(listed)]
        groups = (*leaked, *shared, *torn, *repeated, *several, *images)
        paths = _paths(table, [row for group in groups for row in group])

        def told(groups: Sequence[Sequence[int]]) -> str:
            return summarise([" = ".join(paths.get(r, "") for r in rows) for rows in groups])

        for rows, noun, verb, what in (
            (leaked, "test image", "is", "among the training images too, so that scores flatter"),
            (shared, "image", "lies", "in more than one category"),
            (torn, "test image", "is", "labelled both good and defect"),
            (repeated, "training image", "is",
             "there more than once in one category, counted as several shots"),
            (several, "mask", "is", "given to more than one image"),
            (images, "image", "is", "listed as the mask of another one, too"),
        ):  # fmt: skip
            if rows:
                yield f"{counted(len(rows), noun, verb)} {what}: {told(rows)}"
        yield from _without_good(self._kinds)
        for found, noun, verb, what in (
            (self._empty, "defect image", "has", "a mask without a defect pixel"),
            (self._filled, "good image", "has", "a mask with defect pixels, which is not used"),
            (self._at_odds, "label", "disagrees", "with the image's folder"),
        ):
            if found:
                yield f"{counted(len(found), noun, verb)} {what}: {summarise(found)}"
        yield from self._pixels.lines()

    def _duplicates(self) -> tuple[list[list[int]], ...]:
        """Rows of equal images: each test image with its training image, then those that lie in
        several categories, then test images with both labels, then training images of one category.
        """
        leaked, shared, torn, repeated = [], [], [], []
        test, anomaly = np.frombuffer(self._test, bool), np.frombuffer(self._anomaly, bool)
        labelled = np.frombuffer(self._labelled, bool)
        category = np.frombuffer(self._category, np.uintc)
        for rows in _equal(Keys.join(self._keys).data):
            tests, train = rows[test[rows]], rows[~test[rows]]
            if len(train):
                leaked += [[int(row), int(train[-1])] for row in tests]
            if (category[rows] != category[rows[0]]).any():
                shared.append(rows.tolist())
            known = tests[labelled[tests]]
            if len(known) and anomaly[known].any() and not anomaly[known].all():
                torn.append(tests.tolist())
            of_category = (train[category[train] == own] for own in np.unique(category[train]))
            repeated += [own.tolist() for own in of_category if len(own) > 1]
        return sorted(leaked), sorted(shared), sorted(torn), sorted(repeated)


def _equal(values: np.ndarray) -> Iterator[np.ndarray]:
    """Places of equal values, for each value that is there more than once.

    Few of a million are Python objects.
    """
    order = np.argsort(values, kind="stable")
    again = np.zeros(len(order) + 1, bool)
    again[1:-1] = values[order[1:]] == values[order[:-1]]
    # runs of equal values: where one starts and ends
    starts = np.flatnonzero(~again[:-1] & again[1:])
    stops = np.flatnonzero(again[:-1] & ~again[1:]) + 1
    for start, stop in zip(starts, stops, strict=True):
        yield order[start:stop]


def _paths(table: Path, rows: Sequence[int]) -> dict[int, str]:
    """Paths of some rows of the manifest."""
    wanted = np.unique(np.array(rows, np.int64))
    found: dict[int, str] = {}
    start = 0
    for part in table_parts(table, ["path"]) if len(wanted) else ():
        stop = start + len(part["path"])
        low, high = np.searchsorted(wanted, (start, stop))
        for row in wanted[low:high].tolist():
            found[row] = part["path"][row - start].as_py()
        start = stop
    return found


def _says(name: str) -> bool | None:
    """Whether a folder's or defect's name says that there is a defect; None where it says neither."""
    return {"good": False, "defect": True}.get(meaning(name))


def misnamed_folders(root: DataPath, categories: Sequence[str]) -> Iterator[str]:
    """A line for folders whose names are almost those that a layout in folders looks for."""
    if misnamed := almost_named(root, categories):
        yield (
            f"{counted(len(misnamed), 'folder', 'is')} not read, called almost, but not, train, test or "
            f"ground_truth: {summarise(misnamed)}"
        )


def _without_good(tests: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """A line for each category with several kinds of test images, none of which is good."""
    for category, kinds in tests.items():
        if len(kinds) > 1 and GOOD not in kinds:
            yield (
                f"{category}: no test image is labelled good, so that image metrics are undefined; if "
                f"one of {', '.join(map(repr, list(kinds)[:10]))} means good, rename it to good"
            )
