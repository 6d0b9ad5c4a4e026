"""What the project's modules import, read from their source."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pipeline.config.originals import ROOT
from pipeline.project import code

_KNOWN = code.modules()


def modules() -> dict[str, Path]:
    """All modules of the project by name, packages left out."""
    return {name: path for name, path in _KNOWN.items() if path.name != "__init__.py"}


@cache
def imports(module: str) -> frozenset[str]:
    """Modules that one of them imports itself, inside functions too.

    A name imported from a package counts as the modules that the package takes its names from.
    """
    found: set[str] = set()
    for name in code.imported(_KNOWN[module], for_types=module in modules()):
        if name in modules():
            found.add(name)
        elif name in _KNOWN:
            found |= imports(name)
    return frozenset(found - {module})


def closure(module: str) -> set[str]:
    """A module and everything of the project that it imports, directly or not."""
    seen: set[str] = set()
    waiting = {module}
    while waiting:
        found = waiting.pop()
        seen.add(found)
        waiting |= imports(found) - seen
    return seen


__all__ = ["ROOT", "closure", "imports", "modules"]
