"""A network for vision as an ONNX graph: torch's trace of it, operation by operation.

The graph takes ``pixels``, one image (1, H, W, 3) uint8 of a fixed shape, so that all else that
depends on the shape, such as position embeddings, is a constant. Whatever has no image as its source
is computed here, once. An operation that is not known is refused, never approximated.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.aspect import Shape
from fade.errors import ModelError
from fade.portable.builder import GraphBuilder, WeightsFile
from fade.portable.layers import array, linear, normalized_images
from fade.portable.numbers import Numbers

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

    from fade.encoders.protocol import Output
    from fade.encoders.timm_cnn import TimmCNN
    from fade.encoders.timm_vit import TimmViT

LAST = np.iinfo(np.int64).max
SAME = {"clone", "contiguous", "dropout", "to", "type_as", "alias", "detach", "_to_copy"}
SHAPED = {"reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view"}
PLAIN = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "neg": "Neg", "matmul": "MatMul",
         "hardswish": "HardSwish", "exp": "Exp", "sqrt": "Sqrt", "abs": "Abs"}  # fmt: skip
BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}


def network_graph(
    encoder: TimmCNN | TimmViT,
    outputs: Sequence[Output],
    pixels: Shape,
    weights: WeightsFile,
    numbers: Numbers = "fp32",
) -> bytes:
    """The ONNX file of a network for images of one shape.

    Args:
        encoder: the network, in float32 on the CPU.
        outputs: what it gives, each under its label.
        pixels: (height, width) of the images.
        weights: takes the large arrays.
        numbers: of linear layers; convolutions stay in float32, since one scale for all channels of an
            image leaves nothing of EfficientNet's features.

    Raises:
        ModelError: the network has an operation that is not known here.

    Examples:
        >>> import timm
        >>> from fade.encoders.timm_cnn import TimmCNN
        >>> network, half = timm.create_model("test_resnet"), (0.5, 0.5, 0.5)
        >>> encoder = TimmCNN(network, name="small", mean=half, std=half)
        >>> weights, level = WeightsFile(), encoder.output([1])
        >>> graph = network_graph(encoder, [level], (32, 32), weights)
        >>> from fade.portable.session import GraphSession
        >>> session = GraphSession(graph, weights.joined())
        >>> session.run({"pixels": np.zeros((1, 32, 32, 3), np.uint8)}, [level.label])[0].shape
        (1, 8, 8, 32)
    """
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = encoder.network  # so that the trace knows its weights

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            found = encoder.tensors(images, outputs)
            return [found[output] for output in outputs]

    with torch.no_grad():
        # positions are computed once for each grid, which a trace must not be the first to do
        encoder.tensors(torch.zeros(1, 3, *pixels), outputs)
        program = torch.export.export(Whole().eval(), (torch.zeros(1, 3, *pixels),), strict=False)
        graph = GraphBuilder(weights)
        images = normalized_images(graph, encoder.mean, encoder.std)
        results = _Translation(graph, numbers, encoder.name).of(program, images)
    return graph.finish(
        [("pixels", np.uint8, [1, *pixels, 3])],
        {output.label: result for output, result in zip(outputs, results, strict=True)},
    )


def _shape(node: Node) -> list[int]:
    return [int(side) for side in node.meta["val"].shape]


def _pair(value: int | Sequence[int]) -> list[int]:
    sides = [value] if isinstance(value, int) else list(value)
    return sides * 2 if len(sides) == 1 else sides


class _Translation:
    """Of operations of torch's to ONNX's. Results are names; tensors are constants so far."""

    def __init__(self, graph: GraphBuilder, numbers: Numbers, name: str) -> None:
        self.graph, self.numbers, self.name = graph, numbers, name
        self.op, self.constant = graph.op, graph.constant

    def of(self, program: ExportedProgram, images: str) -> list[str]:
        """The names of the program's results."""
        from torch.export.graph_signature import InputKind

        kept: Mapping[str, Any] = {**program.state_dict, **program.constants}
        values: dict[Any, Any] = {}
        inputs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                spec = inputs[node.name]
                given = spec.kind == InputKind.USER_INPUT
                values[node] = images if given else kept[str(spec.target)]
            elif node.op == "call_function":
                values[node] = self.result(node, values)
            elif node.op == "output":
                return [self.named(values[one]) for one in node.args[0]]
        raise ModelError(f"ONNX: {self.name} gives nothing")

    def named(self, value: Any) -> str:
        """The name of a result, a tensor or a number."""
        if isinstance(value, str):
            return value
        return self.constant(np.float32(value) if isinstance(value, int | float) else array(value))

    def result(self, node: Node, values: dict[Any, Any]) -> Any:
        """What an operation gives; one that changes its input in place gives that, too."""
        from torch.fx import map_arg

        found: list[Any] = []
        args: Any = map_arg(node.args, values.__getitem__)
        kwargs: Any = map_arg(node.kwargs, values.__getitem__)
        map_arg((node.args, node.kwargs), lambda one: found.append(values[one]))
        target: Any = node.target
        if target is operator.getitem:
            return args[0][args[1]]
        if not any(isinstance(one, str | list) for one in found):
            return target(*args, **kwargs)
        kind = target._schema.name.split("::")[1]
        given = {
            one.name: args[i] if i < len(args) else kwargs.get(one.name, one.default_value)
            for i, one in enumerate(target._schema.arguments)
        }
        result = self.translated(kind.rstrip("_"), given, node)
        if kind.endswith("_") and node.args:
            values[node.args[0]] = result
        return result

    def translated(self, kind: str, given: dict[str, Any], node: Node) -> Any:
        first = next(iter(given.values()))
        if kind == "_assert_tensor_metadata":
            return None
        if kind in SAME:
            return first
        if kind in SHAPED:
            return self.shaped(first, _shape(node))
        if kind in PLAIN:
            others = [self.named(one) for one in given.values() if one is not None]
            return self.op(PLAIN[kind], *others)
        if kind in BINARY and given.get("alpha", 1) == 1 and not given.get("rounding_mode"):
            return self.op(BINARY[kind], self.named(first), self.named(given["other"]))
        known: Callable[..., Any] | None = getattr(self, f"to_{kind}", None)
        if known is None:
            raise ModelError(f"ONNX: the operation {kind} of {self.name} is not known here")
        return known(
            node, **{"first" if k in ("input", "self") else k: v for k, v in given.items()}
        )

    def shaped(self, value: str, shape: Sequence[int]) -> str:
        return str(self.op("Reshape", value, self.constant(np.array(shape, np.int64))))

    # layers

    def to_conv2d(
        self, node: Node, first: str, weight: Any, bias: Any, stride: Any, padding: Any,
        dilation: Any, groups: int,
    ) -> str:  # fmt: skip
        parts = [self.named(one) for one in (weight, bias) if one is not None]
        return str(
            self.op("Conv", first, *parts, strides=_pair(stride), pads=_pair(padding) * 2,
                    dilations=_pair(dilation), group=groups)
        )  # fmt: skip

    def to_linear(self, node: Node, first: str, weight: Any, bias: Any) -> str:
        return linear(self.graph, first, weight, bias, self.numbers)

    def to_batch_norm(
        self, node: Node, first: str, weight: Any, bias: Any, running_mean: Any, running_var: Any,
        training: bool, momentum: float, eps: float, **_: Any,
    ) -> str:  # fmt: skip
        parts = [self.named(one) for one in (weight, bias, running_mean, running_var)]
        return str(self.op("BatchNormalization", first, *parts, epsilon=float(eps)))

    def to_layer_norm(
        self, node: Node, first: str, normalized_shape: Sequence[int], weight: Any, bias: Any,
        eps: float, **_: Any,
    ) -> str:  # fmt: skip
        ones = np.ones(tuple(normalized_shape), np.float32)
        scale = self.constant(ones) if weight is None else self.named(weight)
        shift = self.constant(ones * 0) if bias is None else self.named(bias)
        return str(
            self.op("LayerNormalization", first, scale, shift, axis=-len(normalized_shape),
                    epsilon=float(eps))
        )  # fmt: skip

    def to_scaled_dot_product_attention(
        self, node: Node, query: str, key: str, value: str, attn_mask: Any, is_causal: bool,
        scale: float | None, enable_gqa: bool, **_: Any,
    ) -> str:  # fmt: skip
        if attn_mask is not None or is_causal or enable_gqa:
            raise ModelError(
                f"ONNX: the attention of {self.name} has a mask, which is not known here"
            )
        width, axes = _shape(node)[-1], list(range(len(_shape(node))))
        turned = self.op("Transpose", key, perm=[*axes[:-2], axes[-1], axes[-2]])
        query = self.op("Mul", query, self.named(width**-0.5 if scale is None else scale))
        weights = self.op("Softmax", self.op("MatMul", query, turned), axis=-1)
        return str(self.op("MatMul", weights, value))

    def to_softmax(self, node: Node, first: str, dim: int, **_: Any) -> str:
        return str(self.op("Softmax", first, axis=dim))

    # activations

    def to_gelu(self, node: Node, first: str, approximate: str) -> str:
        return str(self.op("Gelu", first, approximate=approximate))

    def to_silu(self, node: Node, first: str) -> str:
        return str(self.op("Mul", first, self.op("Sigmoid", first)))

    def to_hardsigmoid(self, node: Node, first: str) -> str:
        return str(self.op("HardSigmoid", first, alpha=1 / 6, beta=0.5))

    def to_hardtanh(self, node: Node, first: str, min_val: float, max_val: float) -> str:
        return str(self.op("Clip", first, self.named(min_val), self.named(max_val)))

    def to_relu6(self, node: Node, first: str) -> str:
        return self.to_hardtanh(node, first, 0, 6)

    def to_leaky_relu(self, node: Node, first: str, negative_slope: float) -> str:
        return str(self.op("LeakyRelu", first, alpha=float(negative_slope)))

    # pools and borders

    def to_max_pool2d(
        self, node: Node, first: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
        ceil_mode: bool,
    ) -> str:  # fmt: skip
        return str(
            self.op("MaxPool", first, kernel_shape=_pair(kernel_size),
                    strides=_pair(stride or kernel_size), pads=_pair(padding) * 2,
                    dilations=_pair(dilation), ceil_mode=int(ceil_mode))
        )  # fmt: skip

    def to_avg_pool2d(
        self, node: Node, first: str, kernel_size: Any, stride: Any, padding: Any,
        ceil_mode: bool, count_include_pad: bool, divisor_override: Any,
    ) -> str:  # fmt: skip
        return str(
            self.op("AveragePool", first, kernel_shape=_pair(kernel_size),
                    strides=_pair(stride or kernel_size), pads=_pair(padding) * 2,
                    ceil_mode=int(ceil_mode), count_include_pad=int(count_include_pad))
        )  # fmt: skip

    def to_mean(self, node: Node, first: str, dim: Sequence[int], keepdim: bool, **_: Any) -> str:
        axes = self.constant(np.array(dim, np.int64))
        return str(self.op("ReduceMean", first, axes, keepdims=int(keepdim)))

    def to_pad(self, node: Node, first: str, pad: Sequence[int], mode: str, value: Any) -> str:
        if mode != "constant":
            raise ModelError(f"ONNX: {self.name} pads by {mode}, which is not known here")
        before, after = list(pad[::2])[::-1], list(pad[1::2])[::-1]  # torch begins at the last side
        kept = [0] * (len(_shape(node)) - len(before))
        sides = self.constant(np.array([*kept, *before, *kept, *after], np.int64))
        return str(self.op("Pad", first, sides, self.named(value or 0)))

    # sides

    def to_permute(self, node: Node, first: str, dims: Sequence[int]) -> str:
        return str(self.op("Transpose", first, perm=[d % len(dims) for d in dims]))

    def to_transpose(self, node: Node, first: str, dim0: int, dim1: int) -> str:
        axes = list(range(len(_shape(node))))
        axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
        return str(self.op("Transpose", first, perm=axes))

    def to_expand(self, node: Node, first: str, **_: Any) -> str:
        return str(self.op("Expand", first, self.constant(np.array(_shape(node), np.int64))))

    def to_cat(self, node: Node, tensors: Sequence[Any], dim: int) -> str:
        return str(self.op("Concat", *map(self.named, tensors), axis=dim))

    def to_stack(self, node: Node, tensors: Sequence[Any], dim: int) -> str:
        shape = _shape(node)
        shape[dim] = 1
        parts = [self.shaped(self.named(one), shape) for one in tensors]
        return str(self.op("Concat", *parts, axis=dim))

    def to_slice(
        self, node: Node, first: str, dim: int, start: int | None, end: int | None, step: int
    ) -> str:
        last = LAST if end is None else end
        numbers = [np.array([n], np.int64) for n in (start or 0, last, dim, step)]
        return str(self.op("Slice", first, *map(self.constant, numbers)))

    def to_select(self, node: Node, first: str, dim: int, index: int) -> str:
        return str(self.op("Gather", first, self.constant(np.int64(index)), axis=dim))

    def to_unbind(self, node: Node, first: str, dim: int) -> list[str]:
        count = len(node.meta["val"])
        return [self.to_select(node, first, dim, index) for index in range(count)]

    def to_chunk(self, node: Node, first: str, dim: int, **_: Any) -> list[str]:
        lengths = [int(part.shape[dim]) for part in node.meta["val"]]
        sizes = self.constant(np.array(lengths, np.int64))
        found = self.op("Split", first, sizes, axis=dim, outputs=len(lengths))
        return found if len(lengths) > 1 else [found]

    to_split = to_split_with_sizes = to_chunk
