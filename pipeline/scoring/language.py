"""Language components: what a run needs of them, and the arithmetic of one block of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.layout import Space, group_needs
from fade.bank import normalized_float32
from fade.text import language_map, language_scores
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
        classifiers = [open_classifier(path) for path in self.classifiers]
        if not output.shape:
            tokens = normalized_float32(vectors[0])
            scores = [language_scores(classifier, tokens) for classifier in classifiers]
            return np.stack(scores, axis=1).reshape(-1)
        grids = [patch_grid(space) for space in features]
        maps = []
        for of_image in zip(*vectors, strict=True):  # not all as float32 at one time
            patches = [normalized_float32(rows) for rows in of_image]
            maps += [language_map(classifier, patches, grids) for classifier in classifiers]
        return np.stack(maps)


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
