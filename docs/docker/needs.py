"""Prints what extras of pyproject.toml need, one a line: an image installs it before the program."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path


def needs(pyproject: Path, extras: Iterable[str]) -> list[str]:
    """The requirements of the program and of some of its extras, each once, in their order.

    Args:
        pyproject: the file.
        extras: names; an extra that names others of this program brings those.

    Raises:
        KeyError: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found = dict.fromkeys(project["dependencies"])
    waiting = list(extras)
    while waiting:
        for requirement in project["optional-dependencies"][waiting.pop(0)]:
            name, bracket, inner = requirement.partition("[")
            if bracket and name == project["name"]:
                waiting += inner.rstrip("]").split(",")
            else:
                found[requirement] = None
    return list(found)


if __name__ == "__main__":
    print("\n".join(needs(Path("pyproject.toml"), sys.argv[1:])))
