"""The sentences that a category's prompts make, and those that are nearest to an image's patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fade.errors import StoreError
from fade.prompts import ensemble_digest, fill
from pipeline.config.schema import Params
from pipeline.scoring.texts import TextIndex, Use, class_name, ensembles

Similar = tuple[tuple[str, float], ...]
"""Sentences with their cosines, the nearest first."""


@dataclass(frozen=True)
class Sentences:
    """The filled prompts of a category: m sentences, and for each whether it is abnormal."""

    texts: tuple[str, ...]
    abnormal: tuple[bool, ...]


def read_sentences(
    params: Params, use: Use, category: str, index: TextIndex, folder: Path | None = None
) -> Sentences:
    """The prompts by the parameters, if they are still those that were fitted.

    Args:
        index: what the text stage made.
        folder: that files of prompts are relative to, if not this one.

    Raises:
        StoreError: a file of prompts changed.
    """
    chosen = ensembles(params, use, category, folder)
    if ensemble_digest(chosen) != index.prompts[use].get(category):
        raise StoreError(
            f"a prompt file of text.{use}.prompts changed since the run: run `fade run`"
        )
    texts, labels = fill(chosen, class_name(params, use, category), params.text.template)
    return Sentences(tuple(texts), tuple(bool(label) for label in labels))


@dataclass(frozen=True)
class EmbeddedSentences:
    """The prompts of a category with their embeddings.

    Attributes:
        texts: each once.
        abnormal: whether they tell of a defect.
        vectors: (len(texts), dim), normalised.
    """

    texts: list[str]
    abnormal: list[bool]
    vectors: np.ndarray

    @classmethod
    def of(
        cls, sentences: Sentences, embed: Callable[[list[str]], np.ndarray]
    ) -> EmbeddedSentences:
        """Sentences of a run with the vectors (n, dim) that a function has for n distinct ones."""
        distinct = dict(zip(sentences.texts, sentences.abnormal, strict=True))
        texts = list(distinct)
        return cls(texts, list(distinct.values()), embed(texts))

    def similar(self, patches: np.ndarray, count: int) -> tuple[Similar, Similar]:
        """Abnormal and normal ones nearest to the mean of patches (n, dim), with cosines."""
        mean = patches.mean(axis=0)
        cosines = self.vectors @ (mean / np.linalg.norm(mean))
        order = np.argsort(-cosines, kind="stable")

        def side(abnormal: bool) -> Similar:
            best = [n for n in order if self.abnormal[n] == abnormal][:count]
            return tuple((self.texts[n], float(cosines[n])) for n in best)

        return side(True), side(False)
