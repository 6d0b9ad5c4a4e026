"""YAML 1.2 of plain files by libyaml, at a tenth of the time of DVC's own parser.

What is not surely plain is refused: anchors of lists and maps, tags, keys that come twice, numbers and
dates in unusual notations, and whatever is not valid. Who asks then takes DVC's parser, which knows all
of it and says what is wrong. That parser's own patterns decide which words are text, and which values.

It imports nothing of this package: ``run_dvc.py`` loads it by its path.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, ClassVar

import yaml
from ruamel.yaml.resolver import implicit_resolvers

CYAML: Any = yaml.cyaml if yaml.__with_libyaml__ else None
"""PyYAML's door to libyaml, where it was built with one."""
_VERSION = (1, 2)
_PATTERNS = [
    (pattern, first) for versions, _, pattern, first in implicit_resolvers if _VERSION in versions
]
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_REAL = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_USUAL = r"\n -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff"
_MARKED = re.compile(rf"!!|!<|^%|^---|^\.\.\.|[^{_USUAL}]", re.MULTILINE)
"""Tags, directives, marks of documents, and characters that may part lines or words: tabs, others."""
_TEXT = "tag:yaml.org,2002:str"


class NotPlain(ValueError):
    """A text or content that is left to DVC's own parser."""


if CYAML:

    class _Loader(CYAML.CParser, yaml.resolver.BaseResolver):
        """Composes nodes; words without quotes are looked at afterwards."""

        def __init__(self, text: str) -> None:
            CYAML.CParser.__init__(self, text)
            yaml.resolver.BaseResolver.__init__(self)

    class _Dumper(CYAML.CSafeDumper):
        """Puts into quotes what a reader of YAML 1.2 would take for something else than text."""

        yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}

    for _versions, _tag, _pattern, _first in implicit_resolvers:
        if _VERSION in _versions:
            _Dumper.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "")
    )
    _Dumper.add_representer(
        float, lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:float", repr(data))
    )
    _Dumper.add_representer(OrderedDict, lambda dumper, data: dumper.represent_dict(data.items()))
    _Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]


def load(text: str) -> Any:
    """The values of a text; None if it is empty.

    Raises:
        NotPlain: it is not surely what this reader takes it for.

    Examples:
        >>> load("{a: no, b: 1e-5, c: [1, true, ~], d: '1'}")
        {'a': 'no', 'b': 1e-05, 'c': [1, True, None], 'd': '1'}
        >>> load("a: 0o17")
        Traceback (most recent call last):
        pipeline.process.plain_yaml.NotPlain: 0o17
    """
    if not CYAML:
        raise NotPlain("no libyaml")
    if _MARKED.search(text):
        raise NotPlain("a tag, a directive or an unusual character")
    try:
        node = _Loader(text).get_single_node()
    except (yaml.YAMLError, RecursionError) as error:
        raise NotPlain(str(error)) from None
    return None if node is None else _value(node, set())


def dump(content: Any) -> str:
    """Content as DVC writes it.

    Raises:
        NotPlain: DVC would not read the same from it.
    """
    if not CYAML:
        raise NotPlain("no libyaml")
    try:
        text = yaml.dump(
            content, Dumper=_Dumper, default_flow_style=False, sort_keys=False, allow_unicode=True
        )
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise NotPlain(str(error)) from None
    if load(text) != content:
        raise NotPlain("it reads otherwise")
    return text


def _value(node: yaml.Node, seen: set[int]) -> Any:
    if isinstance(node, yaml.CollectionNode):
        if id(node) in seen:
            raise NotPlain("an alias of many values")
        seen.add(id(node))
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        found = {}
        for key, value in node.value:
            name = _value(key, seen)
            if not isinstance(name, str) or name in found:
                raise NotPlain(f"the key {name!r}")
            found[name] = _value(value, seen)
        return found
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_value(one, seen) for one in node.value]
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TEXT:
        raise NotPlain(node.tag)
    return node.value if node.style else _word(node.value)


def _word(text: str) -> Any:
    """The value of a word without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    for pattern, first in _PATTERNS:
        if text[0] in first and pattern.match(text):
            if _REAL.fullmatch(text) and ("." in text or "e" in text.lower()):
                return float(text)
            raise NotPlain(text)
    return text
