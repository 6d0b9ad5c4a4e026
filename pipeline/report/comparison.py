"""Two runs side by side: the metrics of one against those of another, and how sure differences are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import DataError, summarise
from fade.uncertainty import IMAGE_METRICS, bootstrap_p_value, percentile_interval
from pipeline.report.intervals import categories_by_shots, read_scores
from pipeline.report.labels import metric_label
from pipeline.report.pairing import UNPAIRED, Paired, pair_scores, paired_tests
from pipeline.report.plots import MEAN, UNDEFINED
from pipeline.report.rendering import escape_markdown, markdown_line
from pipeline.report.replicates import read_samples, sample_differences
from pipeline.report.sameness import read_run, unlike
from pipeline.report.summary import DEFAULT_METRICS, check_metrics, find_summary, read_summary

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Difference:
    """One metric of a category at so many shots in two runs, as shares of 1.

    Attributes:
        a, b: means over seeds; None where a run has none.
        paired: how sure the difference is; None where the images' scores do not tell.
        alike: whether both are of the same categories; if not, there is no difference.
    """

    metric: str
    category: str
    shots: int
    a: float | None
    b: float | None
    paired: Paired | None = None
    alike: bool = True

    @property
    def change(self) -> float | None:
        """``b`` less ``a``."""
        if not self.alike or self.a is None or self.b is None:
            return None
        return self.b - self.a


def compare_runs(
    a: Path,
    b: Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    paired: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> list[Difference]:
    """Differences of two runs, found by their results folders, project folders or summaries.

    Where both have the scores of their images, differences of image metrics get a bootstrap interval
    and the p-value of a permutation test over the same images and seeds (:mod:`fade.uncertainty`).
    Where both have replicates, the others get both from these (:mod:`fade.replicates`).

    Args:
        a, b: places of the runs.
        metrics: names, in the order of the result.
        paired: whether images are paired.
        say: see :func:`~pipeline.report.pairing.paired_tests`.

    Raises:
        ParameterError, StoreError, DataError: as of :func:`compare`; with ``paired`` a DataError, too,
            where the runs have no category in common, are not of the same test images, masks, labels or
            seeds, or measure pixels at other sizes.
    """
    left, right = read_summary(a), read_summary(b)
    found = compare(left, right, metrics)
    if not paired:
        return found
    found = _of_same_categories(found)
    categories = [categories_by_shots(summary) for summary in (left, right)]
    if not any(set(names) & set(categories[1].get(n, ())) for n, names in categories[0].items()):
        raise DataError(f"the two runs have no category at as many shots in common ({UNPAIRED})")
    scores_a, scores_b = (read_scores(find_summary(place)) for place in (a, b))
    if scores_a is None or scores_b is None:
        return found
    same = {
        shots: names for shots, names in categories[0].items() if categories[1].get(shots) == names
    }
    pairs = pair_scores(scores_a, scores_b)
    first, second = (read_run(find_summary(place)) for place in (a, b))
    names = sorted({category for category, _ in scores_a.keys() & scores_b.keys()})
    if problems := unlike(first, second, names, pixels=any("_pixel_" in name for name in metrics)):
        raise DataError(
            f"the two runs did not measure the same: {summarise(problems)} ({UNPAIRED})"
        )
    tests = paired_tests(pairs, same, say=say)
    samples_a, samples_b = (
        read_samples(find_summary(place), of) for place, of in zip((a, b), categories, strict=True)
    )
    paired_places = [*(scores_a.keys() & scores_b.keys()), *((MEAN, shots) for shots in same)]
    for place, drawn in sample_differences(samples_a, samples_b, paired_places).items():
        tests.setdefault(place, Paired(*percentile_interval(drawn), bootstrap_p_value(drawn)))
    return [replace(row, paired=tests.get((row.metric, row.category, row.shots))) for row in found]


def _of_same_categories(found: Sequence[Difference]) -> list[Difference]:
    """The same rows; a mean over other categories in either run has no difference."""
    odd = {
        (row.metric, row.shots)
        for row in found
        if row.category != MEAN and (row.a is None) != (row.b is None)
    }
    return [
        replace(row, alike=row.category != MEAN or (row.metric, row.shots) not in odd)
        for row in found
    ]


def compare(
    a: pd.DataFrame, b: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS
) -> list[Difference]:
    """Differences by metric, category and shots, the means over categories last.

    Rows that only one of the runs has are kept.

    Args:
        a, b: rows of summary.csv.
        metrics: names, in the order of the result.

    Raises:
        ParameterError: a metric is unknown.
        StoreError: a summary lacks a column.
        DataError: neither run has any row.
    """
    check_metrics(a, metrics)
    check_metrics(b, metrics)
    if a.empty and b.empty:
        raise DataError("neither run has metrics: there is nothing to compare")
    found = []
    for metric in metrics:
        left, right = _means(a, metric), _means(b, metric)
        places = list(dict.fromkeys([*left, *right]))
        order = {one: n for n, one in enumerate(dict.fromkeys(category for category, _ in places))}
        places.sort(key=lambda place: (place[0] == MEAN, order[place[0]], place[1]))
        found += [Difference(metric, *place, left.get(place), right.get(place)) for place in places]
    return found


def _means(summary: pd.DataFrame, metric: str) -> dict[tuple[str, int], float | None]:
    rows = zip(summary["category"], summary["shots"], summary[f"{metric}_mean"], strict=True)
    return {
        (str(category), int(shots)): float(value) if isfinite(value) else None
        for category, shots, value in rows
    }


def comparison_markdown(differences: Sequence[Difference], a: str, b: str) -> str:
    """A Markdown table a metric, in percent; ``a`` and ``b`` name the runs."""
    parts = []
    for metric in dict.fromkeys(difference.metric for difference in differences):
        rows = [row for row in differences if row.metric == metric]
        tested = any(row.paired for row in rows)
        columns = ["category", "shots", escape_markdown(a), escape_markdown(b), "difference"]
        columns += ["95 % interval", "p"] if tested else []
        title = f"{metric_label(metric)} (%)"
        how = (
            "interval by bootstrap, p by permutation" if metric in IMAGE_METRICS else "by bootstrap"
        )
        lines = [
            f"{title}; {how}, over the same images." if tested else f"{title}.",
            "",
            markdown_line(columns),
            "| --- |" + " ---: |" * (len(columns) - 1),
        ]
        for row in rows:
            cells = [escape_markdown(row.category), str(row.shots), _text(row.a), _text(row.b)]
            cells += [_text(row.change, "+.1f"), *(_sure(row.paired) if tested else ())]
            lines.append(markdown_line(cells))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def comparison_json(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """The differences as JSON-like records, shares of 1; what is undefined is None."""
    left_out = ("paired", "alike")
    return [
        {
            **{name: value for name, value in asdict(row).items() if name not in left_out},
            "difference": row.change,
            "low": row.paired.low if row.paired else None,
            "high": row.paired.high if row.paired else None,
            "p_value": row.paired.p_value if row.paired else None,
        }
        for row in differences
    ]


def _sure(paired: Paired | None) -> tuple[str, str]:
    if paired is None:
        return UNDEFINED, UNDEFINED
    interval = f"{_text(paired.low, '+.1f')} to {_text(paired.high, '+.1f')}"
    return interval, f"{paired.p_value:.3f}"


def _text(share: float | None, form: str = ".1f") -> str:
    return UNDEFINED if share is None else format(100 * share, form)
