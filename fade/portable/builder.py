"""Builds ONNX graphs operation by operation, with large weights in a file beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.errors import ParameterError
from fade.portable.check import ALIGNMENT, IR_VERSION, OPSET, WEIGHTS_NAME

if TYPE_CHECKING:
    import onnx

LARGE = 1024
"""Arrays of so many bytes lie in the file of weights; smaller ones in the graph."""


def require_onnx() -> None:
    """Refuse (ParameterError) to write graphs where their packages are not installed.

    Examples:
        >>> require_onnx()  # it is installed here
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ParameterError(
            f"ONNX needs the package {error.name}: run `pip install 'fade-pipeline[onnx]'`"
        ) from None


@dataclass
class WeightsFile:
    """Arrays that graphs share, each once, by their content.

    Attributes:
        parts: bytes in their order, each at a multiple of :data:`ALIGNMENT`.
        size: bytes so far.

    Examples:
        >>> weights = WeightsFile()
        >>> weights.add(b"first"), weights.add(b"second"), weights.add(b"first")
        (0, 64, 0)
    """

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    _places: dict[bytes, int] = field(default_factory=dict)

    def add(self, data: bytes) -> int:
        """Where in the file these bytes begin."""
        digest = hashlib.blake2b(data, digest_size=20).digest()
        if digest not in self._places:
            gap = -self.size % ALIGNMENT
            self._places[digest] = self.size + gap
            self.parts += [bytes(gap), data]
            self.size += gap + len(data)
        return self._places[digest]

    def joined(self) -> bytes:
        """The file."""
        return b"".join(self.parts)


class GraphBuilder:
    """One graph: operations are added in order and named by their results.

    Args:
        weights: takes large arrays.
    """

    def __init__(self, weights: WeightsFile) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add an operation.

        Args:
            kind: of ONNX's own operators.
            inputs: names of what it takes.
            outputs: how many it gives.
            attributes: of the operator.

        Returns:
            The name of its result, or a list of names.
        """
        from onnx import helper

        names = [f"{kind.lower()}{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array: Any) -> str:
        """The name of an array; equal ones have one."""
        values = np.asarray(array)
        values = np.ascontiguousarray(values).reshape(values.shape)
        data = values.tobytes()
        key = values.dtype.str, values.shape, hashlib.blake2b(data, digest_size=20).digest()
        if key not in self._constants:
            self._constants[key] = f"c{len(self._constants)}"
            self._initializers.append(
                tensor(self._constants[key], values.dtype, values.shape, data, self._weights)
            )
        return self._constants[key]

    def finish(
        self, inputs: Sequence[tuple[str, Any, list[Any]]], outputs: dict[str, str]
    ) -> bytes:
        """The graph's file.

        Args:
            inputs: name, numpy type and shape of each; names stand for sides of any length.
            outputs: for each name the result that it is.
        """
        from onnx import TensorProto, helper

        for name, result in outputs.items():
            self._nodes.append(helper.make_node("Identity", [result], [name]))
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
                )
                for name, dtype, shape in inputs
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self._initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        return bytes(model.SerializeToString(deterministic=True))


def tensor(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], data: bytes, weights: WeightsFile
) -> onnx.TensorProto:
    """A constant of a graph, whose bytes lie in the file of weights where they are many."""
    from onnx import TensorProto, helper

    found = TensorProto(
        name=name, dims=list(shape), data_type=helper.np_dtype_to_tensor_dtype(dtype)
    )
    if len(data) < LARGE:
        found.raw_data = data
        return found
    place = {"location": WEIGHTS_NAME, "offset": weights.add(data), "length": len(data)}
    found.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        found.external_data.add(key=key, value=str(value))
    return found
