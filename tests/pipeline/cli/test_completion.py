"""What a shell offers: presets, categories and stages of this folder, and nothing where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.artefacts.catalogue import CATEGORIES
from pipeline.cli.completion import (
    complete_categories,
    complete_category,
    complete_preset,
    complete_stage,
)
from pipeline.cli.main import main
from pipeline.config.presets.catalogue import PRESETS
from tests.projects import ROOT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(*categories: str) -> None:
    CATEGORIES.path.parent.mkdir(exist_ok=True)
    CATEGORIES.path.write_text(json.dumps({"categories": list(categories)}), encoding="utf-8")


def offered(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """What bash would show after a line."""
    monkeypatch.setenv("_FADE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    with pytest.raises(SystemExit) as ended:
        main([])
    assert not ended.value.code
    return capsys.readouterr().out.split()


def test_presets_with_what_they_are() -> None:
    assert complete_preset("own-f") == [("own-fewshot", PRESETS["own-fewshot"].summary)]
    assert [name for name, _ in complete_preset("")] == list(PRESETS)


def test_stages_are_those_of_this_folder(folder: Path) -> None:
    assert complete_stage("") == []
    (folder / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    assert complete_stage("score") == ["score_language", "score_vision"]
    (folder / "dvc.yaml").write_text("stages: [", encoding="utf-8")
    assert complete_stage("") == []


def test_categories_are_those_of_the_run_or_else_of_the_parameters(folder: Path) -> None:
    assert complete_category("") == []
    (folder / "params.yaml").write_text("dataset: {categories: [cable, nut]}", encoding="utf-8")
    assert complete_category("c") == ["cable"]
    finished("capsule", "cable", "b, large", 'bolt, 6" long')
    assert complete_category("ca") == ["capsule", "cable"]
    assert complete_categories("cable,ca") == ["cable,capsule"]
    assert complete_categories("cable,") == [
        "cable,capsule", 'cable,"b, large"', 'cable,"bolt, 6"" long"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("fade new x --preset own-ze", ["own-zeroshot"]),
        ("fade methods x --preset own-ze", ["own-zeroshot"]),
        ("fade run ext", ["extract"]),
        ("fade run --categories nut,c", ["nut,cable"]),
        ("fade export maps x --categories c", ["cable"]),
        *((f"fade {name} --category c", ["cable"]) for name in ("predict", "show", "bundle")),
        ("fade measure --category c", ["cable"]),
    ],
)
def test_a_shell_gets_them(
    line: str,
    found: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    finished("cable", "nut")
    assert offered(line, monkeypatch, capsys) == found
