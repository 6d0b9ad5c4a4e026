"""Which images a run works on, under which keys, and what the store lacks of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cache.keys import Keys
from fade.types import Feature, Trial
from pipeline.artefacts.catalogue import CALIBRATION, MANIFEST
from pipeline.artefacts.tables import read_table, table_parts
from pipeline.config.schema import Params
from pipeline.dataset.loader import ImageSources

if TYPE_CHECKING:
    import pandas as pd


def scored_images() -> Keys:
    """The keys of test images, then of those to calibrate on; equal ones again.

    Raises:
        StoreError: the manifest or the table of calibration images is missing or damaged.
    """
    return Keys.join([keys for part in (test_images(), calibration_images()) for _, keys in part])


def test_images() -> list[tuple[str, Keys]]:
    """Categories and keys of test images in the manifest's order: a pair for each run of a category.

    Raises:
        StoreError: the manifest is missing or damaged.
    """
    return _runs(table_parts(MANIFEST.path, ("category", "hash"), split="test"))


def calibration_images() -> list[tuple[str, Keys]]:
    """The same of the images to calibrate on.

    Raises:
        StoreError: their table is missing or damaged.
    """
    return _runs(table_parts(CALIBRATION.path, ("category", "hash")))


def by_category(runs: Iterable[tuple[str, Keys]]) -> dict[str, Keys]:
    """The keys of each category, categories by first appearance.

    Examples:
        >>> runs = [("nut", Keys.of(["a"])), ("bolt", Keys.of(["b"])), ("nut", Keys.of(["c"]))]
        >>> {category: list(keys) for category, keys in by_category(runs).items()}
        {'nut': ['a', 'c'], 'bolt': ['b']}
    """
    found: dict[str, list[Keys]] = {}
    for category, keys in runs:
        found.setdefault(category, []).append(keys)
    return {category: Keys.join(parts) for category, parts in found.items()}


def _runs(parts: Iterable[Mapping[str, Any]]) -> list[tuple[str, Keys]]:
    return [
        (category, Keys.of(key for _, key in run))
        for part in parts
        for category, run in groupby(
            zip(part["category"].to_pylist(), part["hash"].to_pylist(), strict=True),
            key=itemgetter(0),
        )
    ]


def image_sources() -> ImageSources:
    """The file of each image of the manifest.

    Raises:
        StoreError: the manifest is missing or damaged.
    """
    manifest, _ = read_table(MANIFEST.path, ("hash", "path"))
    return ImageSources(manifest["hash"], manifest["path"].array)


def references_by_category(selection: pd.DataFrame) -> dict[str, Keys]:
    """Keys of reference images by category, in the order of the selection.

    Examples:
        >>> import pandas as pd
        >>> found = references_by_category(pd.DataFrame({"category": ["nut", "nut"], "hash": ["b", "a"]}))
        >>> {category: list(keys) for category, keys in found.items()}
        {'nut': ['b', 'a']}
    """
    groups = selection.groupby("category", sort=False)
    return {str(category): Keys.of(part["hash"]) for category, part in groups}


def references_of(selection: pd.DataFrame, trial: Trial) -> list[str]:
    """Keys of a trial's references among those of a category, by rank; equal images count once.

    Examples:
        >>> import pandas as pd
        >>> drawn = pd.DataFrame({"seed": [0, 0, 1], "rank": [0, 1, 0], "hash": ["a", "b", "c"]})
        >>> references_of(drawn, Trial(shots=1, seed=0)), references_of(drawn, Trial(shots=2, seed=0))
        (['a'], ['a', 'b'])
    """
    chosen = selection[(selection["seed"] == trial.seed) & (selection["rank"] < trial.shots)]
    return list(dict.fromkeys(chosen["hash"]))


def keys_by_feature(params: Params, references: Mapping[str, Keys]) -> dict[Feature, Keys]:
    """Keys of the reference images of which banks need a feature, which is most often of all.

    Args:
        references: by category.
    """
    found: dict[Feature, list[Keys]] = {feature: [] for feature in params.reference_features()}
    for category, keys in references.items() if found else ():
        for feature in params.bank_features(category):
            found[feature].append(keys)
    return {feature: Keys.join(parts) for feature, parts in found.items()}
