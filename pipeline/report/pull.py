"""The sentences that are nearest to the worst patch of an image, from what the store keeps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from cache.store import Store
from fade.bank import normalized_float32
from fade.errors import DataError, StoreError
from fade.types import Trial
from pipeline.artefacts.catalogue import TEST, store_root
from pipeline.artefacts.maps import map_loader
from pipeline.artefacts.receipts import Located, read_receipt
from pipeline.config.schema import Params
from pipeline.report.nearest import MOST_IMAGES, find_peaks
from pipeline.scoring.components import patch_grid
from pipeline.scoring.prompt_embeddings import kept, text_space
from pipeline.scoring.sentences import EmbeddedSentences, Similar, read_sentences
from pipeline.scoring.texts import TextIndex

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("fade")

COUNT = 2
"""How many sentences of each side are named."""


@dataclass(frozen=True, slots=True)
class Pull:
    """The abnormal and the normal sentences nearest to the patch where a map is highest, with cosines."""

    abnormal: Similar
    normal: Similar


PullFinder = Callable[[str, Sequence[int]], Mapping[int, Pull]]
"""Of a category and rows of its trial's scores, what is known of each."""


def pull_finder(
    params: Params, trial: Trial, scores: pd.DataFrame, listed: Callable[[str], Mapping[str, Any]]
) -> PullFinder | None:
    """What finds the sentences that pull a patch, at the largest size.

    Args:
        params: of the run.
        trial: whose maps.
        scores: of this trial, with ``path`` by row.
        listed: what the manifest says of a path.

    Returns:
        None where features are not kept, or no map comes from language.
    """
    if not (params.features.keep and params.needs_language_map and len(scores) <= MOST_IMAGES):
        return None
    store, texts = Store(store_root(params.features.store)), TextIndex.read()
    load = partial(map_loader(), trial.label)

    @lru_cache(1)
    def tests() -> Located:
        return read_receipt(TEST).located(store, params.language_features()[-1].label)

    @lru_cache(1)
    def embedded(category: str) -> EmbeddedSentences:
        space = text_space(texts.text_weights, tests().space.shape[-1])
        found = read_sentences(params, "segmentation", category, texts)
        return EmbeddedSentences.of(found, lambda prompts: kept(prompts, store, space))

    def find(category: str, positions: Sequence[int]) -> Mapping[int, Pull]:
        try:
            peaks = find_peaks(load, positions, patch_grid(tests().space))
            keys = [str(listed(str(scores["path"].iloc[place]))["hash"]) for place in peaks]
            found = {}
            for (place, peak), key in zip(peaks.items(), keys, strict=True):
                patches = store.read(tests().space, list(tests().locations([key])))[0]
                worst = normalized_float32(patches[[peak]])
                found[place] = Pull(*embedded(category).similar(worst, COUNT))
            return found
        except (StoreError, DataError) as error:
            log.warning("the report names no sentences of %s: %s", category, error)
            return {}

    return find
