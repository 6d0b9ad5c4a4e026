"""What runs on a GPU, as far as it can be seen without one.

Search runs on torch's CPU. The encoder runs on tensors without values whose device is called cuda:
they tell of other devices among them, and of a place where a real GPU would have to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fade import bank, gpu
from fade.encoder import Encoder, Precision
from fade.encoder.block import TransformerBlock
from fade.errors import ParameterError
from fade.faiss_index import build_index
from fade.gem import GemConfig
from tests.fade.test_encoder import ALL, write_config

HERE = "cpu:0"


def vectors(count: int, seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(
    references=st.integers(1, 7),
    patches=st.integers(1, 12),
    queries=st.integers(2, 25),
    rows=st.sampled_from([1, 4, 4096]),
    columns=st.sampled_from([1, 12, 30, 4096]),
)
def test_search_is_that_of_the_cpu(
    references: int, patches: int, queries: int, rows: int, columns: int
) -> None:
    query, kept = vectors(queries, 1), vectors(references * patches, 2)
    on_device = [gpu.to_device(x, HERE) for x in (query, kept)]
    with mock.patch.multiple(gpu, QUERY_ROWS=rows, BANK_COLUMNS=columns):
        found = gpu.similarity_to_references(on_device[0], on_device[1], patches)
        others = gpu.similarity_to_others(on_device[0])
    expected = bank.similarity_to_references(query, kept, patches)
    assert found.shape == expected.shape
    assert found.dtype == others.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(others, bank.similarity_to_others(query), atol=1e-6, rtol=0)


def test_single_patch_has_no_others() -> None:
    with pytest.raises(ParameterError, match="single patch"):
        gpu.similarity_to_others(gpu.to_device(vectors(1, 0), HERE))


def test_index_is_placed_once() -> None:
    kept = vectors(12, 3)
    index = build_index(kept)
    placed = gpu.index_vectors(index, HERE)
    np.testing.assert_array_equal(placed.numpy(), kept)
    assert gpu.index_vectors(index, HERE) is placed
    assert gpu.index_vectors(build_index(kept), HERE) is not placed


class Event:
    """Stands for an event of CUDA, which needs a driver."""

    def __init__(self, blocking: bool) -> None:
        assert blocking, "a thread that waits would take a core"

    def record(self) -> None:
        """Nothing to note."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


def without_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """A way to make tensors, page-locked or from numpy, that makes those without values."""

    def make(first: Any, *rest: Any, pin_memory: bool = False, **options: Any) -> Any:
        if isinstance(first, np.ndarray):
            return function(first.shape, dtype=torch.uint8)
        return function(first, *rest, **options)

    return make


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_encoder_waits_for_a_gpu_only_at_the_end(precision: Precision, tmp_path: Path) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    gem = GemConfig(depth=3)
    made = Encoder.load(write_config(tmp_path), "seeded", gem=gem, precision=precision)
    with FakeTensorMode(), torch.inference_mode():
        try:
            torch.empty(1, device="cuda")
        except RuntimeError:
            pytest.skip("this torch was built without CUDA")
        make = without_values(torch.empty)
        with (
            mock.patch.object(torch, "empty", make),
            mock.patch.object(torch, "from_numpy", make),
            mock.patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor),
            mock.patch.object(torch.cuda, "Event", Event),
        ):
            _move(made)
            for size in (32, 64):
                encoding = made.start_encoding(
                    np.zeros((2, size, size, 3), np.uint8), ALL, "float16"
                )
                for (_, token), tensor in encoding.tensors.items():
                    patches = (made.grid(size) ** 2,) if token == "patch" else ()
                    assert tensor.shape == (2, *patches, made.dim)
                    assert (tensor.dtype, tensor.device.type) == (torch.float16, "cpu")
                assert isinstance(encoding.arrival, Event)


def _move(made: Encoder) -> None:
    """Put what the vision tower computes with on a device called cuda, without values."""
    made.device = "cuda"
    for module in made._visual.modules():
        for name, tensor in list(module._parameters.items()):
            if tensor is not None:
                there = torch.empty(tensor.shape, device="cuda")
                module._parameters[name] = torch.nn.Parameter(there, requires_grad=False)
    blocks = made._visual.transformer.resblocks
    made._blocks = [TransformerBlock.of(block, made._dtype) for block in blocks]
    made._mean, made._std = (torch.empty(3, 1, 1, device="cuda") for _ in range(2))
