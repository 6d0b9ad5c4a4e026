"""What all text classifiers share: types, the official settings, and log odds as probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, np.ndarray]


Floats = NDArray[np.floating[Any]]


Float64 = NDArray[np.float64]


SIDES = ("normal", "abnormal")


LOGIT_SCALE = 100.0
"""Factor on cosines before a softmax: CLIP's own temperature."""


SEED = 42


NEIGHBOURS = 5


COMPONENTS = 10


MLP_MIN_PROMPTS = 11
"""Early stopping holds back a tenth of the prompts and needs two of them."""


def from_margin(margin: Floats) -> Float64:
    """(b,) log odds of abnormal -> (b, 2) probabilities, exact in both tails."""
    wide = margin.astype(np.float64, copy=False)
    return np.exp(-np.logaddexp(0.0, np.stack([wide, -wide], axis=1)))


def from_abnormal(probability: Float64) -> Float64:
    """(b,) P(abnormal) -> (b, 2) P(normal), P(abnormal)."""
    return np.stack([1.0 - probability, probability], axis=1)
