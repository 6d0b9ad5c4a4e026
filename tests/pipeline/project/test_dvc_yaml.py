"""dvc.yaml against the artefact table, the parameters and what the stages import."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pipeline.artefacts.catalogue import ARTEFACTS, RECORDS
from pipeline.config.load import load_params
from pipeline.config.originals import TEMPLATE
from pipeline.project.code import OWN_PACKAGES
from tests.imports import ROOT, modules
from tests.projects import STAGES

DVC: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
NO_DVC_PARAMETER = ("runtime", "cluster")
REFUSES_BY = {"extract": {"vision.neighbours", "vision.index"}}
"""Leaves that a stage reads to refuse a run that a later one would refuse; its outputs are the same."""


def _listed(items: list[Any]) -> dict[str, dict[str, Any]]:
    """Outs by path, with their options."""
    return {
        path: options
        for item in items
        for path, options in (item.items() if isinstance(item, dict) else [(item, {})])
    }


def _leaves(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        section = isinstance(value, dict) and name.count(".") <= 1 and value
        whole = name in ("text.overrides",) or name.startswith(("fusion.", "vision."))
        if section and not whole:
            yield from _leaves(value, f"{name}.")
        else:
            yield name


LEAVES = frozenset(_leaves(yaml.safe_load(TEMPLATE.read_text())))


def _declared(stage: str) -> set[str]:
    """Leaves of params.yaml that a stage names, by themselves or by their section."""
    named = set()
    for entry in DVC["stages"][stage]["params"]:
        by_file = {"params.yaml": [entry]} if isinstance(entry, str) else entry
        named |= set(by_file.get("params.yaml", ()))
    return {name for name in LEAVES if any(f"{name}.".startswith(f"{own}.") for own in named)}


def test_it_fits_on_two_screens() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 160


def test_stages_are_those_of_the_design() -> None:
    assert tuple(DVC["stages"]) == ("code", *STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_command(stage: str) -> None:
    assert DVC["stages"][stage]["cmd"] == f"python -m stages.{stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_entry_of_the_code(stage: str) -> None:
    assert {"code.json": [stage]} in DVC["stages"][stage]["params"]


def test_the_code_stage_watches_all_packages() -> None:
    assert set(DVC["stages"]["code"]["deps"]) == set(OWN_PACKAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_outs_are_the_artefacts_of_the_stage(stage: str) -> None:
    content = DVC["stages"][stage]
    outs = _listed(content["outs"]) | _listed(content.get("metrics", []))
    artefacts = {str(a.path): a for a in (*ARTEFACTS, *RECORDS) if a.stage == stage}
    assert set(outs) == set(artefacts)
    for path, artefact in artefacts.items():
        assert outs[path].get("cache", True) is not artefact.receipt


@pytest.mark.parametrize("stage", STAGES)
def test_every_artefact_that_a_stage_names_is_a_dependency_or_an_out(stage: str) -> None:
    """A stage that reads an artefact imports its constant."""
    import pipeline.artefacts.catalogue

    source = modules()[f"stages.{stage}"].read_text()
    content = DVC["stages"][stage]
    known = {*content["deps"], *_listed(content["outs"]), *_listed(content.get("metrics", []))}
    for name, artefact in vars(pipeline.artefacts.catalogue).items():
        if artefact in ARTEFACTS and f"{name}.path" in source:
            assert str(artefact.path) in known, f"{stage} uses {name}"


def test_artefacts_that_stages_depend_on_are_made_by_earlier_ones() -> None:
    maker = {str(a.path): STAGES.index(a.stage) for a in (*ARTEFACTS, *RECORDS)}
    for number, stage in enumerate(STAGES):
        for dependency in DVC["stages"][stage]["deps"]:
            assert maker.get(dependency, -1) < number


def test_every_declared_parameter_stands_in_params_yaml_and_none_is_forgotten() -> None:
    named = {
        name
        for stage in STAGES
        for entry in DVC["stages"][stage]["params"]
        for name in (
            [entry] if isinstance(entry, str) else entry.get("params.yaml", ())
        )
    }  # fmt: skip
    assert all(any(f"{leaf}.".startswith(f"{name}.") for leaf in LEAVES) for name in named)
    declared = {name for stage in STAGES for name in _declared(stage)}
    assert declared == {name for name in LEAVES if not name.startswith(NO_DVC_PARAMETER)}


def test_reductions_and_filters_run_evaluate_and_report_alone() -> None:
    tokens = "evaluate.smooth_similar"  # which one more feature is encoded for
    assert {
        stage
        for stage in STAGES
        if any(name.startswith("evaluate.") and name != tokens for name in _declared(stage))
    } == {"evaluate", "report"}


def test_params_yaml_names_every_parameter_there_is() -> None:
    content = yaml.safe_load(TEMPLATE.read_text())
    dumped = load_params(TEMPLATE).model_dump()
    assert set(_leaves(content)) == set(_leaves(dumped))


class _Recorder:
    """A section of parameters that notes which leaves are read."""

    def __init__(self, section: Any, name: str, seen: set[str]) -> None:
        self._section, self._name, self._seen = section, name, seen

    def __getattr__(self, key: str) -> Any:
        from pydantic import BaseModel

        value = getattr(self._section, key)
        name = f"{self._name}.{key}" if self._name else key
        if key in type(self._section).model_fields:
            if isinstance(value, BaseModel) and not type(value).__name__.startswith("ByShots"):
                return _Recorder(value, name, self._seen)
            self._seen.add(name)
            return value
        member = getattr(type(self._section), key)
        if isinstance(member, property):
            assert member.fget is not None
            return member.fget(self)
        if key == "model_copy":
            return self._copy
        return lambda *args: member(self, *args)

    def _copy(self, update: dict[str, Any]) -> _Recorder:
        plain = {
            key: value._section if isinstance(value, _Recorder) else value
            for key, value in update.items()
        }
        return _Recorder(self._section.model_copy(update=plain), self._name, self._seen)


@pytest.mark.parametrize("stage", STAGES[:-1])  # the report shows, and declares, all of them
def test_stages_declare_the_parameters_that_they_read(
    stage: str, recorded: dict[str, set[str]]
) -> None:
    read = {name for name in recorded[stage] if not name.startswith(NO_DVC_PARAMETER)}
    declared = _declared(stage) | REFUSES_BY.get(stage, set())
    assert read <= declared, f"{stage} reads undeclared {sorted(read - declared)}"


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Any
) -> dict[str, set[str]]:
    """By stage the parameters that it read in real runs: with features kept and streamed."""
    import importlib

    from pipeline.config.load import parse_params
    from tests.projects import changed, golden_params, project

    content = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        dataset__limit=2,
        threshold__images=2,
    )
    seen: dict[str, set[str]] = {stage: set() for stage in STAGES[:-1]}
    for keep in (True, False):
        with project(tmp_path_factory.mktemp("recorded"), changed(content, features__keep=keep)):
            for stage in STAGES[:-1]:
                params: Any = _Recorder(
                    parse_params(changed(content, features__keep=keep)), "", seen[stage]
                )
                importlib.import_module(f"stages.{stage}").run(params)
    return seen
