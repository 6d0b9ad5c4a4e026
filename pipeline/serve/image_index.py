"""All test images of a run in columns: filtered, sorted and counted without a row at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fade.errors import ParameterError, StoreError, first_line
from fade.types import Trial
from pipeline.evaluation.thresholds import Threshold, best_threshold
from pipeline.serve.kept import kept

if TYPE_CHECKING:
    import pyarrow as pa

Sort = Literal["highest", "lowest", "nearest", "order"]
"""By score from either end, by distance to the threshold, or in the data set's order."""
DecisionFilter = Literal["anomalous", "normal", "none"]
LabelFilter = Literal["good", "anomalous", "unknown", "corrected"]
Page = tuple[int, int] | None
"""Places from the first up to the second that need to be in order, as sorting a million takes long."""
UNKNOWN = -1
"""Label of an image that has none."""
BINS = 40
STEP, SEARCHED = 2048, 1 << 18
"""Rows that are put in order at a time, and paths that a thread searches at a time."""
COLUMNS = ("path", "category", "defect", "is_anomaly", "shots", "seed", "score")


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Which images are asked for; None asks for all.

    Attributes:
        category, defect: names.
        decision: what the threshold says of them.
        label: what they are, or whether a person corrected that.
        disagreement: whether decision and label differ.
        text: that is part of their path.
    """

    category: str | None = None
    defect: str | None = None
    decision: DecisionFilter | None = None
    label: LabelFilter | None = None
    disagreement: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class ThresholdCounts:
    """How a threshold divides the images of a category.

    Attributes:
        images: with a score.
        called: above the threshold.
        good, false_alarms: labelled good, and those of them above it.
        anomalous, missed: labelled anomalous, and those of them not above it.
        unlabelled: without a label.
    """

    images: int
    called: int
    good: int
    false_alarms: int
    anomalous: int
    missed: int
    unlabelled: int


class ImageIndex:
    """The test images of a run.

    Args:
        table: of :data:`COLUMNS`: trial by trial, images in one order.
        categories: names of the run's; those that have no test image come last.

    Raises:
        StoreError: the trials are not of the same images.

    Attributes:
        paths: arrow array (n,) of paths in the data set.
        categories, defects: their names; ``category`` and ``defect`` (n,) hold positions in them.
        given: labels (n,) of the data set: 1 anomalous, 0 good, :data:`UNKNOWN`.
        labels: the same with corrections.
        scores: (n,) by trial, NaN where there is none.
    """

    def __init__(self, table: pa.Table, categories: Sequence[str] = ()) -> None:
        trials, count = _trials(table)
        first = table.slice(0, count).combine_chunks()
        self.paths = _joined(first["path"])
        names, self.category = _coded(first["category"])
        self.categories = tuple(dict.fromkeys([*names, *categories]))
        self.defects, self.defect = _coded(first["defect"])
        self._numbers = {name: number for number, name in enumerate(self.categories)}
        self._codes = {name: code for code, name in enumerate(self.defects)}
        self.given = _labels(first["is_anomaly"])
        self.labels = self.given.copy()
        scores = table["score"].to_numpy()
        self.scores = {trial: scores[n * count : (n + 1) * count] for n, trial in enumerate(trials)}
        for n in range(1, len(trials)):
            if not table["path"].slice(n * count, count).equals(table["path"].slice(0, count)):
                raise StoreError(
                    "results/scores.parquet has other images in one trial than in another: run "
                    "`fade run --force evaluate`"
                )
        self._by_category = np.argsort(self.category, kind="stable")
        self._starts = np.searchsorted(
            self.category[self._by_category], np.arange(len(self.categories) + 1)
        )
        self._sorted = kept(4096, self._sort)
        self._measured = kept(4096, self._measure)
        self._selected = kept(8, self._select)

    def __len__(self) -> int:
        return len(self.category)

    @classmethod
    def open(cls, path: Path, categories: Sequence[str] = ()) -> ImageIndex:
        """Read ``scores.parquet``.

        Raises:
            StoreError: missing, damaged, or the trials are not of the same images.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(
                path, columns=list(COLUMNS), read_dictionary=["category", "defect"]
            )
        except FileNotFoundError:
            raise StoreError(f"{path} is missing: run `fade run`") from None
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            reason = first_line(error)
            raise StoreError(f"{path} cannot be read ({reason}): run `fade run`") from None
        return cls(table, categories)

    def path(self, row: int) -> str:
        """The path of an image in the data set."""
        return str(self.paths[row].as_py())

    def category_number(self, name: str) -> int:
        """The position of a category's name.

        Raises:
            ParameterError: there is none such.
        """
        return _position(self._numbers, name, "category")

    def limits(
        self, trial: Trial, thresholds: Mapping[tuple[str, Trial], Threshold]
    ) -> NDArray[np.float64]:
        """The thresholds (categories,) of a trial, NaN where there is none."""
        found = (thresholds.get((name, trial)) for name in self.categories)
        images = [None if one is None else one.image for one in found]
        return np.array(images, float)  # in which None is NaN

    def select(
        self,
        trial: Trial,
        wanted: ImageFilter,
        sort: Sort,
        limits: NDArray[np.float64],
        page: Page = None,
    ) -> NDArray[np.intp]:
        """The rows (m,) of the images that a filter asks for, sorted: those of a page at least.

        Args:
            limits: thresholds (categories,), NaN where there is none.
        """
        steps = None if page is None else (page[0] // STEP * STEP, -(-page[1] // STEP) * STEP)
        return self._selected(trial, wanted, sort, limits.tobytes(), steps)

    def _select(
        self, trial: Trial, wanted: ImageFilter, sort: Sort, limits: bytes, page: Page
    ) -> NDArray[np.intp]:
        scores, limit = self.scores[trial], np.frombuffer(limits)[self.category]
        keep: NDArray[np.bool_] | None = None

        def demand(condition: NDArray[np.bool_]) -> None:
            nonlocal keep
            keep = condition if keep is None else keep & condition

        if wanted.category is not None:
            demand(self.category == self.category_number(wanted.category))
        if wanted.defect is not None:
            demand(self.defect == _position(self._codes, wanted.defect, "defect"))
        if wanted.decision is not None or wanted.disagreement:
            decided = ~(np.isnan(scores) | np.isnan(limit))
            above = scores > limit
        if wanted.decision is not None:
            said = {"anomalous": above, "normal": decided & ~above, "none": ~decided}
            demand(said[wanted.decision])
        if wanted.label == "corrected":
            demand(self.labels != self.given)
        elif wanted.label is not None:
            demand(self.labels == {"good": 0, "anomalous": 1, "unknown": UNKNOWN}[wanted.label])
        if wanted.disagreement:
            demand(decided & (self.labels != UNKNOWN) & (above != (self.labels == 1)))
        if wanted.text:
            demand(self._holds(wanted.text))
        rows = np.arange(len(self)) if keep is None else np.flatnonzero(keep)
        if sort == "order":
            return rows
        values = scores if keep is None else scores[rows]
        if sort == "nearest":
            values = np.abs(values - (limit if keep is None else limit[rows]))
        elif sort == "highest":
            values = -values
        return _rising(values, page) if keep is None else rows[_rising(values, page)]

    def counts(self, trial: Trial, category: str, threshold: float | None) -> ThresholdCounts:
        """How a threshold divides the images of a category; None calls none anomalous."""
        number = self.category_number(category)
        unknown, good, bad = self._sorted(trial, number)
        limit = np.inf if threshold is None else threshold
        above = [
            len(values) - int(np.searchsorted(values, limit, side="right"))
            for values in (unknown, good, bad)
        ]
        return ThresholdCounts(
            images=len(unknown) + len(good) + len(bad),
            called=sum(above),
            good=len(good),
            false_alarms=above[1],
            anomalous=len(bad),
            missed=0 if threshold is None else len(bad) - above[2],
            unlabelled=len(unknown),
        )

    def histogram(self, trial: Trial, category: str) -> dict[str, Any]:
        """The range of a category's scores, and how many of each label lie in each of 40 parts of it."""
        number = self.category_number(category)
        values = self._sorted(trial, number)
        known = np.concatenate(values)
        if not len(known):
            return {"low": 0.0, "high": 1.0, "good": [], "anomalous": [], "unlabelled": []}
        low, high = float(known.min()), float(known.max())
        high = high if high > low else low + 1e-6
        parts = [np.histogram(one, BINS, (low, high))[0].tolist() for one in values]
        return {
            "low": low, "high": high,
            "unlabelled": parts[0], "good": parts[1], "anomalous": parts[2],
        }  # fmt: skip

    def measures(self, trial: Trial, category: str) -> tuple[float | None, float | None]:
        """AUROC and the threshold of the best F1 on a category's labels; None unless it has both."""
        return self._measured(trial, self.category_number(category))

    def size(self, category: str) -> int:
        """How many images a category has."""
        number = self.category_number(category)
        return int(self._starts[number + 1] - self._starts[number])

    def kinds(self, category: str | None) -> list[str]:
        """The kinds of defect that occur in a category, or in any."""
        if category is None:
            return sorted(self.defects)
        codes = np.unique(self.defect[self._rows(self.category_number(category))])
        return sorted(self.defects[code] for code in codes)

    def take_given(self, column: pa.ChunkedArray) -> None:
        """Take the data set's labels (n,) where the scores have corrected ones."""
        self.given = _labels(column)
        self.labels = self.given.copy()
        self._forget()

    def correct(self, row: int, label: bool | None) -> None:
        """Label an image otherwise; None gives it the data set's label again."""
        self.labels[row] = self.given[row] if label is None else int(label)
        self._forget()

    def correct_all(self, labels: Mapping[str, bool]) -> int:
        """Replace all corrections by these, by path; how many of them are of no image here."""
        import pyarrow as pa
        import pyarrow.compute as pc

        corrected, unknown = self.given.copy(), 0
        if labels:
            names = pa.array(list(labels), self.paths.type)
            found = pc.is_in(self.paths, value_set=names).to_numpy(zero_copy_only=False)
            paths = {int(row): self.path(int(row)) for row in np.flatnonzero(found)}
            for row, path in paths.items():
                corrected[row] = int(labels[path])
            unknown = len(labels) - len(set(paths.values()))
        if not np.array_equal(corrected, self.labels):
            self.labels = corrected
            self._forget()
        return unknown

    def _forget(self) -> None:
        """Forget what rests on labels."""
        for known in (self._sorted, self._measured, self._selected):
            known.cache_clear()

    def _rows(self, number: int) -> NDArray[np.intp]:
        return self._by_category[self._starts[number] : self._starts[number + 1]]

    def _sort(self, trial: Trial, number: int) -> tuple[NDArray[np.float64], ...]:
        """Scores of a category by label (unknown, good, anomalous), each sorted; those there are."""
        rows = self._rows(number)
        scores, labels = self.scores[trial][rows], self.labels[rows]
        known = ~np.isnan(scores)
        return tuple(np.sort(scores[known & (labels == label)]) for label in (UNKNOWN, 0, 1))

    def _measure(self, trial: Trial, number: int) -> tuple[float | None, float | None]:
        _, good, bad = self._sorted(trial, number)
        scores = np.concatenate([good, bad])
        labels = np.repeat([False, True], [len(good), len(bad)])
        if not len(good) or not len(bad):
            return None, None
        # the share of pairs in which the anomalous image has the higher score, ties half
        below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
        return float(below.sum() / (2 * len(good) * len(bad))), best_threshold(scores, labels)

    @cached_property
    def _lowered(self) -> pa.Array:
        import pyarrow.compute as pc

        return pc.ascii_lower(self.paths)

    def _holds(self, text: str) -> NDArray[np.bool_]:
        """Whether each path holds a text; capitals in it count, where it has some."""
        import pyarrow.compute as pc

        small = text == text.lower() != text.upper()  # without letters the paths do as they are
        paths = self._lowered if small else self.paths
        parts = [paths.slice(at, SEARCHED) for at in range(0, max(len(paths), 1), SEARCHED)]
        with ThreadPoolExecutor() as threads:  # arrow searches without the interpreter's lock
            found = threads.map(lambda part: pc.match_substring(part, text), parts)
            return np.concatenate([part.to_numpy(zero_copy_only=False) for part in found])


def _rising(values: NDArray[np.float64], page: Page) -> NDArray[np.intp]:
    """Positions of values (n,) from the lowest to the highest, NaN last: those of a page at least."""
    values = np.where(np.isnan(values), np.inf, values)
    last = len(values) - 1
    if page is None or last <= page[1] - page[0]:
        return np.argsort(values, kind="stable")
    ends = [min(end, last) for end in page]
    low, high = (np.partition(values, end)[end] for end in ends)  # both at once take longer
    inside = np.flatnonzero((values >= low) & (values <= high))
    inside = inside[np.argsort(values[inside], kind="stable")]
    return np.concatenate([np.flatnonzero(values < low), inside, np.flatnonzero(values > high)])


def _trials(table: pa.Table) -> tuple[list[Trial], int]:
    """The trials of the rows, and how many images each has."""
    shots, seeds = table["shots"].to_numpy(), table["seed"].to_numpy()
    if not len(shots):
        return [], 0
    ends = np.flatnonzero((shots[1:] != shots[:-1]) | (seeds[1:] != seeds[:-1])) + 1
    starts = np.array([0, *ends])
    sizes = np.diff([*starts, len(shots)])
    trials = [Trial(int(shots[at]), int(seeds[at])) for at in starts]
    if len(set(trials)) < len(trials) or len(set(sizes.tolist())) > 1:
        raise StoreError(
            "results/scores.parquet does not hold trial by trial the same images: run "
            "`fade run --force evaluate`"
        )
    return trials, int(sizes[0])


def _joined(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    chunks = column.combine_chunks()
    return chunks if isinstance(chunks, pa.Array) else pa.concat_arrays(chunks.chunks)


def _coded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Names by first appearance, and for each row the position of its name."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    coded = _joined(column.unify_dictionaries())
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return tuple(str(name) for name in coded.dictionary.to_pylist()), codes


def _labels(column: pa.ChunkedArray) -> NDArray[np.int8]:
    import pyarrow.compute as pc

    return np.array(pc.fill_null(pc.cast(column, "int8"), UNKNOWN).to_numpy(), np.int8)


def _position(numbers: Mapping[str, int], name: str, what: str) -> int:
    if name not in numbers:
        raise ParameterError(f"there is no {what} {name!r} in this run")
    return numbers[name]
