"""Project folders apart from the clone, and what stands for the code in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fade.errors import ParameterError
from pipeline.config.load import load_params, parse_params
from pipeline.config.originals import TEMPLATE
from pipeline.project import scaffold
from pipeline.project.code import code_hashes, refresh_code
from pipeline.project.scaffold import check_apart
from tests.interpreter import Interpreter
from tests.projects import ROOT, changed, golden_params


def test_a_projects_dvc_yaml_is_the_clones_without_its_code() -> None:
    clone = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    del clone["stages"]["code"]
    for stage in clone["stages"].values():
        stage["cmd"] = stage["cmd"].replace("python -m", "python -P -m")
    text = scaffold.project_dvc_yaml()
    assert yaml.safe_load(text) == clone
    assert text.startswith("# The pipeline, as `fade new` wrote it")
    assert "stage `code`" not in text


def test_dvc_writes_no_lock_among_the_code_that_it_watches() -> None:
    """Else stage `code` runs again when the demo's images are made, and nothing has changed."""
    watched = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["code"]["deps"]
    assert [found for name in watched for found in (ROOT / name).rglob("dvc.yaml")] == []


def test_a_demo_project(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    params = TEMPLATE.read_text(encoding="utf-8")
    written = scaffold.create(folder, params, demo=True, git=False)
    assert all((folder / path).is_file() for path in written)
    assert (folder / "params.yaml").read_text(encoding="utf-8") == params
    assert "no_scm = true" in (folder / ".dvc" / "config").read_text()
    stage = yaml.safe_load((folder / "demo" / "dvc.yaml").read_text())["stages"]["images"]
    clone = yaml.safe_load((ROOT / "demo" / "dvc.yaml").read_text())["stages"]["images"]
    assert {**stage, "cmd": stage["cmd"].replace("python -P", "python")} == clone
    assert not (folder / ".git").exists()


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("mine")
    with pytest.raises(ParameterError, match=r"already has params\.yaml"):
        scaffold.create(tmp_path, "other", demo=False, git=False)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
    scaffold.create(tmp_path, "other", demo=False, git=False, force=True)
    assert (tmp_path / "params.yaml").read_text() == "mine"
    assert (tmp_path / "dvc.yaml").read_text() == scaffold.project_dvc_yaml()


def test_what_somebody_set_stays_when_a_project_is_renewed(tmp_path: Path) -> None:
    params = TEMPLATE.read_text(encoding="utf-8")
    scaffold.create(tmp_path, params, demo=False, git=False)
    config, ignored = tmp_path / ".dvc" / "config", tmp_path / ".gitignore"
    config.write_text(config.read_text() + "['remote \"team\"']\n    url = s3://team/dvc\n")
    ignored.write_text("/notes\n/logs/")
    (tmp_path / "prompts" / "README.md").write_text("ours")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    before = config.read_text()
    scaffold.create(tmp_path, "other", demo=False, git=True, force=True)
    assert config.read_text() == before
    assert not (tmp_path / ".git").exists()  # the project is one without git
    assert (tmp_path / "prompts" / "README.md").read_text() == "ours"
    lines = ignored.read_text().splitlines()
    assert lines[:2] == ["/notes", "/logs/"]
    assert sorted(lines[2:]) == sorted({*scaffold._GITIGNORE.splitlines()} - {"/logs/"})
    assert (tmp_path / "dvc.yaml").read_text() == scaffold.project_dvc_yaml()
    whole = ignored.read_bytes()
    scaffold.create(tmp_path, "other", demo=False, git=True, force=True)
    assert ignored.read_bytes() == whole


def test_no_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match="cannot become a project folder"):
        scaffold.create(tmp_path / "file" / "project", "x", demo=False, git=False)


def test_refresh(tmp_path: Path) -> None:
    assert not refresh_code(tmp_path)
    assert not (tmp_path / "code.json").exists()
    scaffold.create(tmp_path, "x", demo=False, git=False)
    assert not refresh_code(tmp_path)
    (tmp_path / "code.json").write_text("{}")
    assert refresh_code(tmp_path)
    assert json.loads((tmp_path / "code.json").read_text()) == code_hashes()
    kept = tmp_path / ".fade" / "code.json"
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps(content | {"text": "of these stamps\n"}))
    assert refresh_code(tmp_path)
    assert (tmp_path / "code.json").read_text() == "of these stamps\n"
    for damaged in (json.dumps(content | {"stamp": "other", "text": "{}"}), "[", "[]"):
        kept.write_text(damaged)
        refresh_code(tmp_path)
        assert json.loads((tmp_path / "code.json").read_text()) == code_hashes()


def test_paths_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.cli.main import main

    monkeypatch.chdir(tmp_path)
    Path("clip.pt").touch()
    with pytest.raises(SystemExit) as ended:
        main(
            ["new", "p", "--preset", "visa-zeroshot-both", "--data", "visa", "--weights", "clip.pt"]
        )
    assert not ended.value.code
    params = load_params(Path("p/params.yaml"))
    assert params.dataset.path == params.dataset.watch == str(tmp_path / "visa")
    assert params.model.pretrained == str(tmp_path / "clip.pt")
    assert not Path("p/demo").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_dvc_runs_it(tmp_path: Path, golden_checkpoint: Path, interpreter: Interpreter) -> None:
    """Stages run from the installed package, and again when their own code changes."""
    content = changed(
        golden_params("zeroshot_language", golden_checkpoint), features__segmentation_sizes=[96]
    )
    template = yaml.safe_load(TEMPLATE.read_text())
    full = parse_params({**template, **content}).model_dump()
    scaffold.create(tmp_path, yaml.safe_dump(full), demo=False, git=True)
    assert (tmp_path / ".git").is_dir()

    def dvc(*arguments: str) -> list[str]:
        path = f"{interpreter.python.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [interpreter.python, "-m", "dvc", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return re.findall(r"Running stage '(\w+)'", done.stdout)

    assert dvc("repro", "select") == ["manifest", "select"]
    assert dvc("repro", "select") == []
    hashes = code_hashes()
    (tmp_path / "code.json").write_text(json.dumps({**hashes, "select": "other", "bank": "other"}))
    assert dvc("repro", "select") == ["select"]


@pytest.mark.parametrize("name", ["parts", "parts/project", "parts/tile/project"])
def test_no_project_among_its_images(name: str, tmp_path: Path) -> None:
    data = tmp_path / "parts"
    (data / "tile" / "train" / "good").mkdir(parents=True)
    with pytest.raises(ParameterError, match=r"lies among the images in .*parts"):
        check_apart(tmp_path / name, str(data))
    check_apart(tmp_path / "project", str(data))
    check_apart(tmp_path, str(data))  # images may lie in the project
    check_apart(tmp_path / "parts2", "s3://bucket/parts")
