"""Weights as safetensors reads and writes them, and what is refused."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from fade.weights import MAX_HEADER, read_weights, write_weights

STATE = {
    "b": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a": torch.arange(4, dtype=torch.float16),
    "ä": torch.arange(3, dtype=torch.int64),
    "scalar": torch.tensor(2.5),
    "none": torch.zeros(0, 3),
    "half": torch.arange(4, dtype=torch.bfloat16).reshape(2, 2),
    "yes": torch.tensor([True, False]),
    "turned": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
}


def written(state: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    write_weights(state, file)
    return file.getvalue()


def read(data: bytes) -> dict[str, torch.Tensor]:
    return read_weights(io.BytesIO(data), len(data))


def test_safetensors_reads_what_is_written_and_the_other_way_round() -> None:
    for found in (load(written(STATE)), read(written(STATE))):
        assert found.keys() == STATE.keys()
        for name, tensor in STATE.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)
    plain = {name: tensor.contiguous() for name, tensor in STATE.items()}
    assert torch.equal(read(save(plain))["turned"], STATE["turned"])
    floats = {name: plain[name] for name in ("b", "scalar", "turned")}
    assert written(floats) == save(floats)


def test_shared_memory_is_written_for_each_name() -> None:
    both = {"a": STATE["b"], "b": STATE["b"]}
    assert torch.equal(read(written(both))["b"], STATE["b"])


def made(header: Any, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x80\x04", b"PK\3\4" * 9, made(b"[]"), made(b"{"), made(b"[" * 9999), made({"a": 1}),
        (MAX_HEADER + 1).to_bytes(8, "little"), made(entry(), b"\0" * 7), made(entry(), b"\0" * 9),
        made(entry(dtype="F31")), made(entry(dtype=[1])), made(entry(shape=[3])),
        made(entry(shape=[-1, -2])), made(entry(shape=[2.0])), made(entry(shape=2)),
        made(entry(data_offsets=[0])), made(entry(data_offsets=[4, 12])),
        made(entry(data_offsets=[0, 8, 9])), made(entry(shape=[2**62], data_offsets=[0, 2**64])),
        made(entry() | {"b": entry()["a"]}), made({"a": entry()}),
        made(entry(data_offsets=[0, math.inf])), made(entry(data_offsets=["0", "8"])),
        made(entry(data_offsets=[0, 8.0])), made(entry(data_offsets=[False, 8])),
        made(entry(shape=[0, 2**62, 4], data_offsets=[0, 0]), b""),
    ],
)  # fmt: skip
def test_what_is_no_safetensors_file(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read(data)
