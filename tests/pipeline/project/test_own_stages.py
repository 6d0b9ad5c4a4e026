"""A project's dvc.yaml after an upgrade: what it must name, and what is said where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fade.errors import ParameterError
from pipeline.config.originals import TEMPLATE
from pipeline.project import scaffold
from pipeline.project.dvc import repro
from pipeline.project.own_stages import check_own_stages, lacking
from tests.projects import ROOT

Stages = dict[str, Any]


@pytest.fixture
def change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Stages], Any]], None]:
    """A project of ``fade new``, and a function that writes its dvc.yaml with other stages."""
    scaffold.create(tmp_path, TEMPLATE.read_text("utf-8"), demo=True, git=False)
    monkeypatch.chdir(tmp_path)

    def write(edit: Callable[[Stages], Any]) -> None:
        content = yaml.safe_load(scaffold.project_dvc_yaml())
        edit(content["stages"])
        Path("dvc.yaml").write_text(yaml.safe_dump(content))

    return write


def _without_parameter(stages: Stages) -> None:
    for entry in stages["evaluate"]["params"]:
        for names in entry.values():
            names[:] = [name for name in names if name != "evaluate.labels"]


def test_a_dvc_yaml_of_before_is_refused(change: Callable[[Callable[[Stages], Any]], None]) -> None:
    assert lacking() == {}
    change(_without_parameter)
    assert lacking() == {"evaluate": ["evaluate.labels"]}
    with pytest.raises(
        ParameterError, match=r"\(evaluate: evaluate\.labels\): renew it with `fade new"
    ):
        repro()
    change(lambda stages: stages["evaluate"]["outs"].remove("results/defects.csv"))
    assert lacking() == {"evaluate": ["results/defects.csv"]}
    change(lambda stages: stages["report"]["deps"].remove("artefacts/text"))
    assert lacking() == {"report": ["artefacts/text"]}
    change(lambda stages: stages["bank"]["params"].pop(0))
    assert lacking() == {"bank": ["bank"]}  # of code.json
    change(lambda stages: stages["bank"].update(params=["vision"], deps=[]))
    with pytest.raises(ParameterError, match=r"bank: bank, features\.\S+ .* \.\.\.\): renew it"):
        check_own_stages()


def test_a_dvc_yaml_that_names_more_passes(
    change: Callable[[Callable[[Stages], Any]], None],
) -> None:
    change(lambda stages: stages["extract"]["deps"].append("weights.safetensors"))
    assert lacking() == {}
    change(
        lambda stages: stages["bank"].update(
            params=[{"code.json": None}, "features", "vision", "fusion"], deps=["artefacts"]
        )
    )
    assert lacking() == {}
    change(lambda stages: stages.pop("report"))
    assert lacking() == {}
    change(lambda stages: stages.update(bank="nothing", text={"params": 1}))  # for DVC to refuse
    assert lacking() == {}


def test_nothing_is_said_of_a_clone(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {evaluate: {cmd: x}}")
    assert lacking(tmp_path) == {}
    assert lacking(ROOT) == {}
