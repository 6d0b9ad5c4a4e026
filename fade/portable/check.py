"""Reads what an ONNX file asks for before a runtime does: operators, and where its weights lie.

A file may come from anywhere. The runtime would open the files that it names, and run loops that
never end. So only what this program writes passes: ONNX's own operators without loops, and weights
at places within one file that is given. Format: onnx.proto3 of ONNX, in the wire format of protobuf.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

WEIGHTS_NAME = "weights"
"""What graphs call the file of weights; it is given to the runtime, which opens none."""
ALIGNMENT = 64
OPSET = 20
IR_VERSION = 10
MAX_NODES = 100_000
SEVEN_BITS = 64
"""The largest weight of eight-bit layers, whose products are then exact on every processor.

Without VNNI, x86 adds two products of an uint8 and an int8 in 16 bits and cuts them off at 32,767
(``vpmaddubsw``): 2 * 255 * 127 is beyond, 2 * 255 * 64 within. Source: onnxruntime's documentation,
"Quantize ONNX Models", on ``reduce_range``, https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""
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
class Field:
    """A field of a message: its number of varints, bytes of the rest, and as it stands there."""

    number: int
    value: int
    data: memoryview
    raw: memoryview


_NOTHING = memoryview(b"")
_TYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64,
}  # fmt: skip
"""numpy's types by ONNX's numbers."""


@dataclass(frozen=True, slots=True)
class Weight:
    """An array of a graph that lies in the file of weights, at an offset in bytes."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def of(self, weights: np.ndarray) -> np.ndarray:
        """The array where it lies in the file's bytes."""
        place = weights[self.offset : self.offset + self.size]
        return place.view(self.dtype).reshape(self.shape)


class InexactError(ValueError):
    """Weights of eight bits whose products depend on the processor.

    Examples:
        >>> weight = Weight("c0", np.dtype(np.int8), (2, 1), 0)
        >>> check_exact([weight], np.array([127, 0], np.int8).view(np.uint8))
        Traceback (most recent call last):
            ...
        fade.portable.check.InexactError: its weights 'c0' have more than seven bits
    """


def check_exact(found: Iterable[Weight], weights: np.ndarray) -> None:
    """Refuse int8 weights beyond :data:`SEVEN_BITS`; full eight bits reach 127 in every column.

    Args:
        found: arrays that lie in the file of weights.
        weights: the file's bytes, uint8.

    Raises:
        InexactError: with the name of one that is beyond.
    """
    for one in found:
        if one.dtype == np.int8:
            values = one.of(weights)
            if values.min(initial=0) < -SEVEN_BITS or values.max(initial=0) > SEVEN_BITS:
                raise InexactError(f"its weights {one.name[:40]!r} have more than seven bits")


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


def fields(data: memoryview) -> Iterator[Field]:
    """The fields of a message."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield Field(number, value, _NOTHING, data[start:at])
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("it is no ONNX file")
        if length > len(data) - at:
            raise ValueError("it is cut short")
        at += length
        yield Field(number, 0, data[at - length : at], data[start:at])


def text(data: memoryview) -> str:
    """Bytes as text; ValueError where they are none."""
    return bytes(data).decode("utf-8")


def check_graph(data: bytes, weights: int) -> list[Weight]:
    """Refuse what this program would not have written.

    Returns:
        The arrays that lie in the file of weights.

    Args:
        data: of the ONNX file.
        weights: bytes of the file of weights.

    Raises:
        ValueError: with what is wrong, in words.
    """
    graphs, found = 0, []
    for entry in fields(memoryview(data)):
        if entry.number == 7:  # ModelProto.graph
            graphs += 1
            found = _check_nodes(entry.data, weights)
        elif entry.number in (20, 25, 26):  # training_info, functions, configuration
            raise ValueError("it holds more than a graph")
        elif entry.number == 8:  # opset_import
            for part in fields(entry.data):
                if part.number == 1 and text(part.data) not in ("", "ai.onnx"):
                    raise ValueError(f"it needs operators of {text(part.data)[:40]!r}")
    if graphs != 1:
        raise ValueError("it holds no graph")
    return found


def _check_nodes(graph: memoryview, weights: int) -> list[Weight]:
    nodes, found = 0, []
    for entry in fields(graph):
        if entry.number == 1:  # GraphProto.node
            nodes += 1
            _check_node(entry.data)
        elif entry.number == 5:  # initializer
            found += _weights_of(entry.data, weights)
        elif entry.number == 15:  # sparse_initializer
            raise ValueError("it holds sparse weights")
    if nodes > MAX_NODES:
        raise ValueError(f"it has {nodes:,} operations, at most {MAX_NODES:,} are run")
    if len({one.name for one in found}) < len(found):
        raise ValueError("two of its weights have one name")
    return found


def _check_node(node: memoryview) -> None:
    for entry in fields(node):
        if entry.number == 4 and text(entry.data) not in OPERATORS:  # op_type
            raise ValueError(f"it uses the operator {text(entry.data)[:40]!r}")
        if entry.number == 7 and text(entry.data) not in ("", "ai.onnx"):  # domain
            raise ValueError(f"it needs operators of {text(entry.data)[:40]!r}")
        if entry.number == 5:  # attribute
            for part in fields(entry.data):
                if part.number in (5, 10):  # t, tensors
                    if _weights_of(part.data, 0):
                        raise ValueError("its weights lie elsewhere than in the bundle")
                elif part.number in (6, 11, 22, 23):  # g, graphs, sparse_tensor, sparse_tensors
                    raise ValueError("an operation holds a graph of its own")


def _weights_of(tensor: memoryview, weights: int) -> list[Weight]:
    """The array, if it does not lie in the graph but within the one file that is given."""
    name, kind, shape = "", 0, []
    place: dict[str, str] = {}
    external = False
    for entry in fields(tensor):
        if entry.number == 1:  # dims
            shape += _numbers(entry)
        elif entry.number == 2:  # data_type
            kind = entry.value
        elif entry.number == 8:  # name
            name = text(entry.data)
        elif entry.number == 13:  # external_data
            parts = {part.number: text(part.data) for part in fields(entry.data)}
            place[parts.get(1, "")] = parts.get(2, "")
            external = True
        elif entry.number == 14:  # data_location
            external |= entry.value != 0
    if not external:
        return []
    numbers = [place.get(key, "") for key in ("offset", "length")]
    if (
        set(place) != {"location", "offset", "length"}
        or place["location"] != WEIGHTS_NAME
        or not all(number.isascii() and number.isdigit() and len(number) < 16 for number in numbers)
        or sum(map(int, numbers)) > weights
    ):
        raise ValueError("its weights lie elsewhere than in the bundle")
    offset, length = map(int, numbers)
    if kind not in _TYPES or prod(shape) * np.dtype(_TYPES[kind]).itemsize != length:
        raise ValueError(f"its weights {name[:40]!r} have not the length of their shape")
    return [Weight(name, np.dtype(_TYPES[kind]), tuple(shape), offset)]


def _numbers(entry: Field) -> list[int]:
    """Numbers that stand one by one, or packed."""
    if not entry.data:
        return [entry.value]
    found, at = [], 0
    while at < len(entry.data):
        value, at = _varint(entry.data, at)
        found.append(value)
    return found
