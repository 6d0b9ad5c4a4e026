"""What is said of a precision that makes encoding slower, not faster."""

from __future__ import annotations

import logging

from fade.device import is_slower
from fade.types import Precision

log = logging.getLogger("fade")


def slow_precision(precision: Precision, device: str, remedy: str = "set it to fp32") -> str | None:
    """What to do about a precision that a device computes slower than fp32, in one line; None: nothing.

    Args:
        device: ``cuda`` or ``cpu``.
        remedy: what to do.
    """
    if not is_slower(precision, device):
        return None
    what = "processor" if device == "cpu" else "GPU"
    return f"model.precision {precision} is slower than fp32 on this {what}: {remedy}"


def warn_if_slow(precision: Precision, device: str, remedy: str) -> None:
    """Log the line of :func:`slow_precision`, where there is one."""
    if slow := slow_precision(precision, device, remedy):
        log.warning("%s", slow)
