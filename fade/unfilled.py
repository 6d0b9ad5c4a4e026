"""Building networks without memory and without random numbers, for weights that are there already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unfilled() -> Iterator[None]:
    """Build networks on torch's device ``meta`` in this context; random numbers are left out.

    Such numbers have no place there, and drawing or scaling some of them imports torch's compiler: three
    seconds and 150 MB.

    Examples:
        >>> from torch import nn
        >>> with unfilled():
        ...     layer = nn.Linear(100_000, 100_000)
        >>> layer.weight.shape, layer.weight.device.type
        (torch.Size([100000, 100000]), 'meta')
    """
    import torch
    from torch.overrides import TorchFunctionMode

    names = ("normal_", "uniform_", "erfinv_", "mul_", "add_", "div_", "clamp_")
    drawing = {getattr(torch.Tensor, name) for name in names}

    class LeaveOut(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            left_out = func in drawing and args[0].is_meta
            if left_out or getattr(func, "__module__", "") == "torch.nn.init":
                return args[0] if args else (kwargs or {})["tensor"]
            return func(*args, **(kwargs or {}))

    with torch.device("meta"), LeaveOut():
        yield
