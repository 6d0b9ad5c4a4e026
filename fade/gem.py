"""Grounding Everything: self-self attention beside an unchanged CLIP vision block.

Source: Bousselham et al., "Grounding Everything: Emerging Localization Properties in
Vision-Language Transformers", CVPR 2024, arXiv 2312.00878, section 3.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from math import log
from threading import Barrier
from typing import TYPE_CHECKING

from fade.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

SYMMETRIC_ROWS = 128
"""Rows of a panel of a symmetric matrix: lower ones spare more of the squares on the diagonal, higher
ones multiply faster."""
MAX_FACTOR = 60.0
"""Largest ``t`` for which ``exp(t)`` times any number of tokens is finite."""


@dataclass(frozen=True, slots=True)
class GemConfig:
    """How the GEM stream is computed.

    Attributes:
        depth: the stream runs through the last ``depth - 1`` blocks.
        iterations: how often tokens are replaced by their self-self attention before the values
            are gathered.
        temperature: the factor inside the softmax; None takes it from each image and block.

    Examples:
        >>> GemConfig(depth=7).first_block(layers=12)
        6
    """

    depth: int = 7
    iterations: int = 1
    temperature: float | None = None

    def describe(self) -> list[int | float | str | None]:
        """What an address says of the stream; over 44, sums once had infinite squares."""
        scaled = ["scaled"] if self.temperature is not None and self.temperature > 44 else []
        return [self.depth, self.iterations, self.temperature, *scaled]

    def first_block(self, layers: int) -> int:
        """Index of the block whose input the stream starts from, in a tower of ``layers``."""
        if not 2 <= self.depth <= layers + 1:
            raise ParameterError(
                f"model.gem.depth is {self.depth}, but this model's vision tower has {layers} "
                f"blocks: choose 2 to {layers + 1}"
            )
        return layers - (self.depth - 1)


def inverse_temperature(tokens: Tensor, head_dim: int) -> Tensor:
    """Softmax factor of each image: mean norm of its tokens over the root of the head's width.

    Args:
        tokens: (B, N, C), the layer-normed input of the block, cls included.
        head_dim: width of one attention head.

    Returns:
        (B, 1, 1, 1), float32.

    Examples:
        >>> import torch
        >>> inverse_temperature(torch.ones(1, 5, 64), head_dim=64).flatten().tolist()
        [1.0]
    """
    norms = tokens.float().norm(dim=-1).mean(dim=1)
    return (norms * head_dim**-0.5)[:, None, None, None]


def self_self_attention(
    query: Tensor, key: Tensor, value: Tensor, factor: Tensor, iterations: int
) -> Tensor:
    """Mean over p in {value, key, query} of ``softmax(t p p^T) value``, p refined and unit length.

    Args:
        query: (B, H, N, d), as are ``key`` and ``value``: the projections of the block's
            layer-normed input.
        factor: (B, 1, 1, 1), the ``t`` of the formula.
        iterations: refinements ``p <- normalize(softmax(t p p^T) p)``.

    Returns:
        (B, H, N, d), to go through the block's output projection.

    Examples:
        >>> import torch
        >>> tokens = torch.eye(2).reshape(1, 1, 2, 2)  # two tokens with nothing in common
        >>> for t in (1.0, 50.0):
        ...     factor = torch.full((1, 1, 1, 1), t)
        ...     found = self_self_attention(tokens, tokens, tokens, factor, iterations=1)
        ...     [round(value, 2) for value in found[0, 0, 0].tolist()]
        [0.59, 0.41]
        [1.0, 0.0]
    """
    import torch

    # torch's fused attention is the faster one in half precision, and the only one without exp overflows
    if value.dtype != torch.float32 or value.device.type != "cpu" or factor.max() > MAX_FACTOR:
        # all three in one batch: fewer, larger kernels
        parts, values = torch.cat([value, key, query]), torch.cat([value, value, value])
        factors = factor.repeat(3, 1, 1, 1)
        for _ in range(iterations):
            parts = _attend_to_itself(parts, factors)
        gathered = _attend_to_itself(parts, factors, values)
        return gathered.unflatten(0, (3, -1)).float().mean(dim=0).to(value.dtype)
    gathered = torch.empty_like(value, memory_format=torch.contiguous_format)
    # powers of two: their vectorised code is up to three times as fast as that of e
    exponents = (factor / log(2)).expand(*value.shape[:2], 1, 1).flatten()
    flat = [x.flatten(0, 1) for x in (value, key, query, gathered)]

    def gather(head: int) -> None:
        parts = [part[head] for part in flat]
        parts[3].copy_(_gather_head(parts[:3], exponents[head], iterations))

    _each_head(gather, len(flat[0]))
    return gathered


def _attend_to_itself(parts: Tensor, factor: Tensor, values: Tensor | None = None) -> Tensor:
    """``softmax(t p p^T) values`` of unit length p = parts, by torch's fused attention.

    Args:
        parts: (B, H, N, d) of any length; norms and products with ``t`` are taken in float32.
        factor: (B, 1, 1, 1) float32.
        values: (B, H, N, d); None for p itself.
    """
    from torch.nn import functional as F

    unit = F.normalize(parts.float(), dim=-1)
    scaled, key = (unit * factor).to(parts.dtype), unit.to(parts.dtype)
    return F.scaled_dot_product_attention(scaled, key, key if values is None else values, scale=1.0)


def _gather_head(parts: Sequence[Tensor], exponent: Tensor, iterations: int) -> Tensor:
    """The mean of :func:`self_self_attention` for one head: (N, d) float32.

    Args:
        parts: (N, d) value, key and query, float32.
        exponent: the ``t`` of the formula over log 2, of one element.
        iterations: refinements.
    """
    import torch
    from torch.nn import functional as F

    value = parts[0]
    total = torch.zeros(value.shape)
    for part in parts:
        tokens = F.normalize(part, dim=-1)
        for _ in range(iterations):
            # the softmax's denominator is a factor of each row, which cancels in normalizing
            mixed, _ = _weigh(tokens, exponent, tokens, sums=False)
            # by a power of two, which leaves all digits: squares of exp(60) would be infinite
            tokens = F.normalize(mixed * torch.exp2(-(exponent / 2).floor()), dim=-1)
        mixed, sums = _weigh(tokens, exponent, value)
        total += mixed / sums
    return total.div_(3)


def _weigh(
    tokens: Tensor, exponent: Tensor, values: Tensor, sums: bool = True
) -> tuple[Tensor, Tensor]:
    """``W values`` and, if asked for, the row sums of ``W = 2^(exponent tokens tokens^T)``.

    W is symmetric: its upper half alone is computed, a panel of rows at a time.

    Args:
        tokens: (N, d), as are ``values``.

    Returns:
        (N, d) and (N, 1), float32.
    """
    import torch

    scaled = tokens * exponent
    out = torch.zeros(values.shape)
    total = torch.zeros(len(tokens), 1)
    buffer = tokens.new_empty(min(SYMMETRIC_ROWS, len(tokens)) * len(tokens))
    for first in range(0, len(tokens), SYMMETRIC_ROWS):
        last = min(first + SYMMETRIC_ROWS, len(tokens))
        panel = buffer[: (last - first) * (len(tokens) - first)].view(last - first, -1)
        weights = torch.mm(scaled[first:last], tokens[first:].T, out=panel).exp2_()
        right = weights[:, last - first :]
        out[first:last].addmm_(weights, values[first:])
        out[last:].addmm_(right.T, values[first:last])
        if sums:
            total[first:last, 0] += weights.sum(dim=1)
            total[last:, 0] += right.sum(dim=0)
    return out, total


def _each_head(function: Callable[[int], None], heads: int) -> None:
    """Call ``function`` with each number of a head, on as many threads as torch may use.

    A head's panels follow each other on one thread: threads that share each panel wait for each
    other thousands of times, which takes long when the machine has other work.
    """
    import torch

    threads = torch.get_num_threads()
    if min(threads, heads) == 1:
        for head in range(heads):
            function(head)
        return

    def call(head: int) -> None:
        with torch.inference_mode():
            function(head)

    for _ in _pool(threads).map(call, range(heads)):
        pass


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that torch runs on one core each."""
    import torch

    pool = ThreadPoolExecutor(threads, "heads", initializer=torch.set_num_threads, initargs=(1,))
    started = Barrier(threads)
    list(pool.map(lambda _: started.wait(), range(threads)))
    torch.set_num_threads(threads)  # what a thread sets is also the default of later ones
    return pool
