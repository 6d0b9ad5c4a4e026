"""What a bundle may hold: names of entries with their largest sizes, and lists of one type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

_MIB = 1 << 20
ENTRIES: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"bundle\.json"), 64 * _MIB),
    (re.compile(r"prompts\.json"), 256 * _MIB),
    (re.compile(r"model\.json"), _MIB),
    (re.compile(r"encoder\.json"), _MIB),
    (re.compile(r"(weights|encoder)\.safetensors"), 32 << 30),
    (re.compile(r"text/[0-9a-f]{40}\.npz"), 1 << 30),
    (re.compile(r"onnx/model\.json"), 16 * _MIB),
    (re.compile(r"onnx/(encoder|vision[0-9]{1,3})\.onnx"), 64 * _MIB),
    (re.compile(r"onnx/weights"), 32 << 30),
    (re.compile(r"onnx/positions\.npz"), 1 << 30),
    (re.compile(r"onnx/prompts\.npz"), 1 << 30),
    (re.compile(r"banks/[0-9]{1,6}/[0-9]{1,5}\.npy"), 64 << 30),
    (re.compile(r"(banks|rules)/[0-9]{1,6}/view[0-9]{1,5}\.npy"), 64 << 30),
)
"""Names that a bundle may hold, and how many bytes each."""
MAX_ENTRIES = 100_000

T = TypeVar("T")


def checked_list(content: Mapping[str, Any], name: str, kind: type[T], count: int = 0) -> list[T]:
    """A list of JSON whose items are of one type, so many of them (0: any number); else ValueError."""
    found = content[name]
    fits = isinstance(found, list) and all(type(item) is kind for item in found)
    if not fits or (count and len(found) != count):
        raise ValueError(
            f"{name} is {str(found)[:60]}, not a list of {count or 'any'} {kind.__name__}"
        )
    return list(found)
