"""Fitted text classifiers of a run: which one serves which category, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Literal

from fade.errors import StoreError
from fade.prompts import Ensemble, ensemble_digest, load_ensemble, manual
from fade.text import TextClassifier
from fade.text import digest as content_digest
from fade.text import load as load_classifier
from pipeline.artefacts.catalogue import TEXT
from pipeline.artefacts.tables import read_json, write_json
from pipeline.config.schema import ManualPrompts, Params, TextUseParams

Use = Literal["classification", "segmentation"]
USES: tuple[Use, ...] = ("classification", "segmentation")
GENERIC_NAME = "object"
"""Word in place of the category's name where prompts shall not name it."""


def uses(params: Params) -> list[Use]:
    """The uses of text that the modes ask for."""
    needed = {
        "classification": params.needs_language_score,
        "segmentation": params.needs_language_map,
    }
    return [use for use in USES if needed[use]]


def use_params(params: Params, use: Use) -> TextUseParams:
    """The parameters of one use."""
    return params.text.classification if use == "classification" else params.text.segmentation


def ensembles(params: Params, use: Use, category: str, base: Path | None = None) -> list[Ensemble]:
    """The prompt ensembles of a category, its override included.

    Args:
        base: folder that files are relative to, if not this one.

    Raises:
        DataError: a prompt file is missing or not in the format.
    """
    override = params.text.overrides.get(category)
    chosen = override and (
        override.classification if use == "classification" else override.segmentation
    )
    return [
        manual(prompts.normal, prompts.abnormal)
        if isinstance(prompts, ManualPrompts)
        else load_ensemble(prompts, base)
        for prompts in chosen or use_params(params, use).prompts
    ]


def class_name(params: Params, use: Use, category: str) -> str:
    """What ``{classname}`` in a prompt becomes."""
    return category if use_params(params, use).use_classname else GENERIC_NAME


def classifier_digest(classifier: TextClassifier) -> str:
    """The hash of a fitted classifier's content, by which its file is named."""
    return content_digest(classifier)[:40]


def classifier_path(digest: str) -> Path:
    """The file of a fitted classifier.

    Examples:
        >>> classifier_path("9f2c").name
        '9f2c.npz'
    """
    return TEXT.path / f"{digest}.npz"


def read_classifier(path: Path) -> TextClassifier:
    """A fitted classifier from its file.

    Raises:
        StoreError: missing, damaged, or another one than its name says.
    """
    found = load_classifier(path)
    if classifier_digest(found) != path.stem:
        raise StoreError(
            f"text classifier {path} is another one than its name says: run the text stage again"
        )
    return found


@lru_cache(maxsize=64)
def open_classifier(path: Path) -> TextClassifier:
    """A fitted classifier, kept by each worker; its file's name is its content's hash."""
    return read_classifier(path)


@dataclass(frozen=True)
class TextIndex:
    """What the text stage made.

    Attributes:
        weights: digest of the vision tower that the text tower belongs to.
        text_weights: digest of the text tower, by which the store knows embeddings of prompts.
        prompts: by use and category, digest of the prompt ensembles.
        classifiers: by use and category, digest of the fitted classifier.
    """

    weights: str
    prompts: Mapping[Use, Mapping[str, str]]
    classifiers: Mapping[Use, Mapping[str, str]]
    text_weights: str

    def write(self) -> None:
        """Write the index beside the classifiers."""
        write_json(asdict(self), TEXT.path / "index.json")

    @classmethod
    def read(cls, root: Path = Path()) -> TextIndex:
        """Read the index of the text stage of the project in a folder.

        Raises:
            StoreError: it is missing, damaged, or no such index.
        """
        path = root / TEXT.path / "index.json"
        content = read_json(path)
        by_use = [content.get("prompts"), content.get("classifiers")]
        if not all(
            isinstance(one, dict) and all(isinstance(part, dict) for part in one.values())
            for one in by_use
        ):
            raise StoreError(f"{path} is no index of texts: run `fade run --force text`")
        return cls(*(content.get(one.name, "") for one in fields(cls)))

    def check(self, params: Params, weights: str, categories: Sequence[str]) -> None:
        """Refuse prompts or weights that were edited in place, which DVC does not see.

        Raises:
            StoreError: saying what changed and how to bring it up to date.
        """
        if weights != self.weights:
            raise StoreError(
                "the weights behind model.pretrained changed in place since some stages ran: "
                "run `fade run`"
            )
        for use in uses(params):
            for category in categories:
                found = ensemble_digest(ensembles(params, use, category))
                if found != self.prompts[use].get(category):
                    raise StoreError(
                        f"a prompt file of text.{use}.prompts changed in place since it was encoded: "
                        "run `fade run`"
                    )
