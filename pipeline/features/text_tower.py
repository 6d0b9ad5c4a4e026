"""The text tower of a run: stage text loads it only for prompts that the store lacks.

What a model told of it is kept in the project, as :mod:`pipeline.features.told` keeps what it told of
its features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.layout import fingerprint
from fade.files import write_file
from pipeline.artefacts.catalogue import project_root
from pipeline.artefacts.provenance import versions
from pipeline.config.schema import Params
from pipeline.features.models import load_encoder
from pipeline.features.told import clip_hashes, code_of
from pipeline.process.memory import trim_heap

if TYPE_CHECKING:
    import numpy as np

    from fade.encoder import Encoder

KEPT = Path(".fade") / "texts.json"
"""File of a project: by address of model, the digests of both towers and the length of embeddings."""
MOST = 50
"""Largest number of models that are kept."""


@dataclass(frozen=True)
class TextTower:
    """What embeds prompts.

    Attributes:
        text_digest, vision_digest: of the weights of both towers.
        dim: length of an embedding.
        load: the model; it is loaded once.
    """

    text_digest: str
    vision_digest: str
    dim: int
    load: Callable[[], Encoder]

    @classmethod
    def of(cls, params: Params) -> TextTower:
        """That of the parameters.

        Raises:
            ModelError: the model is unknown, unfit or damaged, or not here.
        """

        @cache
        def load() -> Encoder:
            encoder = load_encoder(params).without_vision()
            trim_heap()
            return encoder

        address = _address(params)
        kept = _read() if address else {}
        if address in kept:
            return cls(*kept[address], load)
        encoder = load()
        told = encoder.text_digest, encoder.vision_digest, encoder.dim
        if address:
            latest = [*kept.items(), (address, told)][-MOST:]
            with suppress(OSError):  # it is asked for again next time
                write_file(project_root() / KEPT, json.dumps(dict(latest)))
        return cls(*told, load)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that are longer than the model reads (ParameterError)."""
        self.load().check_prompts(prompts)

    def encode_texts(
        self, prompts: Sequence[str], advance: Callable[[int], object] | None = None
    ) -> np.ndarray:
        """(n, dim) float32, L2-normalised; ``advance`` is told how many were encoded."""
        return self.load().encode_texts(prompts, advance)


def _read() -> dict[str | None, tuple[str, str, int]]:
    try:
        content: dict[str, Any] = json.loads((project_root() / KEPT).read_text(encoding="utf-8"))
        return {
            address: (str(text), str(vision), int(dim))
            for address, (text, vision, dim) in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}


def _address(params: Params) -> str | None:
    """What a text tower depends on; None where a part of it cannot be known here."""
    code, weights = code_of("text"), clip_hashes(params)
    if code is None or weights is None:
        return None
    model = params.model.model_dump(mode="json")
    return fingerprint({"code": code, "versions": versions(), "weights": weights, "model": model})
