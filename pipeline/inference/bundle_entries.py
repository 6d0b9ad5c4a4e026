"""What a bundle's JSON is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr, TypeAdapter


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
