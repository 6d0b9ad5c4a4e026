"""Which code each stage runs, as one hash a stage in ``code.json``.

DVC does not follow Python's imports. So ``code.json`` holds, for each stage, a hash of all modules that
the stage imports, directly or not, and of the data files that it reads beside them. Each stage of
dvc.yaml names its own entry as a parameter, and thus runs again exactly when code that it reaches has
changed.

In a clone the stage ``code`` of dvc.yaml writes the file. In a project of ``fade new`` the code is the
installed package, which DVC cannot watch: :func:`refresh_code` writes the file before each ``fade run``.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType

from fade.files import write_file
from pipeline.config.originals import OWN_PACKAGES, ROOT
from pipeline.config.values import CODE_FILE

KEPT = Path(".fade") / "code.json"
"""File of a project: the text of its code.json, and the stamps of the files that it was made of."""
_DEMO_MODEL = ("pipeline/demo/fade-demo.json", "pipeline/demo/fade-demo.safetensors")
DATA: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "extract": _DEMO_MODEL,
        "text": ("fade/ensembles", *_DEMO_MODEL),
        "stream": ("fade/ensembles", *_DEMO_MODEL),
        "score_language": ("fade/ensembles",),
        "report": ("pipeline/report/report.html.j2", "pipeline/report/page"),
    }
)
"""Files and folders of the packages that a stage reads without importing them, by stage."""
OTHERS: Mapping[str, str] = MappingProxyType({"images": "pipeline.demo.__main__"})
"""Modules of the stages that do not lie in ``stages``: the demo's images."""
_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
"""What may hold an import: no expression can, and most nodes are expressions."""


def modules(root: Path = ROOT) -> dict[str, Path]:
    """All modules of the packages by name; a package stands for its ``__init__``."""
    found = {}
    for package in OWN_PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(path: Path, *, for_types: bool = False) -> frozenset[str]:
    """Names of all modules that a file may import, inside functions too.

    Args:
        path: of a Python file. ``from a import b`` in it may import the module ``a.b``.
        for_types: also what type checkers alone import (``if TYPE_CHECKING``).
    """
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        inner: Iterable[ast.AST] = ast.iter_child_nodes(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
            inner = node.orelse
        waiting += (one for one in inner if isinstance(one, _STATEMENTS))
    return frozenset(names)


def _packages(name: str) -> Iterator[str]:
    """The packages that a module lies in, the innermost first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def closure(name: str, known: Mapping[str, Path]) -> set[str]:
    """A module and all modules among ``known`` that it imports, directly or not.

    Importing a module runs the packages around it: they are among them.
    """
    seen: set[str] = set()
    waiting = {name}
    while waiting:
        found = waiting.pop()
        seen.add(found)
        near = {found, *imported(known[found])}
        waiting |= {
            *near,
            *(around for one in near for around in _packages(one)),
        } & known.keys() - seen
    return seen


def code_hashes(root: Path = ROOT) -> dict[str, str]:
    """By stage, the hash of the code that it runs: 40 hexadecimal digits.

    Args:
        root: the folder that holds the packages.
    """
    known = modules(root)
    stages = {name.removeprefix("stages."): name for name in known if name.startswith("stages.")}
    return {
        stage: _digest(root, {known[name] for name in closure(start, known)}, DATA.get(stage, ()))
        for stage, start in {**stages, **OTHERS}.items()
    }


def _digest(root: Path, files: set[Path], data: tuple[str, ...]) -> str:
    for name in data:
        place = root / name
        found = place.rglob("*") if place.is_dir() else (place,)
        files |= {file for file in found if file.is_file() and "__pycache__" not in file.parts}
    digest = hashlib.blake2b(digest_size=20)
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def code_text() -> str:
    """The text of ``code.json``."""
    return json.dumps(code_hashes(), indent=1) + "\n"


def _kept_text(file: Path) -> str:
    """The text of ``code.json``, kept as long as no file of the packages has another stamp."""
    stamp = _stamp()
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["stamp"] == stamp:
            return str(kept["text"])
    text = code_text()
    with suppress(OSError):  # it is made again next time
        write_file(file, json.dumps({"stamp": stamp, "text": text}))
    return text


def _stamp(root: Path = ROOT) -> str:
    """A hash of names, sizes, times and inodes of all files of the packages."""
    digest = hashlib.blake2b(digest_size=20)
    for package in OWN_PACKAGES:
        for file in sorted((root / package).rglob("*")):
            if "__pycache__" not in file.parts and not file.is_dir():
                stat = file.stat()
                mark = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
                digest.update(f"{file}\0{mark}\0".encode())
    return digest.hexdigest()


def is_project(folder: Path = Path()) -> bool:
    """Whether a folder is a project apart from the program: in a clone a stage makes code.json."""
    return (folder / CODE_FILE).is_file() and folder.resolve() != ROOT


def refresh_code(folder: Path = Path()) -> bool:
    """Bring a project's code.json up to date with the installed code; whether it changed.

    Nothing happens where there is none, or in a clone.
    """
    if not is_project(folder):
        return False
    file = folder / CODE_FILE
    text = _kept_text(folder / KEPT)
    if file.read_text(encoding="utf-8") == text:
        return False
    write_file(file, text)
    return True


if __name__ == "__main__":
    write_file(CODE_FILE, code_text())
