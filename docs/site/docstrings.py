"""Docstrings as the site reads them: roles of Sphinx as code, one entry for each argument."""

from __future__ import annotations

import re

_ROLE = re.compile(r":(?:meth|func|class|mod|attr|data|exc):`~?([^`]+)`")
_SHARED = re.compile(
    r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+)(?P<text>:.*\n?(?:(?P=indent) +\S.*\n?)*)", re.M
)


def readable(text: str) -> str:
    """A docstring without Sphinx's roles, and with entries of several names repeated for each."""

    def each(found: re.Match[str]) -> str:
        tail = found["text"].rstrip("\n")
        lines = [f"{found['indent']}{name}{tail}" for name in found["names"].split(", ")]
        return "\n".join(lines) + found["text"][len(tail) :]

    return _SHARED.sub(each, _ROLE.sub(r"`\1`", text).replace("``", "`"))
