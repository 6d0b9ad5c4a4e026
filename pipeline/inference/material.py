"""What one trial needs to score new images, wherever it is kept: a run's folder or a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fade.aspect import AspectRatio
from fade.errors import ParameterError
from fade.text import TextClassifier
from fade.types import Trial
from pipeline.config.schema import Params
from pipeline.evaluation.thresholds import Threshold
from pipeline.inference.rules import HeldRule
from pipeline.scoring.banks import Comparison, HeldBank
from pipeline.scoring.texts import Use

if TYPE_CHECKING:
    import numpy as np

    from pipeline.features.models import ImageEncoder


@dataclass(frozen=True)
class CategoryBank:
    """A category's bank in one trial.

    Attributes:
        bank: opened.
        comparison: what an image is compared with.
        references: paths of the reference images, by position in the bank.
    """

    bank: HeldBank
    comparison: Comparison
    references: tuple[str, ...]


@dataclass(frozen=True)
class Sentences:
    """The filled prompts of a category: m sentences, and for each whether it is abnormal."""

    texts: tuple[str, ...]
    abnormal: tuple[bool, ...]


class TrainedRun(ABC):
    """All that one trial needs to score new images, wherever it is kept.

    Attributes:
        params: of the run.
        trial: shots and seed.
        categories: that it knows.
        features: by label the address that the model's features must have.
        thresholds: by category.
        aspect: the aspect ratio that images keep; None: squashed to squares.
        location: the folder or file that it lies in.
        remedy: what to do if that is damaged, for errors.
    """

    params: Params
    trial: Trial
    categories: tuple[str, ...]
    features: Mapping[str, str]
    thresholds: Mapping[str, Threshold]
    aspect: AspectRatio | None
    location: Path
    remedy: str

    @abstractmethod
    def encoder(self) -> ImageEncoder:
        """The model, loaded."""

    @abstractmethod
    def classifier(self, use: Use, category: str) -> TextClassifier:
        """The fitted text classifier of a use and category."""

    @abstractmethod
    def bank(self, category: str) -> CategoryBank:
        """The memory bank of a category."""

    def held_rule(self, category: str) -> HeldRule:
        """What is normal of a category, where its rule has no memory bank.

        Raises:
            ParameterError: this place keeps nothing for it.
        """
        rule = self.params.vision.rule_at(self.trial.shots)
        raise ParameterError(
            f"{self.location} keeps nothing for vision.rule {rule}: predict in the project's folder"
        )

    @abstractmethod
    def sentences(self, use: Use, category: str) -> Sentences:
        """The prompts that a classifier was fitted on."""

    def prompt_vectors(self, use: Use, category: str) -> np.ndarray | None:
        """The embeddings of a classifier's distinct prompts, in their order; None: the model has them."""
        return None

    def check_category(self, category: str) -> None:
        """Refuse a category that the run does not know (ParameterError)."""
        if category not in self.categories:
            raise ParameterError(
                f"there is no category {category!r}: choose {', '.join(self.categories)}"
            )
