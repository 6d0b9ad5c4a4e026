"""Devices that torch computes on."""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from fade.errors import ParameterError
from fade.types import Device, Precision

if TYPE_CHECKING:
    from torch import dtype

_SWITCHED = threading.Lock()
"""Held while convolutions are switched: the switch is the whole process's."""


def choose_device(wish: Device) -> str:
    """Resolve ``auto``, without an import of torch where there is no driver.

    Raises:
        ParameterError: ``cuda``, and torch finds no GPU.

    Examples:
        >>> choose_device("cpu")
        'cpu'
    """
    if wish == "cpu" or (wish == "auto" and "torch" not in sys.modules and not _has_driver()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wish == "cuda":
        raise ParameterError("runtime.device is cuda, but torch finds no GPU: use auto or cpu")
    return "cpu"


def torch_dtype(precision: Precision) -> dtype:
    """The type of numbers that a model computes with.

    Examples:
        >>> torch_dtype("bf16")
        torch.bfloat16
    """
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def is_slower(precision: Precision, device: str) -> bool:
    """Whether a precision takes longer than fp32 on a device that has no instructions for it.

    Args:
        device: ``cuda`` or ``cpu``.

    Examples:
        >>> is_slower("fp32", "cpu")
        False
    """
    if precision == "fp32":
        return False
    if device == "cpu":
        return precision == "fp16" or lacks_bf16()
    import torch

    return precision == "bf16" and not torch.cuda.is_bf16_supported(False)


def lacks_bf16() -> bool:
    """Whether this is an x86 processor without products of bf16; torch tells of no other kind.

    Examples:
        >>> isinstance(lacks_bf16(), bool)
        True
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and not has_avx512_bf16()


def has_avx512_bf16() -> bool:
    """Whether the processor has AVX-512's products of bf16, as all that have AMX do.

    Examples:
        >>> isinstance(has_avx512_bf16(), bool)
        True
    """
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def whole_float32(device: str) -> Iterator[None]:
    """Let float32 convolutions on a GPU keep all 23 bits: torch's own setting, TF32, keeps 10.

    Args:
        device: ``cuda`` or ``cpu``, where nothing is switched.

    Examples:
        >>> import torch
        >>> with whole_float32("cuda"):
        ...     print(torch.backends.cudnn.allow_tf32)
        False
    """
    if device == "cpu":
        yield
        return
    from torch.backends import cudnn

    with _SWITCHED:
        before, cudnn.allow_tf32 = cudnn.allow_tf32, False
        try:
            yield
        finally:
            cudnn.allow_tf32 = before


@lru_cache(maxsize=1)
def _has_driver() -> bool:
    """Whether NVIDIA's driver is installed (Linux)."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
