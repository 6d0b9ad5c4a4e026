"""What a reader must know of the pixels of images and masks: turned, dark, cut short, overlooked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from fade.errors import SHOWN, counted, summarise
from fade.inspection import inspect_image

FEW = 4
"""Number of images up to which a category tells nothing of its background."""
MAX_COVERED = 0.5
"""Largest median share of an image that a category's masks may mark without a remark."""
MAX_COVERED_BY_ONE = 0.9
"""Largest share of an image that one of several masks of a category may mark without a remark."""


class _Named:
    """Counts images of which a line names the first: a stream of them may have no end."""

    def __init__(self) -> None:
        self.count, self.first = 0, list[str]()

    def add(self, name: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            self.first.append(name)

    def __str__(self) -> str:
        return summarise(self.first, count=self.count)


class PixelRemarks:
    """Remarks on the pixels of a data set, gathered row by row.

    Args:
        exif_rotation: whether images and masks are turned as their camera says.
    """

    def __init__(self, exif_rotation: bool) -> None:
        self._exif_rotation = exif_rotation
        self._images: Counter[str] = Counter()
        self._turned, self._dark = _Named(), _Named()
        self._zeros: dict[str, _Named] = {}
        self._covered: dict[str, list[float]] = {}
        self._filled: dict[str, list[str]] = {}
        self._colours: list[str] = []

    def add_image(self, path: str, data: bytes) -> None:
        """Take in an image file that is in no data set, given its whole content."""
        inspection = asdict(inspect_image(data, path))
        self.add(
            {
                "path": path,
                "category": "",
                "mask": None,
                "inspection": inspection,
                "loses_colours": False,
            }
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row of the manifest in, with more than is written.

        ``path``, ``category`` and ``mask`` are as written.

        ``inspection`` holds the attributes of a :class:`fade.inspection.FileInspection`, ``covered`` the
        share of the image that its mask marks; None where nobody looked. ``loses_colours`` tells
        whether the mask has colours without red.
        """
        path, category = row["path"], row["category"]
        self._images[category] += 1
        found = row["inspection"]
        if found is not None:
            if found["orientation"] != 1:
                self._turned.add(path)
            if found["highest"] is not None:
                self._dark.add(f"{path} up to {found['highest']}")
            if found["ends_in_zeros"]:
                self._zeros.setdefault(category, _Named()).add(path)
        if row["mask"] is not None and row["covered"] is not None:
            self._covered.setdefault(category, []).append(row["covered"])
            if row["covered"] > MAX_COVERED_BY_ONE:
                self._filled.setdefault(category, []).append(row["mask"])
        if row["loses_colours"]:
            self._colours.append(row["mask"])

    def lines(self, said: set[str] | None = None) -> Iterator[str]:
        """The remarks, one line each.

        Args:
            said: takes the kinds of remark that hold for all images of a camera; those in it are not
                made again.
        """
        said = set() if said is None else said
        if self._turned.count and not self._exif_rotation and "turned" not in said:
            said.add("turned")
            yield (
                f"{counted(self._turned.count, 'image', 'has')} an EXIF orientation, which is not "
                "applied (dataset.exif_rotation is false): a mask that was drawn on the upright image "
                "lies elsewhere; set dataset.exif_rotation to true (dataset.format folder or csv): "
                f"{self._turned}"
            )
        if self._dark.count and "dark" not in said:
            said.add("dark")
            yield (
                f"{counted(self._dark.count, 'image')} of 16 bits without a value that needs more than "
                "14, read as nearly black: declare the depth (BitsPerSample or MaxSampleValue of a TIFF, "
                f"sBIT of a PNG, maxval of a PGM) or scale the values: {self._dark}"
            )
        # where most of many images end so, it is their black background
        zeros = [
            named
            for category, named in self._zeros.items()
            if 2 * named.count < max(self._images[category], 2 * FEW)
        ]
        if count := sum(named.count for named in zeros):
            first = [path for named in zeros for path in named.first]
            yield (
                f"{counted(count, 'image', 'ends')} in zeros, in a format without a checksum: black "
                f"there, or copied in part: {summarise(first, count=count)}"
            )
        if self._colours:
            yield (
                f"{counted(len(self._colours), 'mask', 'has')} colours without red, which count as good "
                "(docs/data.md): save in black and white if such colours mark a defect: "
                f"{summarise(self._colours)}"
            )
        for category, shares in self._covered.items():
            if len(shares) == 1:  # one defect may well cover its image
                continue
            middle = median(shares)
            if middle > MAX_COVERED:
                yield (
                    f"{category}: masks mark {100 * middle:.0f} % of their images (median of "
                    f"{len(shares)}): are they inverted? A pixel is a defect where its first channel "
                    "is not 0 (docs/data.md)"
                )
            elif category in self._filled:
                filled = self._filled[category]
                yield (
                    f"{category}: more than {100 * MAX_COVERED_BY_ONE:.0f} % of the image is marked in "
                    f"{len(filled)} of {len(shares)} masks: inverted? {summarise(filled)}"
                )
