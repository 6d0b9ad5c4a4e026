"""sPRO: the overlap with a defect that counts as whole once enough of it is found.

Source: P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger, Beyond Dents and Scratches: Logical
Constraints in Unsupervised Anomaly Detection and Localization, IJCV 2022, section 4.2. The saturated
overlap of a region with s pixels to find is min(detected / s, 1). A region is one mask file of an image,
connected or not. AU-sPRO is the area under the mean saturated overlap over the false positive rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fade.level_counts import LevelCounts


@dataclass(frozen=True, slots=True)
class Saturation:
    """How much of a defect is enough: an entry of ``defects_config.json``.

    Attributes:
        threshold: pixels, or a share of the region's pixels.
        relative: whether it is a share.
    """

    threshold: float
    relative: bool

    def pixels(self, area: int) -> int:
        """How many of a region's pixels are enough, at least one.

        Examples:
            >>> Saturation(0.5, True).pixels(9), Saturation(20, False).pixels(9)
            (4, 9)
        """
        wanted = int(self.threshold * area) if self.relative else min(int(self.threshold), area)
        return max(wanted, 1)


@dataclass(frozen=True, eq=False, slots=True)
class SaturatedRegion:
    """A region at evaluation size.

    Attributes:
        pixels: positions in the flattened map, (n,) with n > 0.
        enough: how many of them are enough; no whole number where the mask is resized.

    Examples:
        >>> region = SaturatedRegion(np.array([4, 5, 6, 7]), enough=2)
        >>> len(region.pixels), region.enough
        (4, 2)
    """

    pixels: NDArray[np.int64]
    enough: float


def saturated(
    image: LevelCounts,
    levels: NDArray[np.unsignedinteger],
    regions: Sequence[SaturatedRegion],
) -> LevelCounts:
    """The counts of one image with saturated overlaps, so that AUPRO of their sum is AU-sPRO.

    Args:
        image: its counts against the union of its masks.
        levels: its map (H, W).
        regions: one a mask file.

    Examples:
        >>> from fade.regions import label_regions
        >>> levels = np.array([[0, 1, 2, 3]], np.uint8)
        >>> plain = LevelCounts.of_image(levels, label_regions(levels > 1))
        >>> saturated(plain, levels, [SaturatedRegion(np.array([2, 3]), 1)]).pro.tolist()
        [0.0, 0.0, 0.0, 1.0]
    """
    flat, size = levels.ravel(), len(image.levels)
    overlap = np.zeros(size)
    for region in regions:
        places = np.searchsorted(image.levels, flat[region.pixels])
        detected = np.bincount(places, minlength=size)[::-1].cumsum()
        shares = np.minimum(detected / region.enough, 1)
        overlap += np.diff(shares, prepend=0)[::-1]
    return replace(image, pro=overlap, regions=len(regions))
