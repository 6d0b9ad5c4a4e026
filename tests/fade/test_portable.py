"""Encoders as ONNX: the graph's numbers are the encoder's, and nobody else's graph is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from fade.encoder import Encoder
from fade.gem import GemConfig
from fade.portable import session as sessions
from fade.portable.builder import GraphBuilder, WeightsFile
from fade.portable.check import OPSET, SEVEN_BITS, InexactError, check_graph
from fade.portable.clip_graph import clip_graph, output_name
from fade.portable.layers import linear
from fade.portable.numbers import Numbers
from fade.portable.session import GraphSession
from fade.types import Stream, Token
from tests.fade.test_encoder import ALL, VARIANTS, small, write_config

Outputs = list[tuple[Stream, Token]]


def run(
    encoder: Encoder, pixels: np.ndarray, outputs: Outputs, numbers: Numbers = "fp32"
) -> dict[tuple[Stream, Token], np.ndarray]:
    store = WeightsFile()
    graph = clip_graph(encoder, outputs, store, numbers)
    session = GraphSession(graph, store.joined())
    rows, columns = (side // encoder.patch_size for side in pixels.shape[1:3])
    given = {"pixels": pixels, "position": encoder.position((rows, columns)).detach().numpy()}
    names = [output_name(*output) for output in outputs]
    return dict(zip(outputs, session.run(given, names), strict=True))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("variant", ["plain", "layer scale", "no first norm", "tanh", "quick"])
def test_a_graph_gives_the_encoders_features(variant: str, tmp_path: Path) -> None:
    quick = {"quick_gelu": True} if variant == "quick" else {}
    encoder = small(tmp_path, VARIANTS.get(variant), **quick)
    for shape in ((2, 32, 32), (3, 40, 24)):
        pixels = noise(*shape)
        own, found = encoder.encode_images(pixels, ALL), run(encoder, pixels, ALL)
        for output in ALL:
            assert found[output].shape == own[output].shape
            np.testing.assert_allclose(found[output], own[output], atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("outputs", "gem"),
    [
        ([("clip", "cls")], GemConfig(2)),
        ([("gem", "patch")], GemConfig(4, 2)),
        ([("clip", "cls"), ("gem", "patch")], GemConfig(2, 0, 3.0)),
    ],
)
def test_any_outputs_and_any_gem(outputs: Outputs, gem: GemConfig, tmp_path: Path) -> None:
    encoder = Encoder.load(write_config(tmp_path), "seeded", gem=gem)
    own = encoder.encode_images(noise(2, 32, 48), outputs)
    for output, found in run(encoder, noise(2, 32, 48), outputs).items():
        np.testing.assert_allclose(found, own[output], atol=2e-6, rtol=0)


def test_eight_bits_stay_near(tmp_path: Path) -> None:
    encoder = small(tmp_path)
    own = encoder.encode_images(noise(1, 32, 32), ALL)
    for output, found in run(encoder, noise(1, 32, 32), ALL, "int8").items():
        cosines = (found * own[output]).sum(axis=-1)
        assert 0.99 < cosines.min() < 1 - 1e-7


def product(tokens: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What this processor makes of the product of whole numbers that layers with int8 hold."""
    store = WeightsFile()
    builder = GraphBuilder(store)
    zero = builder.constant(np.uint8(0))
    result = builder.op("MatMulInteger", "x", builder.constant(weights), zero)
    result = builder.op("Cast", result, to=1)
    graph = builder.finish([("x", np.uint8, ["n", len(weights)])], {"y": result})
    return GraphSession(graph, store.joined()).run({"x": tokens}, ["y"])[0]


@pytest.mark.parametrize("sign", [-1, 0, 1])
@pytest.mark.parametrize(("rows", "width", "columns"), [(1, 64, 48), (37, 63, 33), (197, 256, 96)])
def test_products_of_eight_bits_are_exact(rows: int, width: int, columns: int, sign: int) -> None:
    """The largest tokens, and weights as large as layers have them, of one sign or both."""
    generator = np.random.default_rng(0)
    tokens = np.full((rows, width), 255, np.uint8)
    signs = np.full((width, columns), sign) if sign else generator.choice([-1, 1], (width, columns))
    store = WeightsFile()
    weight = torch.from_numpy(signs.T.astype(np.float32))
    linear(GraphBuilder(store), "x", weight, None, "int8")
    (part,) = (part for part in store.parts if len(part) == width * columns)
    held = np.frombuffer(part, np.int8).reshape(width, columns)
    assert np.array_equal(held, signs * SEVEN_BITS)
    assert np.array_equal(product(tokens, held), tokens.astype(np.int64) @ held.astype(np.int64))


def test_weights_of_full_eight_bits_are_refused() -> None:
    """Whose products depend on the processor."""
    for largest in (SEVEN_BITS + 1, 127, -128):
        with pytest.raises(InexactError, match="more than seven bits"):
            product(np.zeros((1, 64), np.uint8), np.full((64, 64), largest, np.int8))


