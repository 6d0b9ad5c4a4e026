"""Takes a run's model along as ONNX: exports it, compares both, and calibrates where they differ."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.aspect import Shape
from fade.errors import ModelError, ParameterError
from fade.portable.builder import WeightsFile, require_onnx
from fade.portable.numbers import Numbers
from fade.portable.session import GraphSession
from fade.types import Feature
from pipeline.config.schema import Params
from pipeline.evaluation.thresholds import Threshold
from pipeline.features.models import load_image_encoder
from pipeline.features.onnx_encoder import CLIP, GraphFeature, GraphModel, GraphTiles, OnnxEncoder
from pipeline.features.pair import EncoderPair, of_vision
from pipeline.inference.bundle_graphs import MODEL, WEIGHTS, digest_of, graph_entry
from pipeline.inference.bundle_onnx import POSITIONS, PROMPTS
from pipeline.inference.onnx_compare import GraphComparison
from pipeline.inference.run import FinishedRun

if TYPE_CHECKING:
    from fade.encoder import Encoder
    from pipeline.features.models import ImageEncoder
    from pipeline.features.patch_encoder import PatchEncoder

_FOLDER = "local-dir:"
"""What names of models begin with that are folders of this machine."""


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
    if params.needs_vision and params.vision.network and not params.needs_network:
        raise ParameterError(
            "--onnx takes along CLIP's own streams and networks of vision.encoder, and this run compares "
            "images by blocks of CLIP: leave --onnx out"
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
        categories: that the bundle has.

    Raises:
        ParameterError: this model is not exported.
        ModelError: the exported model gives other features or decisions.
        DataError: images to compare on cannot be read.
    """
    check_exportable(run.params, numbers)
    encoder = load_image_encoder(run.params, "cpu", keep=True)
    store = WeightsFile()
    parts = _exported(encoder, run, categories, store, numbers)
    weights = store.joined()
    entries = {
        **{graph_entry(name): graph for name, graph in parts.graphs.items()}, WEIGHTS: weights,
        POSITIONS: _npz(parts.positions), PROMPTS: _npz(parts.prompts),
    }  # fmt: skip
    model = GraphModel(
        _name(encoder, run.params.test_features()), numbers, parts.dim, parts.features,
        {name: digest_of(data) for name, data in entries.items()}, {}, parts.tiles,
    )  # fmt: skip
    try:
        sessions = {name: GraphSession(graph, weights) for name, graph in parts.graphs.items()}
    except ValueError as error:
        raise ModelError(f"the exported model cannot be used: {error}") from None
    exported = OnnxEncoder(model, sessions, parts.positions)
    comparison = GraphComparison(run, encoder, exported)
    judge = comparison.in_float32 if numbers == "fp32" else comparison.in_eight_bits
    thresholds = judge(categories)
    content = replace(model, compared=_versions() | asdict(comparison.told)).as_json()
    entries[MODEL] = json.dumps(content, ensure_ascii=False, indent=1).encode()
    return OnnxParts(entries, thresholds)


def _name(encoder: ImageEncoder, features: Sequence[Feature]) -> str:
    """Of a run's model, or of both; of what is a file or folder of this machine not where it lies."""
    models = [encoder.of(f) for f in features] if isinstance(encoder, EncoderPair) else [encoder]
    names = dict.fromkeys(model.name for model in models)
    return " and ".join(
        Path(name).name if name.endswith(".json") or name.startswith(_FOLDER) else name
        for name in names
    )


@dataclass(frozen=True)
class _Exported:
    """What is made of a model: graphs by name, and what :class:`OnnxEncoder` needs besides."""

    graphs: Mapping[str, bytes]
    features: Mapping[str, GraphFeature]
    dim: int = 0
    positions: Mapping[str, np.ndarray] = field(default_factory=dict)
    prompts: Mapping[str, np.ndarray] = field(default_factory=dict)
    tiles: GraphTiles | None = None


