"""The further metrics of each category and trial, as soon as its last image is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fade.further_metrics import AUPIMO, au_pro_name, au_spro_names, further_pixel_metrics
from fade.metrics import PixelHistogram, au_pro, pixel_metrics, values_and_reasons
from fade.pimo import Pimo, aupimo
from fade.rates import PIXEL_RATES, pixel_rates
from fade.replicates import LevelShares, Replicates, mean_replicates
from fade.types import GOOD, CategoryTrial
from pipeline.config.schema import Params
from pipeline.evaluation.groups import drawn_names
from pipeline.evaluation.tally import ALL, Tally
from pipeline.evaluation.thresholds import Threshold, best_level

if TYPE_CHECKING:
    import pandas as pd

PixelLevel = Callable[[CategoryTrial, PixelHistogram], int | None]
"""The declared threshold on levels of a category and trial."""
NO_MASK = "no test image with a known mask"


@dataclass(frozen=True)
class Further:
    """What one category and trial has beside the metrics of its histogram.

    Attributes:
        values, reasons: AUPIMO, and AU-sPRO of MVTec LOCO.
        kinds: pixel metrics by defect kind, each of the images of that kind and all good ones; undefined
            ones are NaN.
        pimo: AUPIMO of each anomalous image, with ``path``, ``defect``, ``aupimo``, ``low`` and ``high``.
        replicates: pixel metrics in each bootstrap sample, (samples,), where they are wanted and defined.
    """

    values: dict[str, float]
    reasons: dict[str, str]
    kinds: dict[str, dict[str, float]] = field(default_factory=dict)
    pimo: pd.DataFrame | None = None
    replicates: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def without_masks(cls, params: Params) -> Further:
        """Of a category in which no image has a known mask."""
        names = (AUPIMO, *au_spro_names(spro_limits(params)))
        return cls(dict.fromkeys(names, float("nan")), dict.fromkeys(names, NO_MASK))


def declared_levels(thresholds: Iterable[Threshold]) -> PixelLevel:
    """The levels that thresholds declare."""
    known = {(found.category, found.trial): found.pixel for found in thresholds}
    return lambda place, histogram: known.get(place)


def best_level_of(place: CategoryTrial, histogram: PixelHistogram) -> int | None:
    """The level that labels declare."""
    return best_level(histogram)


def spro_limits(params: Params) -> tuple[float, ...]:
    """The limits of AU-sPRO; none unless the data set says when a defect counts as found."""
    return params.evaluate.pro_limits if params.dataset.format == "mvtec-loco" else ()


class Gathering:
    """Adds up tallies, and measures a category once all of its images are there.

    Args:
        categories: of all images that will come.
        level: the declared thresholds.
    """

    def __init__(self, categories: Iterable[str], params: Params, level: PixelLevel) -> None:
        self.found: dict[CategoryTrial, Further] = {}
        self._left = Counter(categories)
        self._running: dict[CategoryTrial, Tally] = {}
        self._replicates: dict[CategoryTrial, dict[str, Replicates]] = {}
        self._params, self._level = params, level

    def add(self, tallies: Mapping[CategoryTrial, Tally], categories: Iterable[str]) -> None:
        """Add what some images gave.

        Args:
            tallies: of those with a known mask.
        """
        for place, tally in tallies.items():
            self._running.setdefault(place, Tally()).merge(tally)
            self._resample(place, tally)
        done = Counter(categories)
        self._left -= done
        for place in [place for place in self._running if place[0] in done]:
            if place[0] not in self._left:
                tally, replicates = self._running.pop(place), self._replicates.pop(place, {})
                self.found[place] = measure(tally, place, self._params, self._level, replicates)

    def _resample(self, place: CategoryTrial, tally: Tally) -> None:
        kinds = self._replicates.setdefault(place, {})
        of_kind = attrgetter("kind")
        for kind, samples in groupby(sorted(tally.samples, key=of_kind), key=of_kind):
            names, rows, regions = zip(
                *((one.name, one.rows, one.regions) for one in samples), strict=True
            )
            if kind not in kinds:
                kinds[kind] = Replicates.empty(self._params.evaluate.intervals, rows[0].shape[1])
            kinds[kind].add(names, np.stack(rows), regions)


def measure(
    tally: Tally,
    place: CategoryTrial,
    params: Params,
    level: PixelLevel,
    replicates: Mapping[str, Replicates] | None = None,
) -> Further:
    """The further metrics of a category and trial.

    Args:
        tally: of all its images with a known mask.
        level: the declared thresholds.
        replicates: of its images by kind, see :class:`~pipeline.evaluation.tally.Sample`, where intervals
            are wanted.
    """
    images = [levels for _, _, levels in tally.defects]
    reason = tally.shared.undefined() if images else "no defect pixel"
    pimo = [] if reason else aupimo(tally.shared, images)
    found: dict[str, float | str] = {
        AUPIMO: reason or float(np.mean([image.value for image in pimo]))
    }
    total = sum(tally.kinds.values(), PixelHistogram.empty(_levels(tally)))
    declared = level(place, total)
    kinds = {
        kind: _kind_metrics(tally, kind, params, declared) for kind in tally.kinds if kind != GOOD
    }
    limits = spro_limits(params)
    for name in au_spro_names(limits):
        known = [values[name] for values in kinds.values() if np.isfinite(values[name])]
        regions = any(of_kind.regions for of_kind in tally.saturated.values())
        lacking = tally.lacking or ("no normal pixel" if regions else "no defect pixel")
        found[name] = float(np.mean(known)) if known and not tally.lacking else lacking
    by_image = zip(tally.defects, pimo, strict=True) if pimo else ()
    rows = [(path, kind, one) for (path, kind, _), one in by_image]
    for kind, values in kinds.items():
        of_kind = [one.value for _, name, one in rows if name == kind]
        values[AUPIMO] = float(np.mean(of_kind)) if of_kind else float("nan")
    resampled = {}
    if replicates:
        values = _pixel_metrics(total, params, declared)
        above = None if declared is None else LevelShares.of(total, declared)
        resampled = replicates[ALL].metrics(params.evaluate.pro_limits, above, values)
        if rows:
            names = drawn_names([path for path, _, _ in rows], params.evaluate.group)
            of_images = [one.value for _, _, one in rows]
            resampled[AUPIMO] = mean_replicates(names, of_images, params.evaluate.intervals)
        if limits and not tally.lacking:
            resampled |= _spro_replicates(replicates, kinds, limits)
    return Further(*values_and_reasons(found), kinds, _pimo_table(rows), resampled)


def _pimo_table(rows: Sequence[tuple[str, str, Pimo]]) -> pd.DataFrame:
    """Path, kind and AUPIMO of images in a fifth of the memory: those of all categories are kept."""
    import pandas as pd

    columns = {
        "path": [path for path, _, _ in rows],
        "defect": pd.Categorical([kind for _, kind, _ in rows]),
        "aupimo": [one.value for _, _, one in rows],
        "low": [one.low for _, _, one in rows],
        "high": [one.high for _, _, one in rows],
    }
    return pd.DataFrame(columns)


def _spro_replicates(
    replicates: Mapping[str, Replicates],
    kinds: Mapping[str, Mapping[str, float]],
    limits: Sequence[float],
) -> dict[str, NDArray[np.float64]]:
    """AU-sPRO in each bootstrap sample: the mean over the defect kinds that have it."""
    # AU-sPRO is AUPRO of saturated overlaps
    plain_names = ("full_pixel_au_pro", *map(au_pro_name, limits[1:]))
    names = dict(zip(plain_names, au_spro_names(limits), strict=True))
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for kind, values in kinds.items():
        if kind not in replicates:  # no image of it has a defect pixel
            continue
        of_kind = replicates[kind]
        joined = of_kind + replicates[GOOD] if GOOD in replicates else of_kind
        exact = {plain: values[name] for plain, name in names.items()}
        for plain, samples in joined.metrics(limits, None, exact).items():
            parts.setdefault(names[plain], []).append(samples)
    return {name: np.mean(samples, axis=0) for name, samples in parts.items()}


def _pixel_metrics(
    histogram: PixelHistogram, params: Params, declared: int | None
) -> dict[str, float]:
    """The metrics that a histogram and a threshold tell; undefined ones are NaN."""
    limits = params.evaluate.pro_limits
    values = pixel_metrics(histogram, limits[0])[0] | further_pixel_metrics(histogram, limits)[0]
    nothing = dict.fromkeys(PIXEL_RATES, float("nan"))
    return values | (nothing if declared is None else pixel_rates(histogram, declared)[0])


def _levels(tally: Tally) -> int:
    return next((len(histogram.normal) for histogram in tally.kinds.values()), 256)


def _kind_metrics(
    tally: Tally, kind: str, params: Params, declared: int | None
) -> dict[str, float]:
    good = tally.kinds.get(GOOD) or PixelHistogram.empty(_levels(tally))
    histogram = good + tally.kinds[kind]
    values = _pixel_metrics(histogram, params, declared)
    spro = spro_limits(params)
    saturated = good + tally.saturated.get(kind, PixelHistogram.empty(_levels(tally)))
    known = saturated.regions and saturated.normal.any()
    for name, limit in zip(au_spro_names(spro), spro, strict=True):
        values[name] = au_pro(saturated, limit) if known else float("nan")
    return values