def test_equal_weights_lie_in_the_file_once(tmp_path: Path) -> None:
    encoder, store = small(tmp_path), WeightsFile()
    first = clip_graph(encoder, ALL, store)
    size = store.size
    assert clip_graph(encoder, ALL, store) == first
    assert store.size == size == len(store.joined())


def model(*nodes: Any, initializers: Any = (), **options: Any) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.FLOAT, None)],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], **options)


def elsewhere(location: str, offset: str = "0", length: str = "8", **more: str) -> TensorProto:
    tensor = TensorProto(name="w", dims=[2], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    place = {"location": location, "offset": offset, "length": length, **more}
    for key, text in place.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


def branch() -> onnx.ModelProto:
    inner = model().graph
    return model(
        helper.make_node("Identity", ["x"], ["y"], body=inner),
    )


def foreign_opset() -> onnx.ModelProto:
    found = model()
    found.opset_import.append(helper.make_opsetid("com.example", 1))
    return found


def function() -> onnx.ModelProto:
    node = helper.make_node("Identity", ["a"], ["b"])
    opset = helper.make_opsetid("", OPSET)
    return model(
        functions=[helper.make_function("com.example", "F", ["a"], ["b"], [node], [opset])]
    )


def in_attribute() -> onnx.ModelProto:
    return model(helper.make_node("Constant", [], ["y"], value=elsewhere("/etc/passwd")))


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "another file": (lambda: model(initializers=[elsewhere("../secret")]), "weights lie elsewhere"),
    "behind the end": (
        lambda: model(initializers=[elsewhere("weights", "96")]), "weights lie elsewhere",
    ),
    "negative": (
        lambda: model(initializers=[elsewhere("weights", "-8")]), "weights lie elsewhere",
    ),
    "twice": (
        lambda: model(initializers=[elsewhere("weights", checksum="0")]), "weights lie elsewhere",
    ),
    "in an attribute": (in_attribute, "weights lie elsewhere"),
    "another length": (
        lambda: model(initializers=[elsewhere("weights", length="12")]), "not the length of",
    ),
    "a name twice": (
        lambda: model(initializers=[elsewhere("weights"), elsewhere("weights", "8")]), "one name",
    ),
    "foreign operator": (
        lambda: model(helper.make_node("Identity", ["x"], ["y"], domain="com.example")),
        "operators of 'com.example'",
    ),
    "foreign operators": (foreign_opset, "operators of 'com.example'"),
    "loop": (lambda: model(helper.make_node("Loop", ["x"], ["y"])), "operator 'Loop'"),
    "branch": (branch, "a graph of its own"),
    "function": (function, "more than a graph"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_graphs_of_others_are_refused(case: str) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason):
        check_graph(make().SerializeToString(), 100)


def test_damaged_graphs_are_refused(tmp_path: Path) -> None:
    good = model(initializers=[elsewhere("weights")]).SerializeToString()
    check_graph(good, 100)
    for length in range(len(good) // 2):
        with pytest.raises(ValueError, match=r"cut short|within a number|no graph|elsewhere"):
            check_graph(good[:length], 100)
    store = WeightsFile()
    graph = clip_graph(small(tmp_path), ALL, store)
    with pytest.raises(ValueError, match="elsewhere"):
        GraphSession(graph, store.joined()[:-1])


def test_a_graph_that_fails_says_so_by_its_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    builder = GraphBuilder(WeightsFile())
    product = builder.op("MatMul", "x", builder.constant(np.ones((3, 3), np.float32)))
    session = GraphSession(builder.finish([("x", np.float32, ["n"])], {"y": product}), b"")
    with pytest.raises(ValueError, match="onnxruntime fails"):
        session.run({"x": np.ones(2, np.float32)}, ["y"])
    assert capfd.readouterr() == ("", "")


def test_weights_are_read_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, store, pixels = small(tmp_path), WeightsFile(), noise(2, 32, 32)
    graph = clip_graph(encoder, ALL, store)
    weights, names = store.joined(), [output_name(*output) for output in ALL]
    grid = (32 // encoder.patch_size,) * 2
    given = {"pixels": pixels, "position": encoder.position(grid).detach().numpy()}
    own = GraphSession(graph, weights).run(given, names)
    monkeypatch.setattr(sessions, "PACKED", 0)
    for data, start, same in ((weights, 128, True), (bytes(len(weights)), 128, False)):
        file = tmp_path / f"{same}.fade"
        file.write_bytes(bytes(start) + data)
        found = GraphSession(graph, weights, (file, start)).run(given, names)
        assert all(map(np.array_equal, own, found)) is same
    with pytest.raises(ValueError, match="onnxruntime refuses"):
        GraphSession(graph, weights, (tmp_path / "none.fade", 128))
    found = GraphSession(graph, weights, (tmp_path / "none.fade", 129)).run(given, names)
    assert all(map(np.array_equal, own, found))  # copied, as they lie at no multiple of 64
