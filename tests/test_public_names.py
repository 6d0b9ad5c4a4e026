"""The names that the packages offer: they are there, typed, and cost nothing until they are used."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import import_module

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


@pytest.mark.parametrize("name", ["fade"])
def test_examples_in_docstrings_run(name: str) -> None:
    failed, tried = doctest.testmod(import_module(name))
    assert tried
    assert not failed
