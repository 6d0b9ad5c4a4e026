"""The names that the packages offer: they are there, typed, and cost nothing until they are used."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import fade
import pipeline

OFFERED = [(package, name) for package in (fade, pipeline) for name in package.__all__]


@pytest.mark.parametrize(("package", "name"), OFFERED)
def test_every_name_is_there(package: object, name: str) -> None:
    assert getattr(package, name) is not None
    assert name in dir(package)


@pytest.mark.parametrize("package", [fade, pipeline])
def test_each_name_is_declared_to_type_checkers(package: object) -> None:
    source = open(package.__file__).read()  # type: ignore[attr-defined]  # noqa: SIM115
    for name, home in package._HOMES.items():  # type: ignore[attr-defined]
        assert f"from {home} import {name} as {name}\n" in source


@pytest.mark.parametrize("package", [fade, pipeline])
def test_other_names_are_not(package: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = package.Nothing  # type: ignore[attr-defined]


def test_packages_import_nothing_heavy() -> None:
    code = "import sys, fade, pipeline, cache, stages; print(len(sys.modules.keys() & {HEAVY}))"
    heavy = {"torch", "numpy", "pandas", "zarr", "dask", "typer", "pydantic"}
    done = subprocess.run(
        [sys.executable, "-c", code.format(HEAVY=heavy)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "0"


ROOT = Path(fade.__file__).parents[1]
NEED_A_RUN = {"pipeline.inference.predictor"}
"""Modules whose examples run in their own tests, where there is a finished run."""
WITHOUT_EXAMPLES = {
    "fade.types.DataPath": "a protocol, which pathlib.Path follows",
    "fade.types.DataStat": "a protocol, which os.stat_result follows",
    "fade.types.RemotePath": "a protocol of folders in an object store",
    "fade.encoders.protocol.VisionEncoder": "a protocol: its encoders have examples",
    "fade.datasets.leftovers.ignore": "does nothing",
}
"""Public functions and classes without an example, and why."""
MAX_WITHOUT = 0.05
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("cache", "fade", "pipeline", "stages")
    for file in sorted((ROOT / package).rglob("*.py"))
}
"""All modules of the packages by name."""


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_bytes())


def _room(module: str) -> str:
    """The package that a module lies in, or is."""
    is_package = module in FILES and FILES[module].name == "__init__.py"
    return module if is_package else module.rpartition(".")[0]


@cache
def _nodes(module: str) -> list[ast.ImportFrom | ast.Attribute]:
    nodes = ast.walk(_tree(module))
    return [node for node in nodes if isinstance(node, ast.ImportFrom | ast.Attribute)]


@cache
def _imports(module: str) -> dict[str, str]:
    """What each name of a module stands for that it imports from another one."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in _nodes(module)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _home(name: str) -> str:
    """Where a name is defined that a module or package may have from another one."""
    module, _, own = name.rpartition(".")
    while module in FILES and own in _imports(module):
        module, _, own = _imports(module)[own].rpartition(".")
    return f"{module}.{own}"


def _used(module: str) -> Iterator[str]:
    """What a module takes from others, also where it imports a module and names its functions."""
    known = _imports(module)
    yield from known.values()
    for node in _nodes(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{known.get(node.value.id, '')}.{node.attr}"


def _definitions(packages: tuple[str, ...]) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    return {
        f"{module}.{node.name}": node
        for module in FILES
        if module.startswith(packages)
        for node in _tree(module).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
    }


def _public() -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """Functions and classes that are offered, and those of fade and cache that another room uses."""
    shown = re.findall(r"^::: (\S+)", (ROOT / "docs" / "python.md").read_text(), re.M)
    exported = [f"{package.__name__}.{name}" for package, name in OFFERED]
    offered = set(map(_home, [*shown, *exported]))
    used = {
        name
        for module in FILES
        for name in map(_home, set(_used(module)))
        if _room(name.rpartition(".")[0]) != _room(module)
    }
    return {
        name: node
        for name, node in _definitions(("fade.", "cache.", "pipeline.")).items()
        if name in offered or (name in used and not name.startswith("pipeline."))
    }


def _has_example(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether its docstring has one, or that of a method of a class."""
    return ">>> " in (ast.get_docstring(node) or "") or (
        isinstance(node, ast.ClassDef)
        and any(_has_example(inner) for inner in node.body if isinstance(inner, ast.FunctionDef))
    )


def test_what_is_public_has_an_example() -> None:
    public = _public()
    assert len(public) > 200
    without = {name for name, node in public.items() if not _has_example(node)}
    assert sorted(without) == sorted(WITHOUT_EXAMPLES)
    assert len(without) <= MAX_WITHOUT * len(public)


def _modules_with_examples() -> list[str]:
    """Every module of the packages whose text has an example; none is listed by hand."""
    found = {name for name, file in FILES.items() if ">>> " in file.read_text()}
    return sorted(found - NEED_A_RUN)


@pytest.mark.parametrize("name", _modules_with_examples())
def test_examples_in_docstrings_run(name: str) -> None:
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried
    assert not failed
