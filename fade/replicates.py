"""Bootstrap over images of the pixel metrics, from weighted histograms that add up as images come.

A replicate counts each image as often as a Poisson variable of mean 1 says, which a hash of the image's
name gives: no draw needs to know the other images, any order gives the same, and two runs on the same
images have the same draws, so that their differences are paired. Good and anomalous images are
strata: the counts of each are scaled to as many images as there are. Sources: B. Efron, R. Tibshirani,
An Introduction to the Bootstrap (1993), section 13.3; N. Chamandy, O. Muralidharan, A. Najmi, S. Naidu,
Estimating Uncertainty for Massive Data Streams (Google, 2012), Poisson counts in place of draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fade.further_metrics import PIXEL_AP, au_pro_name
from fade.level_counts import LevelCounts
from fade.metrics import METRIC_NAMES, PixelHistogram
from fade.rates import IMAGE_RATES, PIXEL_RATES

MAX_LEVELS = 1024
"""Levels of the histograms of replicates, at most."""

_PIECE = 4096
"""Images whose weights are held at once."""
_SHARES = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(13)])
_Floats = NDArray[np.float64]


def image_weights(name: str, replicates: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each replicate counts an image, (replicates,): more replicates begin with the same ones.

    Args:
        name: of the image, the same in runs that are to be paired.
        replicates: how many.
        seed: of the hash.

    Examples:
        >>> image_weights("a", 4).tolist() == image_weights("a", 8).tolist()[:4]
        True
    """
    text = f"{seed} {name}".encode("utf-8", "surrogateescape")
    drawn = np.frombuffer(hashlib.shake_256(text).digest(4 * replicates), "<u4") / 2.0**32
    return np.searchsorted(_SHARES, drawn, side="right")


