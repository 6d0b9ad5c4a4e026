"""Records of the parameters that stages used, against what DVC noted and what params.yaml says."""

from __future__ import annotations

import contextlib
import doctest
import hashlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline.artefacts import parameters
from pipeline.artefacts.catalogue import RECORDS
from pipeline.artefacts.parameters import (
    listed,
    misnoted,
    named_parameters,
    outdated,
    read_record,
    stages_before,
    withdraw,
    write_record,
)
from pipeline.artefacts.receipts import check_receipts
from pipeline.config.originals import TEMPLATE
from tests.projects import ROOT, STAGES

USED = {"vision.shots": [0, 1], "fusion": {"vision_weight": 0.5}, "code.json:select": "a1"}
SELECT = Path("artefacts/parameters/select.json")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_record("select", USED)


def note(params: dict[str, Any], digest: str = "") -> None:
    """A dvc.lock that names the record and these parameters."""
    digest = digest or hashlib.md5(SELECT.read_bytes()).hexdigest()
    out = {"path": str(SELECT), "hash": "md5", "md5": digest}
    entry = {"cmd": "x", "params": {"params.yaml": params}, "outs": [out]}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"select": entry}}))


def test_every_stage_has_a_record() -> None:
    assert tuple(artefact.stage for artefact in RECORDS) == STAGES


def test_a_record_holds_what_params_yaml_gave() -> None:
    assert misnoted() == {}
    note({"vision.shots": [0, 1], "fusion": {"vision_weight": 0.5}})
    assert misnoted() == {}
    note({"vision.shots": [0, 2], "fusion": {"vision_weight": 0.2}})
    assert misnoted() == {"select": ["fusion.vision_weight", "vision.shots"]}


def test_the_bytes_of_a_record_depend_on_its_values_alone() -> None:
    first = SELECT.read_bytes()
    write_record("select", dict(reversed(USED.items())), {})
    assert SELECT.read_bytes() == first
    assert read_record("select", "files") == {}
    write_record("select", USED, {"a.pt": "f0"})
    assert read_record("select", "files") == {"a.pt": "f0"}
    SELECT.write_text('{"schema": 1, "parameters": 3}')
    assert read_record("select", "parameters") == {}


def test_values_that_only_one_of_both_has_are_passed_over() -> None:
    note({"vision.shots": [0, 1], "vision.seeds": [3]})
    assert misnoted() == {}
    note(None)  # type: ignore[arg-type]
    assert misnoted() == {}


def test_another_project_than_the_folder_here(monkeypatch: pytest.MonkeyPatch) -> None:
    note({"vision.shots": [0, 2]})
    Path("params.yaml").write_text("vision: {shots: [0]}\nfusion: {vision_weight: 0.5}\n")
    folder = Path.cwd()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert misnoted() == outdated(["select"]) == {}
    assert misnoted(folder) == outdated(["select"], folder) == {"select": ["vision.shots"]}


def test_a_record_that_dvc_does_not_name_is_of_no_matter() -> None:
    """Its stage was killed, or is still running: DVC runs it again."""
    note({"vision.shots": [0, 2]}, digest="0" * 32)
    assert misnoted() == {}
    note({"vision.shots": [0, 2]})
    SELECT.unlink()
    assert misnoted() == {}
    if os.name != "nt":
        os.mkfifo(SELECT)
        assert misnoted() == {}, "a pipe is not waited for"


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "stages: 3", "stages: {select: 3}", "stages: {select: {}}",
        "stages: {select: {outs: 3}}", "stages: {select: {outs: [3]}}",
        "stages: {select: {outs: [{path: []}]}}",
    ],
)  # fmt: skip
def test_a_damaged_lock_says_nothing(text: str) -> None:
    Path("dvc.lock").write_text(text)
    assert misnoted() == {}
    check_receipts()


