"""Images that a run has twice, among training and test images: the same bytes, or nearly the same."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache.layout import batched
from fade.errors import ParameterError, counted
from pipeline.artefacts.catalogue import MANIFEST
from pipeline.artefacts.tables import read_table
from pipeline.config.schema import Params
from pipeline.features.kept import IMAGE_COLUMNS, KeptFeature, KeptFeatures, with_feature

if TYPE_CHECKING:
    import pandas as pd

BLOCK_BYTES = 32 << 20
BLOCK_IMAGES = 256


@dataclass(frozen=True, slots=True)
class Pair:
    """A training and a test image.

    Attributes:
        train, test: paths in the data set.
        distance: 0.5 x (1 - cosine) of a feature, from 0 to 1; None where the bytes are the same.
    """

    train: str
    test: str
    train_category: str
    test_category: str
    distance: float | None


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        same: pairs with the same content.
        near: pairs of other content, the nearest first.
        feature: that was compared; None where the store keeps none of both sides.
        train, test: images that were compared by it, each content once.
    """

    same: tuple[Pair, ...]
    near: tuple[Pair, ...]
    feature: str | None
    train: int
    test: int
    train_images: int
    test_images: int


def find_duplicates(
    params: Params, project: Path = Path(), *, nearest: int = 10, label: str | None = None
) -> Duplicates:
    """Look for training images among the test images of a run; nothing is written.

    Content is compared by the manifest's hashes, of all images. Features are compared where the store
    keeps them: of test images, references and images that thresholds are calibrated on. Of a feature of
    patches the mean is taken.

    Args:
        nearest: so many near pairs at most, and one for each test image.
        label: of the feature; by default a token of the whole image, else one of patches.

    Raises:
        ParameterError: an unknown feature, or fewer than no pairs.
        StoreError: the manifest is missing, or features are damaged.
    """
    if nearest < 0:
        raise ParameterError(f"--nearest {nearest} is below 0: give the number of pairs to name")
    manifest, _ = read_table(project / MANIFEST.path, list(IMAGE_COLUMNS))
    manifest = manifest.astype(str)
    train = manifest[manifest["split"] == "train"].reset_index(drop=True)
    test = manifest[manifest["split"] == "test"].reset_index(drop=True)
    both = test.merge(train, on="hash", suffixes=("_test", "_train"))
    columns = (
        both[name] for name in ("path_train", "path_test", "category_train", "category_test")
    )
    same = tuple(
        Pair(path, tested, category, other, None)
        for path, tested, category, other in zip(*columns, strict=True)
    )
    kept = KeptFeatures.open(params, project)
    found = _compared(kept, train, test, label)
    counts = len(train), len(test)
    if found is None:
        return Duplicates(same, (), None, 0, 0, *counts)
    feature, goods, queries = found
    near = tuple(_near(feature, goods, queries, nearest))
    return Duplicates(same, near, feature.label, len(goods), len(queries), *counts)


def _compared(
    kept: KeptFeatures, train: pd.DataFrame, test: pd.DataFrame, label: str | None
) -> tuple[KeptFeature, pd.DataFrame, pd.DataFrame] | None:
    """A feature that both sides have, and the images that have it, each content once."""
    names = [label] if label else sorted(kept.labels, key=lambda name: "-cls-" not in name)
    for name in names:
        feature = kept.located(name)
        goods, queries = (
            with_feature(one, feature).drop_duplicates("hash", ignore_index=True)
            for one in (train, test)
        )
        if len(goods) and len(queries):
            return feature, goods, queries
    return None


def _near(
    feature: KeptFeature, train: pd.DataFrame, test: pd.DataFrame, count: int
) -> Iterator[Pair]:
    """The nearest pairs of other content: for each test image its nearest training image."""
    known = _directions(feature, train["hash"].tolist())
    hashes = train["hash"].to_numpy()
    best: list[tuple[float, int, int]] = []
    for part in batched(range(len(test)), BLOCK_IMAGES):
        queries = test["hash"].iloc[list(part)]
        cosines = _directions(feature, queries.tolist()) @ known.T
        same = queries.to_numpy()[:, None] == hashes[None]
        cosines[same] = -np.inf  # the same content is no near one
        places = cosines.argmax(axis=1)
        values = cosines[np.arange(len(part)), places]
        found = [
            (0.5 * (1 - float(min(value, 1))), row, int(place))
            for value, row, place in zip(values, part, places, strict=True)
            if np.isfinite(value)
        ]
        best = heapq.nsmallest(count, [*best, *found])
    for distance, row, place in best:
        one, other = train.iloc[place], test.iloc[row]
        yield Pair(one["path"], other["path"], one["category"], other["category"], distance)


def _directions(feature: KeptFeature, keys: list[str]) -> NDArray[np.float32]:
    """The normalised features of some images, patches averaged: (images, dim) float32."""
    at_once = max(1, BLOCK_BYTES // max(1, feature.space.row_bytes))
    parts = []
    for part in batched(keys, at_once):
        values = feature.read(part).astype(np.float32)
        mean = values.reshape(len(part), -1, values.shape[-1]).mean(axis=1)
        parts.append(mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12))
    return np.concatenate(parts)


def lines(found: Duplicates) -> Iterator[str]:
    """What was found, a sentence a line."""
    for pair in found.same:
        yield f"same content: {pair.test} (test) and {pair.train} (train)"
    for pair in found.near:
        yield f"distance {pair.distance:.4f}: {pair.test} (test) and {pair.train} (train)"
    yield (
        f"{counted(len(found.same), 'pair')} with the same content, among {found.test_images} test and "
        f"{counted(found.train_images, 'training image')}"
    )
    if found.feature is None:
        yield "near duplicates were not looked for: the store keeps no feature of images of both splits"
    else:
        yield (
            f"near ones by {found.feature}, of {found.test} test and "
            f"{counted(found.train, 'training image')} whose features the store keeps"
        )
