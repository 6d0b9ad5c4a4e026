"""Which images are scored, and under which keys, in little memory."""

from __future__ import annotations

from cache.keys import Keys
from pipeline.paths import CALIBRATION, MANIFEST
from pipeline.tables import read_table


def scored_images() -> dict[str, Keys]:
    """By category the keys of test images, then of those to calibrate on; equal ones again.

    Raises:
        StoreError: the manifest or the table of calibration images is missing or damaged.
    """
    tests, _ = read_table(MANIFEST.path, ("category", "hash"), split="test")
    calibration, _ = read_table(CALIBRATION.path, ("category", "hash"))
    found: dict[str, list[Keys]] = {}
    for frame in (tests, calibration):
        for category, part in frame.groupby("category", sort=False)["hash"]:
            found.setdefault(str(category), []).append(Keys.of(part))
    return {category: Keys.join(parts) for category, parts in found.items()}
