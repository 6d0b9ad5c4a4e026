"""Weights as safetensors streams: written and read where they lie, without copies in other files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 100 << 20
"""Largest size of a header, in bytes; safetensors itself reads no more."""
_ALIGNED = 8
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


class Stream(Protocol):
    """What weights are read from: a file, or an entry of an archive."""

    def read(self, size: int, /) -> bytes:
        """The next ``size`` bytes; fewer at the end."""

    def readinto(self, buffer: Any, /) -> int | None:
        """The next bytes, as many as there is room for; their number."""


def write_weights(state: Mapping[str, Tensor], file: BinaryIO) -> None:
    """Write tensors as the bytes of a safetensors file, one after the other.

    Args:
        state: tensors by name; such as share memory are written once each.
        file: to write to.

    Examples:
        >>> import io
        >>> import torch
        >>> file = io.BytesIO()
        >>> write_weights({"bias": torch.tensor([1.0, 2.0])}, file)
        >>> _ = file.seek(0)
        >>> read_weights(file, len(file.getvalue()))
        {'bias': tensor([1., 2.])}
    """
    names = {getattr(_torch(), name): short for short, name in _DTYPES.items()}
    order = sorted(state, key=lambda name: (-state[name].element_size(), name))
    header: dict[str, Any] = {}
    at = 0
    for name in order:
        tensor = state[name]
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end],
        }  # fmt: skip
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        tensor = state[name].detach()
        flat = (tensor.to_dense() if tensor.is_mkldnn else tensor).cpu().contiguous().reshape(-1)
        file.write(flat.view(_torch().uint8).numpy().data if flat.numel() else b"")


def read_weights(file: Stream, size: int) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Nothing in it is believed: each tensor's bytes must follow those of the one before and be as many as
    its shape asks for, and the file must end with the last.

    Args:
        file: at its beginning; it is read to its end.
        size: bytes that it has.

    Raises:
        ValueError: it is no safetensors file, or a damaged one.

    Examples:
        >>> import io
        >>> read_weights(io.BytesIO(b"no safetensors"), 14)
        Traceback (most recent call last):
            ...
        ValueError: its header tells of 8,387,222,449,776,783,214 bytes of names
    """
    torch = _torch()
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, MAX_HEADER):
        raise ValueError(f"its header tells of {length:,} bytes of names")
    try:
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        entries = sorted((*of["data_offsets"], name) for name, of in header.items())
        found: dict[str, Tensor] = {}
        at = 0
        for begin, end, name in entries:
            dtype: Any = getattr(torch, _DTYPES[header[name]["dtype"]])
            shape = header[name]["shape"]
            valid = all(type(number) is int and number >= 0 for number in (begin, end, *shape))
            if not valid or begin != at or end - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} has shape {shape} at bytes {begin} to {end}")
            if end > size - 8 - length:
                raise ValueError(f"{name} ends behind the file")
            # torch aligns its memory: a product of other addresses may round otherwise
            found[name] = torch.empty(shape, dtype=dtype)
            bytes_of = found[name].reshape(-1).view(torch.uint8).numpy()
            if file.readinto(bytes_of) != end - begin:  # numpy's memory
                raise ValueError(f"{name} is cut short")
            at = end
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:  # torch's of endless sides
        raise ValueError(f"its header is none of safetensors ({type(error).__name__})") from None
    if file.read(1):  # which also lets an archive check what was read
        raise ValueError("it goes on behind its last tensor")
    return found


def _torch() -> Any:
    import torch

    return torch


def digest_state(state: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of parameters: names, shapes and values, in the order of their names.

    Examples:
        >>> import torch
        >>> first, second = ("a", torch.zeros(2)), ("b", torch.ones(1))
        >>> digest_state([first, second]) == digest_state([second, first])
        True
    """
    digest = hashlib.blake2b(digest_size=20)
    for name, tensor in sorted(state, key=lambda item: item[0]):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(array.data if array.ndim else array.tobytes())
    return digest.hexdigest()
