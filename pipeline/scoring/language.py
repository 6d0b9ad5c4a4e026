"""Language components: what a run needs of them, and the arithmetic of one block of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.keys import Keys
from cache.layout import Group, Space, group_needs
from cache.store import Store
from fade.maps import merge_sizes
from fade.text import TextClassifier
from pipeline.artefacts.catalogue import CATEGORIES
from pipeline.artefacts.receipts import Receipt
from pipeline.artefacts.tables import read_json
from pipeline.config.schema import Params
from pipeline.dataset.images import scored_by_category
from pipeline.scoring.components import language_map_space, language_score_space, patch_grid
from pipeline.scoring.texts import TextIndex, uses

ROWS = 256
"""Tokens are classified by so many, which makes the sums of each independent of the others."""


@dataclass(frozen=True)
class LanguagePlan:
    """The work of one use of text.

    Attributes:
        output: space of the components.
        labels: of the features.
        features: their spaces.
        classifiers: digest by category.
        groups: images by the classifiers that they need, whose digests stand for spaces.
        missing: for each group (images, classifiers), whether the store lacks the component.
    """

    output: Space
    labels: Sequence[str]
    features: Sequence[Space]
    classifiers: Mapping[str, str]
    groups: Sequence[Group]
    missing: Sequence[NDArray[np.bool_]]

    @property
    def lacking(self) -> int:
        """How many components the store lacks."""
        return sum(int(np.count_nonzero(lacks)) for lacks in self.missing)

    @property
    def total(self) -> int:
        """How many components there are."""
        return sum(lacks.size for lacks in self.missing)

    def keys(self) -> Keys:
        """Keys of all components."""
        return Keys.join(
            [group.keys.joined(digest) for group in self.groups for digest in group.spaces]
        )


def plan_language(params: Params, receipt: Receipt, store: Store) -> list[LanguagePlan]:
    """The work of each use of text that the parameters have.

    Args:
        params: of the run.
        receipt: of the scored images' features, whose spaces count.
        store: of the components.

    Raises:
        StoreError: the texts are of other parameters or weights, or the store lacks components and
            cannot be written to.
    """
    images = scored_by_category()
    if not images or not uses(params):
        return []
    text = TextIndex.read()
    weights = next(iter(receipt.spaces.values())).description["weights"]
    text.check(params, weights, read_json(CATEGORIES.path)["categories"])
    plans = []
    for use in uses(params):
        if use == "classification":
            labels = [params.classification_feature().label]
            output = language_score_space(receipt.space(labels[0]))
        else:
            labels = [feature.label for feature in params.language_features()]
            output = language_map_space([receipt.space(label) for label in labels])
        of = text.classifiers[use]
        groups = group_needs([(keys, [of[category]]) for category, keys in images.items()])
        index = store.repair(output)
        missing = [
            np.stack([~index.has(group.keys.joined(digest)) for digest in group.spaces], axis=1)
            for group in groups
        ]
        features = [receipt.space(label) for label in labels]
        plans.append(LanguagePlan(output, labels, features, of, groups, missing))
        store.prepare({output: plans[-1].lacking})
    return plans


def language_rows(
    classifier: TextClassifier,
    output: Space,
    features: Sequence[Space],
    vectors: Sequence[np.ndarray],
) -> np.ndarray:
    """Components of some images; those of one do not depend on which others there are.

    Args:
        classifier: of texts.
        output: space of the components.
        features: spaces of the features, one for a score, one a size for a map.
        vectors: of each feature (images, dim) or (images, patches, dim), L2-normalised.

    Returns:
        (images,) P(abnormal), or (images, *grid) the same of each patch, sizes merged.
    """
    if not output.shape:
        (tokens,) = vectors
        found = []
        for start in range(0, len(tokens), ROWS):
            part = tokens[start : start + ROWS]
            padded = np.concatenate([part, np.repeat(part[:1], ROWS - len(part), axis=0)])
            found.append(classifier.predict_proba(padded)[: len(part), 1])
        return np.concatenate(found)
    grids = [patch_grid(space) for space in features]
    return np.stack(
        [
            merge_sizes(
                [
                    classifier.predict_proba(patches)[:, 1].reshape(grid)
                    for patches, grid in zip(of_image, grids, strict=True)
                ]
            )
            for of_image in zip(*vectors, strict=True)
        ]
    )
