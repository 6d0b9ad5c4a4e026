"""Nine text classifiers: from embedded prompts to P(normal) and P(abnormal) of image embeddings."""

from fade.text.archive import read_array
from fade.text.classifiers import (
    TextClassifier,
    check_counts,
    digest,
    fit,
    language_map,
    language_scores,
    load,
    loads,
    save,
)
from fade.text.methods import CLASSIFIERS

__all__ = [
    "CLASSIFIERS",
    "TextClassifier",
    "check_counts",
    "digest",
    "fit",
    "language_map",
    "language_scores",
    "load",
    "loads",
    "read_array",
    "save",
]
