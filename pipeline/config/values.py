"""Values that parameters may have, and what all sections of params.yaml share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

PARAMS_FILE = Path("params.yaml")
CODE_FILE = Path("code.json")


DEMO_MODEL = "fade-demo"
"""Name of the small model that comes with this program, and of its weights."""


MAX_SIZE = 8192
"""Largest side, in pixels, that a parameter may ask for."""


Size = Annotated[int, Field(ge=8, le=MAX_SIZE)]


def _size_or_image(value: Any) -> Any:
    known = type(value) is int and 8 <= value <= MAX_SIZE
    if not (known or value == "image"):
        raise ValueError(
            f"must be pixels from 8 to {MAX_SIZE}, or image for each image's own size, "
            f"not {shown(value)}"
        )
    return value


EvaluationSize = Annotated[Size | Literal["image"], BeforeValidator(_size_or_image)]
"""Pixels a side, or each image's own size."""


Weight = Annotated[float, Field(ge=0, le=1)]


Multiplier = Annotated[float, Field(gt=0, le=1e6)]


Classifier = Literal["average", "softmax", "max", "lr", "mlp", "knn", "rf", "xgboost", "gmm"]


V = TypeVar("V")


class ParamsSection(BaseModel):
    """A section of params.yaml: unknown keys and ill-typed values are refused."""

    # built with the first parameters that are checked, sections as parts of the whole
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    @field_validator("*")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        """Text that no file name or sentence can hold."""
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and "\0" in text:
                raise ValueError("text must not hold a NUL character")
        return value


class ByShots(ParamsSection, Generic[V]):
    """A value that differs between zero shots and some."""

    zero_shot: V
    few_shot: V


def by_shots(value: V | ByShots[V], shots: int) -> V:
    """The value that holds for so many shots."""
    if isinstance(value, ByShots):
        return value.few_shot if shots else value.zero_shot
    return value


def shown(value: Any) -> str:
    """A value as a message shows it, cut if it is long; what YAML writes otherwise, as YAML does.

    Examples:
        >>> shown(False), shown(None), shown("flat")
        ('false', 'null', "'flat'")
        >>> shown(ByShots(zero_shot=True, few_shot="nearest"))
        "{zero_shot: true, few_shot: 'nearest'}"
    """
    if isinstance(value, ByShots):
        return f"{{zero_shot: {shown(value.zero_shot)}, few_shot: {shown(value.few_shot)}}}"
    written = {True: "true", False: "false", None: "null"}
    text = written[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def clause(error: Any, start: int = 0) -> str:
    """A clause for one of pydantic's errors: the field, what it takes, and what it holds.

    Args:
        error: one of ``ValidationError.errors()``.
        start: how many parts of the field's path the message says otherwise.

    Examples:
        >>> from pydantic import TypeAdapter, ValidationError
        >>> try:
        ...     TypeAdapter(dict[str, int]).validate_python({"images": "many"})
        ... except ValidationError as error:
        ...     print(clause(error.errors()[0]))
        images: input should be a valid integer, unable to parse string as an integer, not 'many'
    """
    name = ".".join(map(str, error["loc"][start:]))
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{name} is unknown"
    return f"{name}: {error['msg'][0].lower()}{error['msg'][1:]}, not {shown(error['input'])}"


def each_once(values: list[int]) -> list[int]:
    """The values, if none stands there twice (else ValueError)."""
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice: take one out")
    return values
