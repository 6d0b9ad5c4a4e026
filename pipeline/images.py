"""Which images a run works on, under which keys, and what the store lacks of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache.keys import Keys
from cache.layout import Group, Space, group_needs
from cache.store import Store
from pipeline.loader import Sources
from pipeline.paths import CALIBRATION, MANIFEST
from pipeline.tables import read_table

if TYPE_CHECKING:
    import pandas as pd


def scored_images() -> Keys:
    """The keys of test images, then of those to calibrate on; equal ones again.

    Raises:
        StoreError: the manifest or the table of calibration images is missing or damaged.
    """
    return Keys.join([Keys.of(frame["hash"]) for frame in _scored("hash")])


def scored_by_category() -> dict[str, Keys]:
    """The same by category.

    Raises:
        StoreError: the manifest or the table of calibration images is missing or damaged.
    """
    found: dict[str, list[Keys]] = {}
    for frame in _scored("category", "hash"):
        for category, part in frame.groupby("category", sort=False)["hash"]:
            found.setdefault(str(category), []).append(Keys.of(part))
    return {category: Keys.join(parts) for category, parts in found.items()}


def _scored(*columns: str) -> Iterator[pd.DataFrame]:
    yield read_table(MANIFEST.path, columns, split="test")[0]
    yield read_table(CALIBRATION.path, columns)[0]


def image_sources() -> Sources:
    """The file of each image of the manifest.

    Raises:
        StoreError: the manifest is missing or damaged.
    """
    manifest, _ = read_table(MANIFEST.path, ("hash", "path"))
    return Sources(manifest["hash"], manifest["path"].array)


def feature_groups(
    references: Keys, scored: Keys, reference_spaces: Collection[str], test_spaces: Collection[str]
) -> list[Group]:
    """Images by the features that they need, references first, each image once.

    References are apart, so that all others are encoded in the same batches whether features are
    kept or not.
    """
    both = scored.take(scored.places_in(references.distinct()) >= 0)
    others = scored.take(scored.places_in(references.distinct()) < 0)
    return [
        *group_needs([(references, reference_spaces), (both, test_spaces)]),
        *group_needs([(others, test_spaces)]),
    ]


def lacking(
    groups: Sequence[Group], spaces: Mapping[str, Space], store: Store
) -> list[NDArray[np.bool_]]:
    """For each group (keys, spaces), whether the store lacks the row; one index is held at a time."""
    missing = [np.zeros((len(group.keys), len(group.spaces)), bool) for group in groups]
    for fingerprint, space in spaces.items():
        index = store.index(space)
        for group, lacks in zip(groups, missing, strict=True):
            if fingerprint in group.spaces:
                lacks[:, group.spaces.index(fingerprint)] = ~index.has(group.keys)
    return missing
