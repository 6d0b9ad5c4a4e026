"""What a bundle may hold: names of entries with their largest sizes, and what its JSON is."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr, TypeAdapter

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


class BankEntry(BaseModel):
    """What ``bundle.json`` says of a category's bank: the number of its folder, and its references."""

    number: Annotated[StrictInt, Field(ge=0)]
    references: tuple[StrictStr, ...]


class BundleContent(BaseModel):
    """``bundle.json``, but for the parts that functions of their own read."""

    trial: tuple[StrictInt, StrictInt]
    categories: tuple[StrictStr, ...]
    features: dict[str, StrictStr]
    texts: dict[str, dict[str, StrictStr]]
    banks: dict[str, BankEntry]


SENTENCES = TypeAdapter(tuple[tuple[StrictStr, ...], tuple[StrictBool, ...]])
"""The prompts of a classifier, and for each whether it is abnormal, in ``prompts.json``."""
