"""Stage text: embed the prompts and fit a text classifier for each use and category."""

from __future__ import annotations

import hashlib
import logging
import shutil
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from cache.layout import Space, cut, unique
from cache.store import Store
from fade.errors import ParameterError, summarise
from fade.prompts import ensemble_digest, fill
from fade.text import fit, save
from pipeline.artefacts.catalogue import CATEGORIES, TEXT, store_root
from pipeline.artefacts.tables import read_json
from pipeline.config.schema import Params
from pipeline.features.models import load_encoder
from pipeline.process.progress import Progress
from pipeline.scoring.texts import (
    USES,
    TextIndex,
    Use,
    classifier_digest,
    classifier_path,
    ensembles,
    use_params,
    uses,
    word,
)
from pipeline.stage import run_stage

if TYPE_CHECKING:
    from fade.encoder import Encoder

log = logging.getLogger("fade")

Filled = dict[tuple[Use, str], tuple[list[str], np.ndarray]]
"""By use and category: sentences, and labels, 1 = abnormal."""
SEGMENT_PROMPTS = 1024
BATCH_PROMPTS = 64


def _key(prompt: str) -> str:
    return hashlib.blake2b(prompt.encode(), digest_size=20).hexdigest()


def embed(prompts: list[str], encoder: Encoder, store: Store) -> dict[str, np.ndarray]:
    """Embedding of each prompt, from the store or into it; every distinct one is encoded once."""
    space = Space(
        "text",
        {"kind": "text", "version": 1, "weights": encoder.text_digest},
        (encoder.dim,),
        "float32",
    )
    index = dict(store.repair(space))
    distinct = unique(prompts)
    # a batch takes the time of its longest
    missing = sorted((prompt for prompt in distinct if _key(prompt) not in index), key=len)
    store.prepare({space: len(missing)})
    with Progress(len(missing), "prompts", "prompt") as progress:
        for piece in cut(missing, SEGMENT_PROMPTS):
            rows = []
            for batch in cut(piece, BATCH_PROMPTS):
                rows.append(encoder.encode_texts(batch))
                progress.advance(len(batch))
            keys = [_key(prompt) for prompt in piece]
            written = store.write(space, keys, np.concatenate(rows))
            index.update(zip(keys, written, strict=True))
    log.info("%d prompts, %d of them encoded now", len(distinct), len(missing))
    with store.repairing():
        vectors = store.read(space, [index[_key(prompt)] for prompt in distinct])
    return dict(zip(distinct, vectors, strict=True))


def _check_overrides(params: Params, categories: list[str]) -> None:
    """Refuse overrides for a category that does not exist, which would do nothing.

    Where ``dataset.categories`` leaves some out, nobody knows here which others exist: a warning.
    """
    for name in params.text.overrides:
        if name in categories:
            continue
        close = get_close_matches(name, categories, n=3)
        hint = (
            f"did you mean {', '.join(close)}?" if close else f"there are {summarise(categories)}"
        )
        line = f"text.overrides names {name!r}, which is no category of this run ({hint})"
        if params.dataset.categories is None:
            raise ParameterError(f"{line}: correct the name or take it out")
        log.warning("%s", line)


def _warn_of_both_sides(filled: Filled) -> None:
    """Sentences that are normal and abnormal tell nothing."""
    for use in USES:
        found = []
        for (of, category), (texts, labels) in filled.items():
            sides = [
                {text for text, side in zip(texts, labels, strict=True) if side == label}
                for label in (0, 1)
            ]
            both = sides[0] & sides[1] if of == use else ()
            if both:
                share = "all of them" if sides[0] == sides[1] else repr(min(both)[:100])
                found.append(f"{category}: {share}")
        if found:
            log.warning(
                "text.%s: sentences that are both normal and abnormal tell nothing: %s; look at "
                "text.template and the prompts", use, summarise(found),
            )  # fmt: skip


def run(params: Params) -> None:
    """Write the classifiers and their index."""
    categories = read_json(CATEGORIES.path)["categories"]
    _check_overrides(params, categories)
    if params.vision.encoder is not None:  # it works without text, so no CLIP is loaded
        shutil.rmtree(TEXT.path, ignore_errors=True)
        TextIndex("", {}, {}).write()
        return
    encoder = load_encoder(params)
    filled: Filled = {}
    prompts: dict[Use, dict[str, str]] = {}
    for use in uses(params):
        for category in categories:
            chosen = ensembles(params, use, category)
            prompts.setdefault(use, {})[category] = ensemble_digest(chosen)
            filled[use, category] = fill(chosen, word(params, use, category), params.text.template)
    sentences = [prompt for texts, _ in filled.values() for prompt in texts]
    encoder.check_prompts(unique(sentences))
    _warn_of_both_sides(filled)
    store = Store(store_root(params.features.store))
    vectors = embed(sentences, encoder, store)
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
    TextIndex(encoder.vision_digest, prompts, classifiers).write()
    log.info("%d text classifiers for %d categories", len(fitted), len(categories))


if __name__ == "__main__":
    run_stage("stages.text")
