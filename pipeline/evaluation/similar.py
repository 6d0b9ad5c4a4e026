"""Image scores smoothed over test images that look alike: MuSc's RsCIN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache.store import Store
from fade.reductions import smooth_similar
from pipeline.artefacts.catalogue import TEST
from pipeline.artefacts.receipts import read_receipt
from pipeline.config.schema import Params
from pipeline.evaluation.component import ImageFeatures

if TYPE_CHECKING:
    import pandas as pd


def smoothed_scores(
    scores: NDArray[np.float64], tests: pd.DataFrame, params: Params, store: Store
) -> NDArray[np.float64]:
    """The scores (trials, images), smoothed within each category where that is asked for.

    Args:
        scores: of the test images, NaN where there are none.
        tests: the test images with ``category``, in the scores' order.
        store: that has the images' class tokens.

    Raises:
        DamagedSegmentError: class tokens are gone or changed.
    """
    windows = params.evaluate.smooth_similar
    if not windows or tests.empty or params.fusion.classification_mode == "none":
        return scores
    features = ImageFeatures.open([params.similarity_feature().label], store)
    (located,), keys = features.located, features.test_keys
    found = scores.copy()
    with read_receipt(TEST).discard_on_damage(store):
        for _, rows in tests.reset_index(drop=True).groupby("category", sort=False).groups.items():
            at = np.asarray(rows)
            tokens = store.read(located.space, located.locations(keys.take(at)).narrowed())
            for number, of_trial in enumerate(scores):
                found[number, at] = smooth_similar(of_trial[at], np.asarray(tokens), windows)
    return found