def coarse_rows(image: LevelCounts) -> _Floats:
    """The counts of one image in at most 1,024 levels, (4, levels).

    Rows are the normal pixels of a good image, those of an image with a defect, its defect pixels, and
    the summed shares of its regions.

    Examples:
        >>> from fade.level_counts import LevelCounts
        >>> from fade.regions import label_regions
        >>> regions = label_regions(np.array([[True, False, False]]))
        >>> image = LevelCounts.of_image(np.array([[255, 0, 0]], np.uint8), regions)
        >>> coarse_rows(image).sum(axis=1).tolist()
        [0.0, 2.0, 1.0, 1.0]
    """
    width = max(image.size // MAX_LEVELS, 1)
    rows = np.zeros((4, image.size // width))
    places = image.levels // width
    normal = np.bincount(places, image.normal, rows.shape[1])
    if not image.anomalous.any():
        rows[0] = normal
        return rows
    pro = np.zeros(image.size)
    pro[image.levels] = image.pro
    rows[1:] = (
        normal,
        np.bincount(places, image.anomalous, rows.shape[1]),
        pro.reshape(-1, width).sum(axis=1),
    )
    return rows


@dataclass(frozen=True, slots=True)
class LevelShares:
    """What is above a threshold, in coarse levels: all above ``level``, and a share of it itself.

    Attributes:
        level: the coarse level that the threshold is in.
        normal, anomalous: the shares of its normal and of its defect pixels, of all images together.

    Examples:
        >>> from fade.metrics import PixelHistogram
        >>> histogram = PixelHistogram.empty(65536)
        >>> histogram.normal[[128, 130, 135, 200]] = 3, 1, 2, 9
        >>> LevelShares.of(histogram, 130)
        LevelShares(level=2, normal=0.3333333333333333, anomalous=0.0)
    """

    level: int
    normal: float
    anomalous: float

    @classmethod
    def of(cls, histogram: PixelHistogram, threshold: int) -> LevelShares:
        """Of all images' histogram at a threshold in the maps' own levels."""
        width = max(len(histogram.normal) // MAX_LEVELS, 1)
        level = threshold // width
        end = (level + 1) * width
        shares = (
            float(counts[threshold + 1 : end].sum())
            / max(int(counts[level * width : end].sum()), 1)
            for counts in (histogram.normal, histogram.anomalous)
        )
        return cls(level, *shares)


@dataclass
class Replicates:
    """Sums over images of their counts, each replicate with its own weights.

    Attributes:
        counts: (replicates + 1, 4, levels), see :func:`coarse_rows`; the last counts each image once.
        regions: (replicates + 1,) weighted numbers of regions.
        images: (replicates + 1, 2) weighted numbers of good images and of those with a defect.

    Examples:
        >>> counts = Replicates.empty(replicates=2, levels=4)
        >>> counts.add(["a", "b"], np.ones((2, 4, 4)), regions=[0, 3])
        >>> counts.images[-1].tolist(), float(counts.regions[-1])
        ([1.0, 1.0], 3.0)
    """

    counts: _Floats
    regions: _Floats
    images: _Floats

    @classmethod
    def empty(cls, replicates: int, levels: int) -> Replicates:
        """Of no image."""
        rows = replicates + 1
        return cls(np.zeros((rows, 4, levels)), np.zeros(rows), np.zeros((rows, 2)))

    def __add__(self, other: Replicates) -> Replicates:
        return Replicates(
            self.counts + other.counts, self.regions + other.regions, self.images + other.images
        )

    def add(self, names: Sequence[str], rows: _Floats, regions: Sequence[int]) -> None:
        """Add some images.

        Args:
            names: of the images (n,).
            rows: (n, 4, levels).
            regions: how many each has (n,), 0 of a good one.
        """
        weights = _weights(names, len(self.counts) - 1)
        levels = rows.shape[2]
        self.counts += (weights @ rows.reshape(len(rows), -1)).reshape(-1, 4, levels)
        numbers = np.asarray(regions, float)
        self.regions += weights @ numbers
        self.images += weights @ np.stack([numbers == 0, numbers > 0], axis=1)

    def metrics(
        self, pro_limits: Sequence[float], above: LevelShares | None, exact: dict[str, float]
    ) -> dict[str, _Floats]:
        """The pixel metrics of each replicate, (replicates,); NaN where one lacks pixels of a kind.

        Coarse levels change a metric by a little; what they change in the metric of all images once is
        taken off each replicate, as far as that leaves a share.

        Args:
            pro_limits: of AUPRO.
            above: what is above the declared threshold, for rates; None without one.
            exact: the metrics of all images, each once.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = self.images[-1] / self.images  # strata as large as they are
            good, beside, anomalous, pro = np.moveaxis(self.counts, 1, 0)
            good, beside = good * scale[:, :1], beside * scale[:, 1:]
            anomalous = anomalous * scale[:, 1:]
            # a stratum that a replicate has no image of leaves it undefined; an absent one is absent
            absent = self.images[-1] == 0
            if absent[0]:
                good = np.zeros_like(good)
            if absent[1]:
                beside, anomalous = np.zeros_like(beside), np.zeros_like(anomalous)
            found = _metrics(
                good + beside, beside, anomalous, pro / self.regions[:, None], pro_limits
            )
            if above is not None:
                found |= _rates(good + beside, anomalous, above)
        return {
            name: np.clip(values[:-1] + (exact[name] - values[-1]), 0, 1)
            for name, values in found.items()
            if np.isfinite(exact.get(name, np.nan))
        }


def _weights(names: Sequence[str], replicates: int) -> _Floats:
    """Weights of images, (replicates + 1, n); the last row counts each once."""
    weights = np.ones((replicates + 1, len(names)))
    for number, name in enumerate(names):
        weights[:-1, number] = image_weights(name, replicates)
    return weights


def _from_above(counts: _Floats) -> _Floats:
    sums = counts[:, ::-1].cumsum(axis=1)
    return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)


def _metrics(
    normal: _Floats, beside: _Floats, anomalous: _Floats, overlap: _Floats, limits: Sequence[float]
) -> dict[str, _Floats]:
    """The metrics of :func:`fade.metrics.pixel_metrics` and of the further ones, row by row."""
    true, false, false_beside = map(_from_above, (anomalous, normal, beside))
    total = true[:, -1:]
    recall, rate = true / total, false / false[:, -1:]
    detected = true[:, 1:] + false[:, 1:]
    nothing = detected == 0  # NaN, of a replicate that lacks a stratum, is not nothing
    precision = np.where(nothing, 1, true[:, 1:] / np.where(nothing, 1, detected))
    found: dict[str, _Floats] = {
        "full_pixel_auroc": np.asarray(np.trapezoid(recall, rate, axis=1)),
        "full_pixel_f1_max": np.max(2 * true / (true + false + total), axis=1),
        "full_pixel_au_pro": _area(rate, _from_above(overlap), limits[0]),
        "anomaly_pixel_auroc": np.asarray(
            np.trapezoid(recall, false_beside / false_beside[:, -1:], axis=1)
        ),
        "anomaly_pixel_f1_max": np.max(2 * true / (true + false_beside + total), axis=1),
        PIXEL_AP: np.sum(np.diff(recall, axis=1) * precision, axis=1),
    }
    assert set(METRIC_NAMES[3:]) <= set(found)
    for limit in limits[1:]:
        found[au_pro_name(limit)] = _area(rate, _from_above(overlap), limit)
    return found


def _area(rate: _Floats, overlap: _Floats, limit: float) -> _Floats:
    """The area under each row's curve up to the limit, divided by it."""
    left, right = rate[:, :-1], rate[:, 1:]
    start, end = np.minimum(left, limit), np.minimum(right, limit)
    width = right - left
    share = np.where(width > 0, (end - left) / np.where(width > 0, width, 1), 0)
    last = overlap[:, :-1] + share * np.diff(overlap, axis=1)
    return np.sum((end - start) * (overlap[:, :-1] + last) / 2, axis=1) / limit


def _rates(normal: _Floats, anomalous: _Floats, above: LevelShares) -> dict[str, _Floats]:
    true, false = (
        counts[:, above.level + 1 :].sum(axis=1) + share * counts[:, above.level]
        for counts, share in ((anomalous, above.anomalous), (normal, above.normal))
    )
    total, good = anomalous.sum(axis=1), normal.sum(axis=1)
    values = (2 * true / (true + false + total), true / total, false / good)
    return dict(zip(PIXEL_RATES, values, strict=True))


def weighted_sums(names: Sequence[str], values: _Floats, replicates: int) -> _Floats:
    """Sums over images of some of their numbers, each replicate with its own weights.

    Args:
        names: of the images (n,).
        values: (n, numbers).
        replicates: how many.

    Returns:
        (replicates + 1, numbers); the last counts each image once.

    Examples:
        >>> weighted_sums(["a", "b"], np.array([[1.0], [2.0]]), 0).tolist()
        [[3.0]]
    """
    total = np.zeros((replicates + 1, values.shape[1]))
    for start in range(0, len(names), _PIECE):
        weights = _weights(names[start : start + _PIECE], replicates)
        total += weights @ values[start : start + _PIECE]
    return total


def mean_replicates(names: Sequence[str], values: Sequence[float], replicates: int) -> _Floats:
    """The mean of one number over images in each replicate, (replicates,); NaN of no image.

    Examples:
        >>> mean_replicates(["a"], [0.5], 0).shape
        (0,)
    """
    columns = np.stack([np.asarray(values, float), np.ones(len(values))], axis=1)
    sums = weighted_sums(names, columns, replicates)[:-1]
    with np.errstate(invalid="ignore"):
        return sums[:, 0] / sums[:, 1]


def image_rate_replicates(
    names: Sequence[str], above: NDArray[np.bool_], is_anomaly: NDArray[np.bool_], replicates: int
) -> dict[str, _Floats]:
    """F1, recall and false-alarm rate of images in each replicate, (replicates,); NaN where undefined.

    Args:
        names: of the images (n,).
        above: whether each score is above the threshold (n,).
        is_anomaly: labels (n,).
        replicates: how many.

    Examples:
        >>> is_anomaly = np.arange(20) >= 10
        >>> names = [f"{number}.png" for number in range(20)]
        >>> rates = image_rate_replicates(names, is_anomaly & (np.arange(20) < 15), is_anomaly, 3)
        >>> rates["full_image_recall"].round(2).tolist()
        [1.0, 0.6, 0.43]
    """
    kinds = [above & is_anomaly, is_anomaly, above & ~is_anomaly, ~is_anomaly]
    sums = weighted_sums(names, np.stack(kinds, axis=1).astype(float), replicates)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = sums[-1]
        recall, alarms = (sums[:-1, i] / sums[:-1, i + 1] for i in (0, 2))
        # strata as large as they are
        true, false = recall * total[1], np.where(total[3] > 0, alarms * total[3], 0)
        f1 = 2 * true / (true + false + total[1])
    return dict(zip(IMAGE_RATES, (f1, recall, alarms), strict=True))