def test_what_changed_since_a_stage_ran() -> None:
    Path("params.yaml").write_text("vision: {shots: [0, 1]}\nfusion: {vision_weight: 0.5}\n")
    assert outdated(["select", "bank"]) == {}
    Path("params.yaml").write_text("vision: {shots: [0]}\nfusion: {vision_weight: 0.5}\n")
    assert outdated(["select", "bank"]) == {"select": ["vision.shots"]}
    assert outdated(["bank"]) == {}


def test_stages_before() -> None:
    assert stages_before("bank") == []
    Path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    assert set(stages_before("bank")) == {"manifest", "select", "extract"}
    assert set(stages_before("report")) == set(STAGES) - {"report"}
    assert set(stages_before("manifest")) == set()


def test_stages_before_by_any_of_their_outputs() -> None:
    stages: dict[str, dict[str, Any]] = {
        "a": {"outs": ["x", {"y": {"cache": False}}], "deps": ["file"]},
        "b": {"deps": ["y"], "metrics": [{"m": {"cache": False}}]},
        "c": {"deps": ["m"], "outs": ["z"]},
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert stages_before("b") == ["a"]
    assert stages_before("c") == ["b", "a"]
    stages["a"]["deps"] = ["z"]  # which DVC refuses
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert stages_before("c") == ["b", "a"]


def test_parameters_by_file_in_the_order_of_dvc_yaml() -> None:
    entry = {"params": ["b", {"code.json": None}, "a", {"code.json": ["x"]}]}
    assert named_parameters(entry) == {"params.yaml": ["b", "a"], "code.json": ["x"]}


def test_long_lists_are_cut() -> None:
    found = {stage: list("abc") for stage in "123"}
    assert listed(found, most=2) == "1: a, b; 2: a, b"


def test_what_is_withdrawn_cannot_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.md5(SELECT.read_bytes()).hexdigest()
    copy, runs = Path("cache") / digest, Path("runs")
    for file, text in (
        (copy, "copy"), (runs / "aa/bb/cc", f"md5: {digest}"), (runs / "aa/dd/ee", "another")
    ):  # fmt: skip
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    repo = SimpleNamespace(
        cache=SimpleNamespace(local=SimpleNamespace(oid_to_path=lambda oid: f"cache/{oid}")),
        stage_cache=SimpleNamespace(cache_dir="runs"),
    )
    stub = SimpleNamespace(Repo=lambda folder: contextlib.nullcontext(repo))
    monkeypatch.setitem(sys.modules, "dvc.repo", stub)  # type: ignore[arg-type]
    withdraw(["bank"])
    assert copy.exists()
    withdraw(["select"])
    assert not SELECT.exists()
    assert not copy.exists()
    assert not (runs / "aa/bb").exists()  # DVC fails at a folder without an entry
    assert (runs / "aa/dd/ee").exists()


def test_the_report_comes_from_records_that_it_depends_on() -> None:
    """Otherwise parameters saved at its very end could stay noted for a page of other ones."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {str(a.path) for a in RECORDS if a.stage != "report"} <= set(stages["report"]["deps"])

    def named(stage: str) -> set[str]:
        found = set()
        for entry in stages[stage]["params"]:
            entry = {"params.yaml": [entry]} if isinstance(entry, str) else entry
            found |= set(entry.get("params.yaml", ()))
        return found

    content = yaml.safe_load(TEMPLATE.read_text())

    def leaves(names: set[str]) -> set[str]:
        found = set()
        for name in names:
            value = content
            for key in name.split("."):
                value = value[key]
            inside = isinstance(value, dict) and value
            found |= {f"{name}.{key}" for key in value} if inside else {name}
        return found

    others = set().union(*(leaves(named(stage)) for stage in STAGES if stage != "report"))
    # a section of the report's stands for what others name of it
    found = {
        name for name in leaves(named("report")) if not any(o.startswith(name) for o in others)
    }
    assert found == set()


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(parameters).failed == 0
