"""What one trial needs to score new images, wherever it is kept: a run's folder or a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fade.aspect import AspectRatio, Shape
from fade.errors import ParameterError, StoreError
from fade.text import TextClassifier
from fade.types import Trial
from pipeline.config.schema import Params
from pipeline.evaluation.thresholds import Threshold
from pipeline.scoring.banks import Comparison, HeldBank
from pipeline.scoring.sentences import Sentences
from pipeline.scoring.texts import Use

if TYPE_CHECKING:
    import numpy as np

    from pipeline.features.models import ImageEncoder
    from pipeline.inference.rules import HeldRule


@dataclass(frozen=True)
class CategoryBank:
    """A category's bank in one trial.

    Attributes:
        comparison: what an image is compared with.
        references: paths of the reference images, by position in the bank.
    """

    bank: HeldBank
    comparison: Comparison
    references: tuple[str, ...]

    def comparison_without(self, reference: str) -> Comparison:
        """What an image is compared with, but for the reference of a path."""
        others = tuple(p for p in self.comparison.references if self.references[p] != reference)
        return replace(self.comparison, references=others)


class TrainedRun(ABC):
    """All that one trial needs to score new images, wherever it is kept.

    Attributes:
        features: by label the address that the model's features must have.
        thresholds: by category.
        aspect: the aspect ratio that images keep; None: squashed to squares.
        location: the folder or file that it lies in.
        remedy: what to do if that is damaged, for errors.
        renewal: what to do if its features are those of another model or version, for errors.
    """

    params: Params
    trial: Trial
    categories: tuple[str, ...]
    features: Mapping[str, str]
    thresholds: Mapping[str, Threshold]
    aspect: AspectRatio | None
    location: Path
    remedy: str
    renewal: str

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

    def check_features(self, found: Mapping[str, str]) -> None:
        """Refuse a model whose features, by label, have other addresses than the run's (StoreError)."""
        for label, fingerprint in found.items():
            if self.features.get(label) != fingerprint:
                raise StoreError(
                    f"the model gives other features ({label}) than the run was made with: the weights, "
                    f"the model's parameters or this program changed; {self.renewal}, or name the right "
                    "weights"
                )

    def fitted(self, use: Use, category: str, dim: int) -> TextClassifier:
        """The text classifier of a category, for a model whose embeddings have ``dim`` numbers.

        Raises:
            StoreError: it was fitted on others.
        """
        found = self.classifier(use, category)
        if found.dimension != dim:
            raise StoreError(
                f"{self.location}: the text classifier of {category} takes embeddings of "
                f"{found.dimension} numbers, the model gives {dim}: {self.remedy}"
            )
        return found

    def fitting_bank(
        self, category: str, grids: Mapping[str, Shape], dims: Mapping[str, int]
    ) -> CategoryBank:
        """The bank of a category, for a model whose views have these grids and vectors.

        Args:
            grids: by view (rows, columns) of patches.
            dims: by view the numbers of a patch.

        Raises:
            StoreError: it holds others.
        """
        found = self.bank(category)
        for view, index in found.bank.indexes.items():
            (rows, columns), dim = grids[view], dims[view]
            most = len(found.references) * rows * columns * found.bank.copies
            # an index that trials do not share may leave patches out
            least = most if found.bank.exact else 1
            if index.d != dim or not least <= index.ntotal <= most:
                raise StoreError(
                    f"{self.location}: the bank of {category} at size {view} holds "
                    f"{index.ntotal:,} patches of {index.d} numbers, but {len(found.references)} "
                    f"references of this model have {most:,} of {dim}: {self.remedy}"
                )
        return found

    def fitting_rule(self, category: str, dims: Mapping[str, int]) -> HeldRule:
        """What is normal of a category, for a model whose views have these vectors.

        Raises:
            StoreError: it holds others.
        """
        found = self.held_rule(category)
        for view, array in found.arrays.items():
            if array.shape[-1] != dims[view]:
                raise StoreError(
                    f"{self.location}: what is normal of {category} at {view} has vectors of "
                    f"{array.shape[-1]} numbers, but this model gives {dims[view]}: {self.remedy}"
                )
        return found

    def check_category(self, category: str) -> None:
        """Refuse a category that the run does not know (ParameterError)."""
        if category not in self.categories:
            raise ParameterError(
                f"there is no category {category!r}: choose {', '.join(self.categories)}"
            )
