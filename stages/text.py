"""Stage text: embed the prompts and fit a text classifier for each use and category."""

from __future__ import annotations

import logging
import shutil

import numpy as np

from cache.store import Store
from fade.errors import counted
from fade.prompts import ensemble_digest, fill
from fade.text import fit, save
from pipeline.artefacts.catalogue import CATEGORIES, TEXT, store_root
from pipeline.artefacts.tables import read_json
from pipeline.config.schema import Params
from pipeline.features.models import naming_weights
from pipeline.features.text_tower import TextTower
from pipeline.scoring.prompt_checks import Filled, check_overrides, warn_of_both_sides
from pipeline.scoring.prompt_embeddings import embed
from pipeline.scoring.texts import (
    TextIndex,
    Use,
    class_name,
    classifier_digest,
    classifier_path,
    ensembles,
    use_params,
    uses,
)
from pipeline.stage import run_stage

log = logging.getLogger("fade")


def run(params: Params) -> None:
    """Write the classifiers and their index."""
    categories = read_json(CATEGORIES.path)["categories"]
    check_overrides(params, categories)
    if params.vision.encoder is not None and not params.needs_language:  # no CLIP is loaded
        shutil.rmtree(TEXT.path, ignore_errors=True)
        TextIndex("", {}, {}, "").write()
        return
    tower = TextTower.of(params)
    filled: Filled = {}
    prompts: dict[Use, dict[str, str]] = {}
    for use in uses(params):
        for category in categories:
            chosen = ensembles(params, use, category)
            prompts.setdefault(use, {})[category] = ensemble_digest(chosen)
            filled[use, category] = fill(
                chosen, class_name(params, use, category), params.text.template
            )
    sentences = [prompt for texts, _ in filled.values() for prompt in texts]
    warn_of_both_sides(filled)
    store = Store(store_root(params.features.store))
    with naming_weights(params):
        vectors = embed(sentences, tower, store)
    shutil.rmtree(TEXT.path, ignore_errors=True)
    TEXT.path.mkdir(parents=True)
    classifiers: dict[Use, dict[str, str]] = {}
    fitted: dict[tuple[str, tuple[str, ...], bytes], str] = {}
    for (use, category), (texts, labels) in filled.items():
        name = use_params(params, use).classifier
        same = (name, tuple(texts), labels.tobytes())
        if same not in fitted:
            classifier = fit(name, np.stack([vectors[text] for text in texts]), labels)
            fitted[same] = classifier_digest(classifier)
            save(classifier, classifier_path(fitted[same]))
        classifiers.setdefault(use, {})[category] = fitted[same]
    TextIndex(tower.vision_digest, prompts, classifiers, tower.text_digest).write()
    made = counted(len(fitted), "text classifier")
    log.info("%s for %s", made, counted(len(categories), "category"))


if __name__ == "__main__":
    run_stage("stages.text")
