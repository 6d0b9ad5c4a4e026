"""What is looked at before a run, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import main
from pipeline.project import doctor, scaffold
from tests.projects import ROOT, changed, golden_params, project


@pytest.fixture
def content(golden_checkpoint: Path) -> dict[str, Any]:
    return golden_params("fewshot1_both_seed0", golden_checkpoint)


def look(folder: Path, content: dict[str, Any]) -> dict[str, doctor.Finding]:
    """The findings of a project, the worst of each topic."""
    order = {"ok": 0, "warning": 1, "problem": 2}
    with project(folder, content):
        if not Path("dvc.yaml").exists():
            Path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
            Path(".dvc/config").write_text("[core]\n    no_scm = true\n")
        findings = doctor.diagnose()
    return {f.topic: f for f in sorted(findings, key=lambda f: order[f.level])}


def test_all_is_well(tmp_path: Path, content: dict[str, Any]) -> None:
    found = look(tmp_path, content)
    assert [f for f in found.values() if f.level == "problem"] == []
    assert "2 categories, 16 training and 32 test images" in found["data"].text
    assert "not read" in found["model"].text
    assert not (tmp_path / ".fade").exists()


@pytest.mark.parametrize(
    ("topic", "leaves", "level", "code", "clue"),
    [
        ("data", {"dataset__path": "nowhere"}, "problem", 3, "nowhere does not exist"),
        ("model", {"model__pretrained": "seeded"}, "warning", 0, "scores mean nothing"),
        ("model", {"model__pretrained": "lost.pt"}, "problem", 4, "lost.pt"),
        ("model", {"model__name": "ViT-B-61"}, "problem", 4, "no model 'ViT-B-61'"),
        ("model", {"model__name": "lost.json"}, "problem", 4, "no config file"),
        (
            "model",
            {"model__name": "ViT-B-16-plus-240", "model__pretrained": "laion400m_e31"},
            "warning", 0, "downloads",
        ),
        (
            "model",
            {"model__name": "hf-hub:nobody/nothing", "model__pretrained": ""},
            "warning", 0, "nobody/nothing",
        ),
        ("prompts", {"text__segmentation__prompts": ["lost.json"]}, "problem", 3, "lost.json"),
        ("parameters", {"vision__shot": 1}, "problem", 2, "did you mean shots"),
        ("threads", {"cluster": {"kind": "processes", "workers": 4096}}, "warning", 0, "more threads"),
        ("store", {"features__store": "ftp://bucket"}, "problem", 2, "starts with none of"),
    ],
)  # fmt: skip
def test_what_is_wrong(
    tmp_path: Path,
    content: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    topic: str,
    leaves: dict[str, Any],
    level: str,
    code: int,
    clue: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("pipeline.features.hub.unreachable", lambda: None)
    found = look(tmp_path, changed(content, **leaves))
    assert (found[topic].level, found[topic].code) == (level, code)
    assert clue in found[topic].text


def test_a_file_in_the_place_of_the_store(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / ".fade").write_text("")
    found = look(tmp_path, content)["store"]
    assert (found.level, found.code) == ("problem", 5)
    assert ".fade is a file" in found.text


def test_a_store_of_another_version(tmp_path: Path, content: dict[str, Any]) -> None:
    store = tmp_path / ".fade" / "store"
    store.mkdir(parents=True)
    (store / "store.json").write_text('{"schema": 99}')
    found = look(tmp_path, content)
    assert found["store"].code == 5
    assert "schema version 99" in found["store"].text


def test_a_full_disk(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LOW_DISK", 1 << 80)
    assert "features.store" in look(tmp_path, content)["store"].text


def test_a_new_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    scaffold.create(tmp_path, params, demo=True, git=False)
    (tmp_path / "dvc.yaml").write_text(scaffold.project_dvc_yaml() + "# mine\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    assert not ended.value.code
    findings = json.loads(capsys.readouterr().out)
    texts = {f["topic"]: f["text"] for f in findings if f["level"] == "warning"}
    assert "`fade run` makes it" in texts["data"]
    assert "fade new . --force" in texts["project"]


def test_the_first_problem_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2
    assert "problem parameters: no params.yaml here" in capsys.readouterr().out
    findings = [doctor.ok("a", ""), doctor.Finding("b", "problem", "", 4)]
    assert doctor.exit_code(findings) == 4
    assert doctor.exit_code(findings[:1]) == 0
