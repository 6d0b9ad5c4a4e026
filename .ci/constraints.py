"""Writes requirements/constraints.txt: the versions that the tests of this environment ran with.

Names and versions alone, of what pyproject.toml asks for and of what that asks for in turn, as far
as it is installed. Run by ``make constraints``.
"""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
FILE = ROOT / "requirements" / "constraints.txt"
OWN = "fade-pipeline"
"""Extras name this project itself where one takes another along."""


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(project: Path = ROOT / "pyproject.toml") -> list[Requirement]:
    """All that pyproject.toml asks for, extras included."""
    content = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = content.get("optional-dependencies", {})
    found = [*content["dependencies"], *(one for extra in extras.values() for one in extra)]
    return [one for one in map(Requirement, found) if canonical(one.name) != OWN]


def pins(requirements: Iterable[Requirement]) -> dict[str, str]:
    """Installed version by name, of the requirements and of what they need."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(requirements)
    while waiting:
        one = waiting.pop()
        key = (canonical(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            installed = distribution(one.name)
        except PackageNotFoundError:
            continue  # of an extra that this machine cannot use
        found[key[0]] = installed.version.partition("+")[0]  # local labels are on no index
        for text in installed.requires or []:
            inner = Requirement(text)
            extras = one.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(inner)
    return found


def main() -> None:
    """Write the file."""
    lines = [
        "# Versions that the tests passed with; see CONTRIBUTING.md. Written by `make constraints` on",
        f"# Python {platform.python_version()}, {platform.system()} {platform.machine()}.",
        *(f"{name}=={version}" for name, version in sorted(pins(wanted()).items())),
    ]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)}: {len(lines) - 2} packages")


if __name__ == "__main__":
    main()
