"""What is said of a precision that makes encoding slower, not faster."""

from __future__ import annotations

from fade.device import is_slower
from fade.types import Precision


def slow_precision(precision: Precision, device: str) -> str | None:
    """What to do about a precision that a device computes slower than fp32, in one line; None: nothing.

    Args:
        device: ``cuda`` or ``cpu``.
    """
    if not is_slower(precision, device):
        return None
    what = "processor" if device == "cpu" else "GPU"
    return f"model.precision {precision} is slower than fp32 on this {what}: set it to fp32"
