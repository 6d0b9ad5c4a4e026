"""Takes a run's model along as ONNX: exports it, compares both, and calibrates where they differ."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.errors import ModelError, ParameterError
from fade.portable.builder import WeightsFile, require_onnx
from fade.portable.numbers import Numbers
from fade.portable.session import GraphSession
from fade.types import Feature
from pipeline.config.schema import Params
from pipeline.evaluation.thresholds import Threshold
from pipeline.features.models import load_encoder
from pipeline.features.onnx_encoder import GraphFeature, GraphModel, OnnxEncoder
from pipeline.inference.bundle_onnx import GRAPH, MODEL, POSITIONS, PROMPTS, WEIGHTS, digest_of
from pipeline.inference.onnx_compare import GraphComparison
from pipeline.inference.run import FinishedRun

if TYPE_CHECKING:
    from fade.encoder import Encoder


@dataclass(frozen=True)
class OnnxParts:
    """What a bundle gets of an exported model.

    Attributes:
        entries: bytes by name.
        thresholds: by category, for this model.
    """

    entries: Mapping[str, bytes]
    thresholds: Mapping[str, Threshold]


def check_exportable(params: Params, numbers: Numbers) -> None:
    """Refuse runs whose model is not exported (ParameterError), before anything is loaded."""
    require_onnx()
    if params.vision.network and params.needs_vision:
        raise ParameterError(
            f"--onnx takes along CLIP's own streams, and this run compares images by "
            f"{params.vision.encoder or 'blocks of CLIP'}: leave --onnx out"
        )
    if params.model.precision != "fp32":
        raise ParameterError(
            f"model.precision is {params.model.precision}, and --onnx exports runs of fp32: set it to "
            "fp32 and run `fade run`"
        )
    if numbers == "int8" and params.threshold.source == "labels":
        raise ParameterError(
            "--precision int8 calibrates thresholds on normal images, and threshold.source is labels: "
            "set it to normal and run `fade run`, or take --precision fp32"
        )


def export(run: FinishedRun, categories: Sequence[str], numbers: Numbers) -> OnnxParts:
    """The parts of a run's model as ONNX, after it was held against the model itself.

    Args:
        run: which project and trial.
        categories: that the bundle has.
        numbers: of linear layers.

    Raises:
        ParameterError: this model is not exported.
        ModelError: the exported model gives other features or decisions.
        DataError: images to compare on cannot be read.
    """
    from fade.portable.clip_graph import clip_graph

    params = run.params
    check_exportable(params, numbers)
    encoder = load_encoder(params, "cpu")
    features = params.test_features()
    outputs = list(dict.fromkeys((feature.stream, feature.token) for feature in features))
    store = WeightsFile()
    graph = clip_graph(encoder, outputs, store, numbers)
    weights = store.joined()
    positions, known = _features(encoder, run, features)
    entries = {
        GRAPH: graph, WEIGHTS: weights, POSITIONS: _npz(positions),
        PROMPTS: _npz(_prompts(encoder, run, categories)),
    }  # fmt: skip
    model = GraphModel(
        encoder.name, numbers, encoder.dim, known,
        {name: digest_of(data) for name, data in entries.items()}, {},
    )  # fmt: skip
    try:
        session = GraphSession(graph, np.frombuffer(weights, np.uint8))
    except ValueError as error:
        raise ModelError(f"the exported model cannot be used: {error}") from None
    exported = OnnxEncoder(model, session, positions)
    comparison = GraphComparison(run, encoder, exported)
    judge = comparison.in_float32 if numbers == "fp32" else comparison.in_eight_bits
    thresholds = judge(categories)
    content = replace(model, compared=_versions() | asdict(comparison.told)).as_json()
    entries[MODEL] = json.dumps(content, ensure_ascii=False, indent=1).encode()
    return OnnxParts(entries, thresholds)


def _features(
    encoder: Encoder, run: FinishedRun, features: Sequence[Feature]
) -> tuple[dict[str, np.ndarray], dict[str, GraphFeature]]:
    """The position embeddings of the sizes that are needed, and how each feature is had."""
    from fade.portable.clip_graph import output_name

    positions, known = {}, {}
    for feature in features:
        rows, columns = encoder.grid_of(feature, run.aspect)
        place = f"{rows}x{columns}"
        positions[place] = encoder.position((rows, columns)).detach().numpy()
        known[feature.label] = GraphFeature(
            encoder.pixels(feature, run.aspect),
            encoder.shape(feature, run.aspect),
            encoder.describe(feature, run.aspect),
            output_name(feature.stream, feature.token),
            place,
        )
    return positions, known


def _prompts(
    encoder: Encoder, run: FinishedRun, categories: Sequence[str]
) -> dict[str, np.ndarray]:
    """Embeddings of the distinct prompts that explanations name, by the classifier's digest."""
    found: dict[str, np.ndarray] = {}
    for category in categories if run.params.needs_language_map else ():
        name = run.classifier_file("segmentation", category).stem
        if name not in found:
            texts = dict.fromkeys(run.sentences("segmentation", category).texts)
            found[name] = encoder.encode_texts(list(texts))
    return found


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **dict(arrays))
    return file.getvalue()


def _versions() -> dict[str, Any]:
    """What made the model and compared it."""
    import onnx
    import onnxruntime
    import torch

    return {
        "torch": str(torch.__version__), "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }  # fmt: skip
