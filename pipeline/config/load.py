"""Reads params.yaml, and says in one line what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from fade.errors import ParameterError
from fade.files import read_text
from pipeline.config.schema import Params
from pipeline.config.values import PARAMS_FILE, ParamsSection, shown


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check a parameter file.

    Raises:
        ParameterError: no such file, no YAML, or values that are unknown, ill-typed or at odds.

    Examples:
        >>> load_params(Path("no/params.yaml"))
        Traceback (most recent call last):
            ...
        fade.errors.ParameterError: no no/params.yaml here (...): run in a project folder, or ...
    """
    from pipeline.config.yaml12 import load_yaml

    try:
        content = load_yaml(read_text(path))
    except FileNotFoundError:
        raise ParameterError(
            f"no {path} here ({Path.cwd()}): run in a project folder, or make one with "
            "`fade new DIR`"
        ) from None
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # UnicodeDecodeError is one
        raise ParameterError(f"{path} is not valid YAML: {error}") from None
    return parse_params(content, str(path))


def parse_params(content: Any, source: str = "params.yaml") -> Params:
    """Check parameters that were read from YAML.

    Raises:
        ParameterError: naming each key at fault and what it takes.

    Examples:
        >>> from pipeline.config.originals import original
        >>> from pipeline.config.yaml12 import load_yaml
        >>> content = load_yaml(original("params.yaml"))
        >>> parse_params(content).vision.rule
        'nearest'
        >>> parse_params(content | {"modle": {}})
        Traceback (most recent call last):
            ...
        fade.errors.ParameterError: params.yaml: unknown parameter modle (did you mean model?)
    """
    if not isinstance(content, dict):
        raise ParameterError(f"{source} must hold sections such as dataset: and model:")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        lines = dict.fromkeys(map(_explain, _relevant(error.errors())))
        raise ParameterError(f"{source}: " + "; ".join(lines)) from None
    params.check()
    return params


def _keys(error: Any) -> tuple[str, ...]:
    """The path of keys of one of pydantic's errors, without the branches of unions in it."""
    branches = ("ByShots", "function", "ManualPrompts", "list[", "constrained", "literal[")
    parts = (str(part) for part in error["loc"])
    return tuple(
        part
        for part in parts
        if not part.startswith(branches) and part not in ("bool", "float", "int", "str")
    )


def _relevant(errors: Sequence[Any]) -> list[Any]:
    """Of a value that may be one of several types, only the errors of the type that it has."""
    by_key: dict[tuple[str, ...], list[Any]] = {}
    for error in errors:
        by_key.setdefault(_keys(error), []).append(error)
    kept = []
    for keys, group in by_key.items():
        inside = any(other != keys and other[: len(keys)] == keys for other in by_key)
        fitting = [e for e in group if e["type"] not in ("model_type", "model_attributes_type")]
        if not (inside and isinstance(group[0]["input"], dict)):
            kept += fitting or group
    return kept


def _explain(error: Any) -> str:
    """One clause for one of pydantic's errors: the key, what it holds, what it takes."""
    keys = list(_keys(error))
    name = ".".join(keys)
    if error["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        close = get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return f"unknown parameter {name} ({hint})"
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] == "model_type":
        return f"{name} must hold {', '.join(_known_keys(keys)) or 'keys'}, not {error['input']!r}"
    if error["type"] == "value_error":  # our own, which names what is wrong
        return f"{name}: {error['ctx']['error']}"
    if error["type"] == "too_short":
        return f"{name} is empty: name at least one"
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "bool_type":  # yes and no were booleans in YAML 1.1
        message += " (true or false)"
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        message += ' (put quotes around it as it is written, such as "01")'
    return f"{name}: {message}, not {shown(error['input'])}"


def _known_keys(keys: list[str]) -> list[str]:
    """The keys that a section takes; none where the keys lead to no section."""
    section: type[ParamsSection] | None = Params
    for key in keys:
        field = section.model_fields.get(key) if section else None
        if field:  # else a category, whose values are of the section before it
            section = _section(field.annotation)
    return list(section.model_fields) if section else []


def _section(annotation: Any) -> type[ParamsSection] | None:
    """The section that values of a type are, or may be."""
    if isinstance(annotation, type) and issubclass(annotation, ParamsSection):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)
