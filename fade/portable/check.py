"""Reads what an ONNX file asks for before a runtime does: operators, and where its weights lie.

A file may come from anywhere. The runtime would open the files that it names, and run loops that
never end. So only what this program writes passes: ONNX's own operators without loops, and weights
at places within one file that is given. Format: onnx.proto3 of ONNX, in the wire format of protobuf.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

WEIGHTS_NAME = "weights"
"""What graphs call the file of weights; it is given to the runtime, which opens none."""
ALIGNMENT = 64
OPSET = 20
IR_VERSION = 10
MAX_NODES = 100_000
OPERATORS = frozenset(
    {
        "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant",
        "Conv", "Cos", "Div", "DynamicQuantizeLinear", "Erf", "Exp", "Expand", "Flatten",
        "Gather", "Gelu", "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity",
        "LayerNormalization", "LeakyRelu", "LpNormalization", "MatMul", "MatMulInteger", "Max",
        "MaxPool", "Min", "Mul", "Neg", "Pad", "Pow", "Range", "Reciprocal", "ReduceL2",
        "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Sin", "Slice",
        "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile",
        "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators that a graph may use: none runs another graph, or opens anything."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    value: int
    data: memoryview


_NOTHING = memoryview(b"")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: memoryview) -> Iterator[_Field]:
    """The fields of a message: numbers of varints, bytes of the rest."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield _Field(number, value, _NOTHING)
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("it is no ONNX file")
        if length > len(data) - at:
            raise ValueError("it is cut short")
        yield _Field(number, 0, data[at : at + length])
        at += length


def _text(data: memoryview) -> str:
    return bytes(data).decode("utf-8")


def check_graph(data: bytes, weights: int) -> None:
    """Refuse what this program would not have written.

    Args:
        data: of the ONNX file.
        weights: bytes of the file of weights.

    Raises:
        ValueError: with what is wrong, in words.
    """
    graphs = 0
    for entry in _fields(memoryview(data)):
        if entry.number == 7:  # ModelProto.graph
            graphs += 1
            _check_nodes(entry.data, weights)
        elif entry.number in (20, 25, 26):  # training_info, functions, configuration
            raise ValueError("it holds more than a graph")
        elif entry.number == 8:  # opset_import
            for part in _fields(entry.data):
                if part.number == 1 and _text(part.data) not in ("", "ai.onnx"):
                    raise ValueError(f"it needs operators of {_text(part.data)[:40]!r}")
    if graphs != 1:
        raise ValueError("it holds no graph")


def _check_nodes(graph: memoryview, weights: int) -> None:
    nodes = 0
    for entry in _fields(graph):
        if entry.number == 1:  # GraphProto.node
            nodes += 1
            _check_node(entry.data, weights)
        elif entry.number == 5:  # initializer
            _check_tensor(entry.data, weights)
        elif entry.number == 15:  # sparse_initializer
            raise ValueError("it holds sparse weights")
    if nodes > MAX_NODES:
        raise ValueError(f"it has {nodes:,} operations, at most {MAX_NODES:,} are run")


def _check_node(node: memoryview, weights: int) -> None:
    for entry in _fields(node):
        if entry.number == 4 and _text(entry.data) not in OPERATORS:  # op_type
            raise ValueError(f"it uses the operator {_text(entry.data)[:40]!r}")
        if entry.number == 7 and _text(entry.data) not in ("", "ai.onnx"):  # domain
            raise ValueError(f"it needs operators of {_text(entry.data)[:40]!r}")
        if entry.number == 5:  # attribute
            for part in _fields(entry.data):
                if part.number in (5, 10):  # t, tensors
                    _check_tensor(part.data, weights)
                elif part.number in (6, 11, 22, 23):  # g, graphs, sparse_tensor, sparse_tensors
                    raise ValueError("an operation holds a graph of its own")


def _check_tensor(tensor: memoryview, weights: int) -> None:
    """Weights lie in the graph, or within the one file that is given."""
    place: dict[str, str] = {}
    external = False
    for entry in _fields(tensor):
        if entry.number == 13:  # external_data
            parts = {part.number: _text(part.data) for part in _fields(entry.data)}
            place[parts.get(1, "")] = parts.get(2, "")
            external = True
        elif entry.number == 14:  # data_location
            external |= entry.value != 0
    if not external:
        return
    numbers = [place.get(key, "") for key in ("offset", "length")]
    if (
        set(place) != {"location", "offset", "length"}
        or place["location"] != WEIGHTS_NAME
        or not all(number.isascii() and number.isdigit() and len(number) < 16 for number in numbers)
        or sum(map(int, numbers)) > weights
    ):
        raise ValueError("its weights lie elsewhere than in the bundle")
