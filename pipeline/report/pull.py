"""The sentences that are nearest to an image and to its worst patch, from what the store keeps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.index import Index
from cache.layout import Space
from cache.store import Store
from fade.bank import normalized_float32
from fade.errors import DataError, StoreError
from fade.types import Feature, Trial
from pipeline.artefacts.catalogue import TEST, store_root
from pipeline.artefacts.maps import map_loader
from pipeline.artefacts.receipts import Located, read_receipt
from pipeline.config.schema import Params
from pipeline.report.nearest import MAX_IMAGES, find_peaks
from pipeline.scoring.components import patch_grid
from pipeline.scoring.prompt_embeddings import kept, text_space
from pipeline.scoring.sentences import EmbeddedSentences, Similar, read_sentences
from pipeline.scoring.texts import TextIndex, Use

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")

COUNT = 2
"""How many sentences of each side are named."""


@dataclass(frozen=True, slots=True)
class Pull:
    """The abnormal and the normal sentences nearest to an image or a patch of it, with cosines."""

    of: str
    abnormal: Similar
    normal: Similar


PullFinder = Callable[[str, Sequence[int]], Mapping[int, tuple[Pull, ...]]]
"""Of a category and rows of its trial's scores, what is known of each."""


def pull_finder(
    params: Params, trial: Trial, scores: pd.DataFrame, listed: Callable[[str], Mapping[str, Any]]
) -> PullFinder | None:
    """What finds the sentences that pull an image's score, and those that pull its worst patch.

    The patch is that of the largest size where the map is highest.

    Args:
        scores: of this trial, with ``path`` by row.
        listed: what the manifest says of a path.

    Returns:
        None where features are not kept, or language has no part in the run.
    """
    if not (params.features.keep and params.needs_language and len(scores) <= MAX_IMAGES):
        return None
    store, texts = Store(store_root(params.features.store)), TextIndex.read()
    load = partial(map_loader(), trial.label)

    @lru_cache(2)
    def tests(feature: Feature) -> Located:
        return read_receipt(TEST).located(store, feature.label)

    @lru_cache(1)
    def texts_kept(dim: int) -> tuple[Space, Index]:
        space = text_space(texts.text_weights, dim)
        return space, store.readable(space)  # of all categories

    @lru_cache(2)
    def embedded(use: Use, category: str, dim: int) -> EmbeddedSentences:
        found = read_sentences(params, use, category, texts)
        return EmbeddedSentences.of(found, lambda prompts: kept(prompts, store, *texts_kept(dim)))

    def image_pulls(category: str, keys: Mapping[int, str]) -> dict[int, Pull]:
        held = tests(params.classification_feature())
        named = embedded("classification", category, held.space.shape[-1])
        return {
            place: Pull("Image", *named.similar(_vector(store, held, key), COUNT))
            for place, key in keys.items()
        }

    def patch_pulls(category: str, keys: Mapping[int, str]) -> dict[int, Pull]:
        held = tests(params.language_features()[-1])
        named = embedded("segmentation", category, held.space.shape[-1])
        peaks = find_peaks(load, list(keys), patch_grid(held.space))
        return {
            place: Pull(
                "Worst patch", *named.similar(_vector(store, held, keys[place], peak), COUNT)
            )
            for place, peak in peaks.items()
        }

    def find(category: str, positions: Sequence[int]) -> Mapping[int, tuple[Pull, ...]]:
        try:
            keys = {
                place: str(listed(str(scores["path"].iloc[place]))["hash"]) for place in positions
            }
            of_images = image_pulls(category, keys) if params.needs_language_score else {}
            of_patches = patch_pulls(category, keys) if params.needs_language_map else {}
        except (StoreError, DataError) as error:
            log.warning("the report names no sentences of %s: %s", category, error)
            return {}
        sources = (of_images, of_patches)
        return {place: tuple(one[place] for one in sources if place in one) for place in keys}

    return find


def _vector(store: Store, held: Located, key: str, place: int = 0) -> np.ndarray:
    """The token of an image, or one of its patches, L2-normalised: (1, dim)."""
    rows = store.read(held.space, list(held.locations([key])))
    return normalized_float32(rows.reshape(-1, rows.shape[-1])[[place]])
