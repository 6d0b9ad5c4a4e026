"""Devices that torch computes on."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from fade.errors import ParameterError
from fade.types import Device, Precision

if TYPE_CHECKING:
    from torch import dtype


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


@lru_cache(maxsize=1)
def _has_driver() -> bool:
    """Whether NVIDIA's driver is installed (Linux)."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
