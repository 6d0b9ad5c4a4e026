"""Language components: what a run needs of them, and the arithmetic of one block of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.layout import Space, group_needs
from fade.bank import normalized_float32
from fade.text import TextClassifier, language_map, language_scores
from pipeline.artefacts.catalogue import CATEGORIES
from pipeline.artefacts.receipts import Receipt
from pipeline.artefacts.tables import read_json
from pipeline.config.schema import Params
from pipeline.dataset.images import by_category, calibration_images, test_images
from pipeline.scoring.components import language_score_space, map_space, patch_grid
from pipeline.scoring.plan import ComponentPlan, ComponentWork, IndexOf, missing_components
from pipeline.scoring.texts import TextIndex, classifier_path, open_classifier, uses


@dataclass(frozen=True)
class LanguageScorer:
    """Text classifiers, by their files."""

    name: str
    classifiers: tuple[Path, ...]

    def rows(
        self, output: Space, features: Sequence[Space], vectors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """See :class:`pipeline.scoring.plan.Scorer`."""
        vectors = [normalized_float32(rows) for rows in vectors]
        found = [
            language_rows(open_classifier(path), output, features, vectors)
            for path in self.classifiers
        ]
        return np.stack(found, axis=1).reshape(-1, *output.shape)


class LanguagePlan(ComponentPlan):
    """The work of one use of text; images are compared with the classifiers of their category."""

    block_images = 256

    def scorer(self, keys: tuple[str, ...], against: Sequence[str]) -> LanguageScorer:
        """See :class:`ComponentPlan`."""
        name = self.output.label.removeprefix("language-")
        return LanguageScorer(name, tuple(classifier_path(d).absolute() for d in against))


def plan_language(params: Params, receipt: Receipt, index_of: IndexOf) -> ComponentWork:
    """The work of each use of text that the parameters have.

    Args:
        receipt: of the scored images' features, whose spaces count.
        index_of: what the store has of the components.

    Raises:
        StoreError: the texts are of other parameters or weights, or the store cannot be read.
    """
    images = by_category([*test_images(), *calibration_images()])
    if not images or not uses(params):
        return ComponentWork()
    text = TextIndex.read()
    asked = [params.classification_feature()] if params.needs_language_score else []
    asked += params.language_features() if params.needs_language_map else []
    weights = receipt.space(asked[0].label).description["weights"]
    text.check(params, weights, read_json(CATEGORIES.path)["categories"])
    plans = []
    against = {}
    for use in uses(params):
        if use == "classification":
            features: tuple[Space, ...] = (receipt.space(params.classification_feature().label),)
            output = language_score_space(features[0])
        else:
            features = tuple(receipt.space(f.label) for f in params.language_features())
            output = map_space("language-map", features)
        of = against[output.label] = text.classifiers[use]
        groups = group_needs([(keys, [of[category]]) for category, keys in images.items()])
        missing = missing_components(groups, index_of(output))
        plans.append(LanguagePlan(output, features, groups, missing))
    return ComponentWork(plans, against)


def language_rows(
    classifier: TextClassifier,
    output: Space,
    features: Sequence[Space],
    vectors: Sequence[np.ndarray],
) -> np.ndarray:
    """Components of some images; those of one do not depend on which others there are.

    Args:
        features: spaces of the features, one for a score, one a size for a map.
        vectors: of each feature (images, dim) or (images, patches, dim), L2-normalised.

    Returns:
        (images,) P(abnormal), or (images, *grid) the same of each patch, sizes merged.
    """
    if not output.shape:
        (tokens,) = vectors
        return language_scores(classifier, tokens)
    grids = [patch_grid(space) for space in features]
    images = zip(*vectors, strict=True)
    return np.stack([language_map(classifier, of_image, grids) for of_image in images])
