"""What a predictor opens when it is needed, of a run or bundle and for its model.

Functions, and no methods: what keeps their results does not know the predictor. So a model goes with the
predictor that held it, and waits for no collection of garbage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fade.aspect import Shape
from fade.text import TextClassifier
from fade.types import Device
from pipeline.features.pair import EncoderPair
from pipeline.features.patch_encoder import PatchEncoder
from pipeline.inference.material import CategoryBank, TrainedRun
from pipeline.scoring.sentences import EmbeddedSentences
from pipeline.scoring.texts import Use

if TYPE_CHECKING:
    from fade.encoder import Encoder
    from pipeline.features.models import ImageEncoder
    from pipeline.features.onnx_encoder import OnnxEncoder


def language_model(encoder: ImageEncoder) -> Encoder | OnnxEncoder:
    """The model that reads texts, too."""
    found = encoder.language if isinstance(encoder, EncoderPair) else encoder
    assert not isinstance(found, PatchEncoder)  # runs with text have a CLIP
    return found


def fitted_text(
    material: TrainedRun, encoder: ImageEncoder, use: Use, category: str
) -> TextClassifier:
    """The text classifier of a use and category."""
    return material.fitted(use, category, language_model(encoder).dim)


def opened_bank(
    material: TrainedRun, encoder: ImageEncoder, grids: Mapping[str, Shape],
    dims: Mapping[str, int], category: str,
) -> CategoryBank:  # fmt: skip
    """The bank of a category, on the device of the model."""
    found = material.fitting_bank(category, grids, dims)
    device: Device = "cuda" if encoder.device == "cuda" else "cpu"
    return replace(found, bank=replace(found.bank, grids=grids, device=device))


def embedded_prompts(
    material: TrainedRun, encoder: ImageEncoder, category: str
) -> EmbeddedSentences:
    """The prompts of a category's maps, embedded."""
    vectors = material.prompt_vectors("segmentation", category)
    embed = language_model(encoder).encode_texts if vectors is None else lambda _: vectors
    return EmbeddedSentences.of(material.sentences("segmentation", category), embed)
