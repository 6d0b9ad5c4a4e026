"""The vision tower of a CLIP model as an ONNX graph, with both streams of :class:`Encoder`.

Inputs are ``pixels``, (B, H, W, 3) uint8, and ``position``, the embedding of their grid, so that one
graph serves all sizes. With ``int8`` the weights of linear layers have seven bits, one scale a
column, and their inputs are quantized as they come, one scale for all of them (ONNX's
DynamicQuantizeLinear): images go through alone, or they would change each other.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.errors import ModelError
from fade.portable.builder import GraphBuilder, WeightsFile
from fade.portable.layers import SHORTEST, array, linear, normalized_images
from fade.portable.numbers import Numbers
from fade.types import Stream, Token

if TYPE_CHECKING:
    from fade.encoder import Encoder
    from fade.encoder.block import TransformerBlock


def output_name(stream: Stream, token: Token) -> str:
    """What the graph calls an output.

    Examples:
        >>> output_name("gem", "patch")
        'gem_patch'
    """
    return f"{stream}_{token}"


def clip_graph(
    encoder: Encoder,
    outputs: Collection[tuple[Stream, Token]],
    weights: WeightsFile,
    numbers: Numbers = "fp32",
) -> bytes:
    """The ONNX file of a model's vision tower.

    Args:
        encoder: the model, in float32 on the CPU.
        outputs: wanted (stream, token) pairs; each becomes an output of unit vectors.
        weights: takes the large arrays.
        numbers: of linear layers.

    Raises:
        ModelError: the tower has a part that is not known here.

    Examples:
        >>> from importlib.resources import files
        >>> from fade.encoder import Encoder
        >>> from fade.portable.session import GraphSession
        >>> demo = files("pipeline.demo")
        >>> model = Encoder.load(str(demo / "fade-demo.json"), str(demo / "fade-demo.safetensors"))
        >>> weights = WeightsFile()
        >>> graph = clip_graph(model, [("clip", "cls")], weights)
        >>> session = GraphSession(graph, weights.joined())
        >>> images = np.zeros((2, 32, 16, 3), np.uint8)
        >>> inputs = {"pixels": images, "position": model.position((4, 2)).numpy()}
        >>> session.run(inputs, ["clip_cls"])[0].shape
        (2, 128)
    """
    return _Tower(encoder, weights, numbers).file(list(outputs))


class _Tower:
    def __init__(self, encoder: Encoder, weights: WeightsFile, numbers: Numbers) -> None:
        self.encoder, self.numbers = encoder, numbers
        self.visual, self.blocks = encoder.tower
        self.graph = GraphBuilder(weights)
        self.op, self.constant = self.graph.op, self.graph.constant
        self.axis = {n: self.constant(np.array([n], np.int64)) for n in (0, 1, 2, -1)}

    def file(self, outputs: list[tuple[Stream, Token]]) -> bytes:
        streams = self.streams(self.embed(), outputs)
        found = {}
        for stream, token in outputs:
            first, last = (0, 1) if token == "cls" else (1, np.iinfo(np.int64).max)
            tokens = self.cut(streams[stream], first, last)
            tokens = self.norm(tokens, self.visual.ln_post)
            vectors = self.unit(self.op("MatMul", tokens, self.constant(array(self.visual.proj))))
            if token == "cls":
                vectors = self.op("Squeeze", vectors, self.axis[1])
            found[output_name(stream, token)] = vectors
        inputs: list[tuple[str, Any, list[Any]]] = [
            ("pixels", np.uint8, ["images", "height", "width", 3]),
            ("position", np.float32, ["tokens", self.encoder.width]),
        ]
        return self.graph.finish(inputs, found)

    # layers

    def cut(self, tokens: str, first: int, last: int) -> str:
        """Tokens ``first`` to ``last`` of (B, N, C)."""
        ends = [self.constant(np.array([end], np.int64)) for end in (first, last)]
        return str(self.op("Slice", tokens, *ends, self.axis[1]))

    def shaped(self, values: str, *shape: int) -> str:
        """Another shape; 0 keeps a side, -1 takes what is left."""
        return str(self.op("Reshape", values, self.constant(np.array(shape, np.int64))))

    def norm(self, tokens: str, layer: Any) -> str:
        """A layer norm, or nothing."""
        from torch import nn

        if isinstance(layer, nn.Identity):
            return tokens
        if not isinstance(layer, nn.LayerNorm):
            raise ModelError(f"ONNX: {type(layer).__name__} is no layer norm that is known here")
        scale, bias = self.constant(array(layer.weight)), self.constant(array(layer.bias))
        return str(
            self.op("LayerNormalization", tokens, scale, bias, axis=-1, epsilon=float(layer.eps))
        )

    def linear(self, tokens: str, weight: Any, bias: Any) -> str:
        """A linear layer, in the numbers that were asked for."""
        return linear(self.graph, tokens, weight, bias, self.numbers)

    def scaled(self, update: str, layer: Any) -> str:
        """A layer scale, or nothing."""
        from torch import nn

        if isinstance(layer, nn.Identity):
            return update
        return str(self.op("Mul", update, self.constant(array(layer.gamma))))

    def activation(self, hidden: str, layer: Any) -> str:
        from torch import nn

        if isinstance(layer, nn.GELU):
            return str(self.op("Gelu", hidden, approximate=layer.approximate))
        if type(layer).__name__ == "QuickGELU":
            factor = self.constant(np.float32(1.702))
            return str(self.op("Mul", hidden, self.op("Sigmoid", self.op("Mul", hidden, factor))))
        raise ModelError(f"ONNX: the activation {type(layer).__name__} is not known here")

    def unit(self, vectors: str) -> str:
        """Vectors of the last axis with length 1."""
        length = self.op("ReduceL2", vectors, self.axis[-1], keepdims=1)
        return str(
            self.op("Div", vectors, self.op("Max", length, self.constant(np.float32(SHORTEST))))
        )

    # the tower

    def embed(self) -> str:
        """Patch and position embedding and the first layer norm: (B, 1 + patches, width)."""
        encoder, visual, width = self.encoder, self.visual, self.encoder.width
        images = normalized_images(self.graph, encoder.mean, encoder.std)
        parts = [self.constant(array(visual.conv1.weight))]
        parts += [] if visual.conv1.bias is None else [self.constant(array(visual.conv1.bias))]
        side = [encoder.patch_size] * 2
        patches = self.op("Conv", images, *parts, kernel_shape=side, strides=side)
        patches = self.op("Transpose", self.shaped(patches, 0, width, -1), perm=[0, 2, 1])
        count = self.op("Shape", "pixels", start=0, end=1)
        shape = self.op("Concat", count, self.constant(np.array([1, width])), axis=0)
        token = self.constant(array(visual.class_embedding).reshape(1, 1, width))
        tokens = self.op("Concat", self.op("Expand", token, shape), patches, axis=1)
        return self.norm(self.op("Add", tokens, "position"), visual.ln_pre)

    def project(self, normed: str, block: TransformerBlock, first: int, last: int) -> list[str]:
        """Some of query, key and value, each (B, heads, N, d)."""
        width, heads = self.encoder.width, block.heads
        rows = slice(first * width, last * width)
        joint = self.linear(normed, block.qkv[0][rows], block.qkv[1][rows])
        split = self.op("Split", joint, axis=-1, num_outputs=last - first, outputs=last - first)
        return [
            self.op("Transpose", self.shaped(one, 0, 0, heads, width // heads), perm=[0, 2, 1, 3])
            for one in ([split] if last - first == 1 else split)
        ]

    def attend(self, query: str, key: str, value: str) -> str:
        """``softmax(query key^T) value`` of (B, heads, N, d)."""
        products = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        return str(self.op("MatMul", self.op("Softmax", products, axis=-1), value))

    def join(self, heads: str, block: TransformerBlock) -> str:
        """The output projection of (B, heads, N, d)."""
        merged = self.op("Transpose", heads, perm=[0, 2, 1, 3])
        merged = self.shaped(merged, 0, 0, self.encoder.width)
        return self.scaled(self.linear(merged, *block.out), block.scale_1)

    def feed_forward(self, stream: str, block: TransformerBlock) -> str:
        hidden = self.linear(self.norm(stream, block.ln_2), *block.up)
        update = self.linear(self.activation(hidden, block.activation), *block.down)
        return str(self.op("Add", stream, self.scaled(update, block.scale_2)))

    def to_itself(self, parts: list[str], normed: str, head: int) -> str:
        """:func:`fade.gem.self_self_attention` of query, key and value, ``head`` wide."""
        gem = self.encoder.gem
        if gem.temperature is None:
            norms = self.op("ReduceL2", normed, self.axis[-1], keepdims=0)
            mean = self.op("ReduceMean", norms, self.axis[1], keepdims=0)
            factor = self.op("Mul", mean, self.constant(np.float32(head**-0.5)))
            factor = self.shaped(factor, -1, 1, 1, 1)
        else:
            factor = self.constant(np.float32(gem.temperature))
        query, key, value = parts
        total = ""
        for part in (value, key, query):
            for step in range(gem.iterations + 1):
                unit = self.unit(part)
                values = value if step == gem.iterations else unit
                part = self.attend(self.op("Mul", unit, factor), unit, values)
            total = str(self.op("Add", total, part)) if total else part
        return str(self.op("Div", total, self.constant(np.float32(3))))

    def streams(self, tokens: str, outputs: list[tuple[Stream, Token]]) -> dict[str, str]:
        """See ``Encoder._streams``: the same steps in the same order.

        A class token that is wanted without patches is alone in the last block, which saves time.
        """
        want_gem = any(stream == "gem" for stream, _ in outputs)
        clip_tokens = {token for stream, token in outputs if stream == "clip"}
        blocks = self.blocks
        first_gem, last = self.encoder.gem.first_block(len(blocks)), len(blocks) - 1
        clip, gem = tokens, ""
        for index, block in enumerate(blocks):
            normed, head = self.norm(clip, block.ln_1), self.encoder.width // block.heads
            gem_block = want_gem and index >= first_gem
            gem = gem or (clip if gem_block else "")
            if index == last and not gem_block and clip_tokens == {"cls"}:
                parts = self.project(self.cut(normed, 0, 1), block, 0, 1)
                parts += self.project(normed, block, 1, 3)
                clip = self.cut(clip, 0, 1)
            else:
                parts = self.project(normed, block, 0, 3)
            if gem_block:
                update = self.join(self.to_itself(parts, normed, head), block)
                gem = str(self.op("Add", gem, update))
            if index < last or clip_tokens:
                query, key, value = parts
                root = self.constant(np.float32(head**-0.5))
                update = self.join(self.attend(self.op("Mul", query, root), key, value), block)
                clip = self.feed_forward(str(self.op("Add", clip, update)), block)
        return {"clip": clip, **({"gem": gem} if gem else {})}
