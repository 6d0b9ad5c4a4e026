"""The names that the packages offer: they are there, typed, and cost nothing until they are used."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import import_module
from inspect import isfunction
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


def _modules_with_examples() -> list[str]:
    """Every module of the packages whose text has an example; none is listed by hand."""
    root = Path(fade.__file__).parents[1]
    return [
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for package in ("cache", "fade", "pipeline", "stages")
        for file in sorted((root / package).rglob("*.py"))
        if ">>> " in file.read_text()
    ]


@pytest.mark.parametrize("name", _modules_with_examples())
def test_examples_in_docstrings_run(name: str) -> None:
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried
    assert not failed


WITH_EXAMPLES = (
    "cache.layout", "fade.aspect", "fade.maps", "fade.metrics", "fade.reductions", "fade.regions",
    "fade.sampling", "fade.views", "pipeline.config.yaml12",
)  # fmt: skip


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_public_functions_have_examples(name: str) -> None:
    module = import_module(name)
    functions = [
        function for function_name, function in vars(module).items()
        if isfunction(function) and function.__module__ == name and function_name[0] != "_"
    ]  # fmt: skip
    assert functions
    without = [f.__name__ for f in functions if ">>> " not in (f.__doc__ or "")]
    assert not without
