"""Whether objects go at once when they are let go, and not when Python collects its garbage."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def kept_after(opened: Callable[[], T], parts: Callable[[T], Sequence[object]]) -> list[object]:
    """What is still there of an object, or of its parts, that was let go; it is opened twice."""
    opened()  # what is imported with the first one may keep it
    gc.collect()
    gc.disable()
    try:
        one = opened()
        held = [weakref.ref(part) for part in (one, *parts(one))]
        del one
        return [found for ref in held if (found := ref()) is not None]
    finally:
        gc.enable()
