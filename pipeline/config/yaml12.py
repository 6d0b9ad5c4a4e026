"""YAML 1.2 as DVC reads it: ``no`` and 1:30 are text, 1e-5 is a number."""

from __future__ import annotations

import copy
import io
from contextlib import suppress
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from pipeline.process.plain_yaml import NotPlain, load

MAX_VALUES = 100_000
"""Largest number of values of a file, aliases written out."""
ONE_LINE = 2**31


def load_yaml(text: str) -> Any:
    """The plain values that DVC reads from a text; None if it is empty.

    Raises:
        ValueError: it is not valid YAML, with the line, or holds other objects than plain ones, a key
            twice, or anchors that unfold without end.

    Examples:
        >>> load_yaml("{answer: no, ratio: 1e-5}")
        {'answer': 'no', 'ratio': 1e-05}
        >>> load_yaml("{a: 1, a: 2}")
        Traceback (most recent call last):
        ValueError: a is given twice, in line 1 and again in line 1
    """
    try:
        return copy.deepcopy(_parsed(text))
    except (
        YAMLError,
        RecursionError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
    ) as e:
        raise ValueError(_explained(e)) from None


@lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """The values of a text; kept, as a stage looks several times at files that seldom change."""
    with suppress(NotPlain):
        if len(text) < MAX_VALUES:
            return load(text)
    constructor, _ = YAML(typ="safe").get_constructor_parser(text)
    node = constructor.composer.get_single_node()
    if node is None:
        return None
    _count_values(node, {})
    return constructor.construct_document(node)


def dump_yaml(content: Any) -> str:
    """Content as YAML that :func:`load_yaml` and DVC read as the same; keys keep their order.

    >>> print(dump_yaml({"limit": 5, "categories": ["on", "5"]}), end="")
    limit: 5
    categories:
    - on
    - '5'
    """
    return _dumped(content, flow=False)


def flow_yaml(value: Any) -> str:
    """A scalar, or a list of some, as it may stand on one line of YAML, inside brackets too.

    >>> flow_yaml(["a, b", 5, True])
    "['a, b', 5, true]"
    """
    # within a mapping, so that text that holds a comma gets its quotes
    return _dumped({"k": value}, flow=True).strip()[len("{k: ") : -1]


def leaf(content: Any, name: str) -> Any:
    """A value of nested mappings by its dotted name; None where there is none.

    Examples:
        >>> leaf({"vision": {"seeds": [0, 1]}}, "vision.seeds")
        [0, 1]
        >>> leaf({}, "vision.seeds") is None
        True
    """
    for key in name.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return content


def differing(then: Any, now: Any, name: str = "") -> list[str]:
    """Dotted names of the leaves in which two values differ, mappings within mappings looked into.

    Examples:
        >>> differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
        ['a.c']
    """
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return [] if then == now else [name]
    keys = dict.fromkeys((*then, *now))
    return [
        found
        for key in keys
        for found in differing(then.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    ]


def compose_yaml(text: str) -> Any:
    """The tree of nodes of a text, each with the places where it begins and ends.

    Examples:
        >>> compose_yaml("[1, 2]").value[1].start_mark.column
        4
    """
    return YAML(typ="safe", pure=True).compose(text)


class _Representer(SafeRepresenter):
    """Quotes text that would else be lost: what is empty, and characters that are not printed."""

    def represent_str(self, data: str) -> Any:
        style = None if data.isprintable() and data else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Representer.add_representer(str, _Representer.represent_str)


def _dumped(content: Any, *, flow: bool) -> str:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = flow
    yaml.width = ONE_LINE
    yaml.sort_base_mapping_type_on_output = False
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _explained(error: Exception) -> str:
    """What a parser's error says, in one line with its place."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, MarkedYAMLError):
        said = " ".join(str(error.problem or error.context).split())
        mark = error.problem_mark or error.context_mark
        return f"line {mark.line + 1}: {said}" if mark else said
    return " ".join(str(error).split()) or type(error).__name__


def _count_values(node: Node, known: dict[int, int]) -> int:
    """How many values a node stands for once its aliases are written out.

    Raises:
        ValueError: more than :data:`MAX_VALUES`, or a key is given twice.
    """
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MAX_VALUES + 1  # for an alias inside of what it names
    parts: list[Node] = []
    if isinstance(node, MappingNode):
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(
                    f"{key.value} is given twice, in line {lines[key.value]} and again in line {line}"
                )
            lines[key.value] = line
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, SequenceNode):
        parts = node.value
    count = 1 + sum(_count_values(part, known) for part in parts)
    if count > MAX_VALUES:
        raise ValueError(
            f"it unfolds to more than {MAX_VALUES:,} values, line {node.start_mark.line + 1} on: "
            "write less, or fewer *aliases"
        )
    known[id(node)] = count
    return count