def _exported(
    encoder: ImageEncoder, run: FinishedRun, categories: Sequence[str], store: WeightsFile,
    numbers: Numbers,
) -> _Exported:  # fmt: skip
    """What is made of a run's model, or of both."""
    features = run.params.test_features()
    streams = [feature for feature in features if not of_vision(feature)]
    layers = [feature for feature in features if of_vision(feature)]
    found = _Exported({}, {})
    if streams:
        clip: Any = encoder.language if isinstance(encoder, EncoderPair) else encoder
        found = _clip(clip, run, streams, store, numbers)
        found = replace(found, prompts=_prompts(clip, run, categories))
    if layers:
        network: Any = encoder.of(layers[0]) if isinstance(encoder, EncoderPair) else encoder
        more = _network(network, run, layers, store, numbers)
        found = replace(
            found, graphs={**found.graphs, **more.graphs},
            features={**found.features, **more.features}, tiles=more.tiles,
        )  # fmt: skip
    return found


def _clip(
    encoder: Encoder, run: FinishedRun, features: Sequence[Feature], store: WeightsFile,
    numbers: Numbers,
) -> _Exported:  # fmt: skip
    """One graph of both streams, and the position embeddings of the sizes that are needed."""
    from fade.portable.clip_graph import clip_graph, output_name

    outputs = list(dict.fromkeys((feature.stream, feature.token) for feature in features))
    positions, known = {}, {}
    for feature in features:
        rows, columns = encoder.grid_of(feature, run.aspect)
        place = f"{rows}x{columns}"
        positions[place] = encoder.position((rows, columns)).detach().numpy()
        name = output_name(feature.stream, feature.token)
        known[feature.label] = _known(encoder, run, feature, name, CLIP, place)
    graph = clip_graph(encoder, outputs, store, numbers)
    return _Exported({CLIP: graph}, known, encoder.dim, positions)


def _network(
    encoder: PatchEncoder, run: FinishedRun, features: Sequence[Feature], store: WeightsFile,
    numbers: Numbers,
) -> _Exported:  # fmt: skip
    """A graph for each shape that the network is given: of a size, or of its tiles."""
    from fade.portable.network_graph import network_graph

    network: Any = encoder.encoder  # blocks of CLIP were refused
    shapes: dict[Shape, list[Feature]] = {}
    tiles, vision = None, run.params.vision
    for feature in features:
        pixels = encoder.pixels(feature, run.aspect)
        if found := encoder.tiles(pixels):
            tiles = GraphTiles(encoder.cell, vision.tile or 0, vision.overlap)
            rows, columns = found[0].shape  # all are of one shape
            pixels = rows * encoder.cell, columns * encoder.cell
        shapes.setdefault(pixels, []).append(feature)
    graphs, known = {}, {}
    for number, (pixels, here) in enumerate(shapes.items()):
        outputs = {feature: encoder.output_of(feature) for feature in here}
        wanted = list(dict.fromkeys(outputs.values()))
        graph = network_graph(network, wanted, pixels, store, numbers)
        if numbers == "int8" and b"MatMulInteger" not in graph:
            raise ParameterError(
                "--precision int8 computes linear layers in eight bits, and the layers of "
                f"{encoder.name} that this run takes are convolutions: take --precision fp32"
            )
        graphs[f"vision{number}"] = graph
        for feature, output in outputs.items():
            known[feature.label] = _known(encoder, run, feature, output.label, f"vision{number}")
    return _Exported(graphs, known, tiles=tiles)


def _known(
    encoder: Encoder | PatchEncoder, run: FinishedRun, feature: Feature, output: str, graph: str,
    position: str = "",
) -> GraphFeature:  # fmt: skip
    """How a feature is had."""
    return GraphFeature(
        encoder.pixels(feature, run.aspect), encoder.shape(feature, run.aspect),
        encoder.describe(feature, run.aspect), output, position, graph,
    )  # fmt: skip


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
    entries: dict[str, Any] = dict(arrays)  # numpy's stubs have options here, too
    np.savez(file, **entries)
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
