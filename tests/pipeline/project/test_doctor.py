"""What is looked at before a run, and what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cache.layout import Space
from cache.store import Store
from fade.errors import StoreError
from pipeline.cli.main import main
from pipeline.config.load import parse_params
from pipeline.config.originals import TEMPLATE
from pipeline.project import doctor, scaffold
from pipeline.project.dvc import repro
from tests.projects import GOLDEN, ROOT, changed, golden_params, project


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
    found = look(tmp_path, parse_params(content).model_dump(mode="json"))
    assert [f for f in found.values() if f.level == "problem"] == []
    assert "2 categories, 16 training and 32 test images" in found["data"].text
    assert "not read" in found["model"].text
    assert not (tmp_path / ".fade").exists()


@pytest.mark.parametrize("closed", [".", ".dvc", "results", "results/plots"])
def test_a_project_that_nobody_may_write_into(
    closed: str, tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results" / "plots").mkdir(parents=True)
    place, access = (tmp_path / closed).resolve(), os.access

    def denied(path: Any, mode: int) -> bool:  # root may write into all folders
        return Path(path).resolve() != place and access(path, mode)

    monkeypatch.setattr(os, "access", denied)
    says = f"{place} cannot be written to, and a run writes there: change its rights"
    found = look(tmp_path, content)["project"]
    assert (found.level, found.code) == ("problem", 5)
    assert says in found.text
    with project(tmp_path, content), pytest.raises(StoreError, match=re.escape(says)):
        repro()


@pytest.mark.parametrize(
    ("topic", "leaves", "level", "code", "clue"),
    [
        ("data", {"dataset__path": "nowhere"}, "problem", 3, "nowhere does not exist"),
        ("model", {"model__pretrained": "seeded"}, "warning", 0, "scores mean nothing"),
        ("model", {"model__pretrained": "lost.pt"}, "problem", 4, "lost.pt"),
        ("model", {"model__name": "ViT-B-61"}, "problem", 4, "no model 'ViT-B-61'"),
        ("model", {"model__name": "lost.json"}, "problem", 4, "no config file"),
        ("model", {"model__name": "ViT-B-16-SigLIP"}, "problem", 4, "is a SigLIP model"),
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
        ("prompts", {"text__template": "a photo."}, "problem", 2, "lacks {prompt}"),
        ("parameters", {"vision__shot": 1}, "problem", 2, "did you mean shots"),
        ("threads", {"cluster": {"kind": "processes", "workers": 4096}}, "warning", 0, "more threads"),
        ("store", {"features__store": "ftp://bucket"}, "problem", 2, "starts with none of"),
        ("shots", {"vision__shots": [100]}, "problem", 2, "has only 8 training images"),
        ("shots", {"vision__shots": [9, 1]}, "problem", 2, "asks for 9"),
        ("thresholds", {"vision__shots": [8], "threshold__images": 50}, "warning", 0, "all training"),
        ("thresholds", {"vision__shots": [8], "threshold__images": 50, "vision__coreset": 0.5}, "warning",
            0, "none can be left out"),
        ("thresholds", {"threshold__images": 0}, "warning", 0, "no decisions"),
        ("thresholds", {"threshold": {"images": 50, "false_alarms": 0.01}}, "warning", 0,
            "needs 299 good images"),
        ("thresholds", {"threshold__overrides": {"plaet": 1}, "dataset__categories": None}, "problem", 2,
            "did you mean plate?"),
        ("references", {"vision__transform_overrides": {"plaet": "none"}}, "warning", 0,
            "did you mean plate?"),
        ("foreground", {"evaluate__foreground_overrides": {"plaet": False}}, "warning", 0,
            "did you mean plate?"),
        ("sizes", {"features__classification_size": 100}, "problem", 2, "use 96 or 112"),
        ("sizes", {"features__segmentation_sizes": [96, 101]}, "problem", 2, "segmentation_sizes: 101"),
        ("gem", {"model__gem__depth": 40}, "problem", 2, "model.gem.depth is 40"),
        (
            "prompts",
            {"text__overrides": {"plaet": {}}, "dataset__categories": None},
            "problem", 2, "did you mean plate?",
        ),
        (
            "prompts",
            {
                "text__segmentation__classifier": "mlp",
                "text__segmentation__prompts": [{"normal": ["a"], "abnormal": ["b"]}],
            },
            "problem", 3, "1 normal and 1 abnormal",
        ),
        ("data", {"dataset__categories": ["plaet"]}, "problem", 3, "plaet"),
        ("data", {"dataset__watch": "lost.csv"}, "problem", 3, "lost.csv does not exist"),
        ("labels", {"evaluate__labels": "labels.csv"}, "problem", 3, "labels.csv is not there"),
        ("index", {"vision__index": "IVX12,Flat"}, "problem", 2, "IVX12"),
        ("index", {"vision__index": "IVF0,Flat"}, "problem", 2, "IVF0"),
        ("device", {"runtime__device": "cuda"}, "problem", 2, "finds no GPU"),
        (
            "cluster",
            {"cluster": {"kind": "address", "address": "tcp://127.0.0.1:9"}},
            "problem", 2, "nothing answers at tcp://127.0.0.1:9",
        ),
        ("cluster", {"cluster": {"kind": "address", "address": "nowhere"}}, "problem", 2, "no host"),
        ("cluster", {"cluster": {"kind": "slurm", "memory": "8GiB"}}, "problem", 2, "sbatch"),
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
    assert [f.topic for f in found.values() if clue in f.text] == [topic], "one fault is said once"


def test_corrected_labels_are_those_that_are_counted(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    good = sorted((GOLDEN / "images" / "plate" / "test" / "good").iterdir())
    rows = [f"plate/test/good/{file.name},anomalous" for file in good]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    found = look(tmp_path, changed(content, evaluate__labels="labels.csv"))
    assert found["test images"].text.startswith("no good test images in plate:")
    assert found["masks"].text.startswith(f"{len(good)} defect images have none (plate)")
    assert found["labels"].text == f"labels.csv: {len(good)} labels"
    assert "test images" not in look(tmp_path, content)
    (tmp_path / "labels.csv").write_text("path,label\nplate/test/good/x.png,good\n")
    found = look(tmp_path, changed(content, evaluate__labels="labels.csv"))
    assert found["labels"].text.startswith(
        "labels.csv has a label of 'plate/test/good/x.png', which"
    )


@pytest.mark.parametrize("there", [True, False])
def test_bf16_that_the_processor_does_not_multiply(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr("fade.device.lacks_bf16", lambda: not there)
    found = look(tmp_path, changed(content, model__precision="bf16", runtime__device="cpu"))
    assert found["precision"].level == ("ok" if there else "warning")
    assert ("slower than fp32 on this processor" in found["precision"].text) != there


def test_a_hub_that_cannot_be_reached(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("pipeline.features.hub.unreachable", lambda: "the hub is far")
    leaves = {"model__name": "ViT-B-16", "model__pretrained": "laion2b_s34b_b88k"}
    found = look(tmp_path, changed(content, **leaves))["model"]
    assert (found.level, found.code) == ("problem", 4)
    assert "the hub is far" in found.text


def test_weights_whose_name_tells_of_another_activation(
    tmp_path: Path, content: dict[str, Any], golden_checkpoint: Path
) -> None:
    weights = tmp_path / "clip-openai.pt"
    shutil.copy(golden_checkpoint, weights)
    found = look(tmp_path / "project", changed(content, model__pretrained=str(weights)))["model"]
    assert (found.level, found.code) == ("problem", 4)
    assert "clip-openai.pt was trained with QuickGELU" in found.text
    assert '"quick_gelu": true' in found.text


def test_what_is_there_is_said(tmp_path: Path, content: dict[str, Any]) -> None:
    found = look(tmp_path, content)
    assert found["shots"].text == "up to 1; the smallest category has 8 training images"
    assert found["masks"].text == "all defect images have one (20)"
    assert "multiples of the patch size" in found["sizes"].text


def test_images_that_lack(tmp_path: Path, content: dict[str, Any]) -> None:
    data = tmp_path / "data"
    shutil.copytree(GOLDEN / "images", data)
    shutil.rmtree(data / "plate" / "test" / "good")
    shutil.rmtree(data / "weave" / "ground_truth" / "hole")
    found = look(
        tmp_path / "p", changed(content, dataset__path=str(data), dataset__watch=str(data))
    )
    assert found["test images"].text.startswith("no good test images in plate")
    assert found["masks"].text.startswith("5 defect images have none (weave)")
    shutil.rmtree(data / "plate" / "train")
    shutil.rmtree(data / "plate" / "ground_truth")
    found = look(
        tmp_path / "p", changed(content, dataset__path=str(data), dataset__watch=str(data))
    )
    # those of a category without any mask have a line of their own
    assert found["masks"].text.startswith("5 defect images have none (weave)")
    assert (found["shots"].level, found["shots"].code) == ("problem", 3)


def test_features_that_do_not_fit_on_the_disk(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage)
    text = look(tmp_path, content)["store"].text
    assert "features of all images take" in text
    assert "100,000 bytes free" in text


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


@pytest.mark.parametrize(("there", "level"), [(True, "warning"), (False, "problem")])
def test_a_store_that_may_only_be_read(
    there: bool,
    level: str,
    tmp_path: Path,
    content: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a store serves as long as it lacks nothing: only where there is none no run can start."""
    shared, access = tmp_path / "shared", os.access
    shared.mkdir()
    if there:
        Store(shared).register(Space("toy", {}, (4,), "float16"))

    def denied(path: Any, mode: int) -> bool:  # root may write into all folders
        return not (Path(path) == shared and mode & os.W_OK) and access(path, mode)

    monkeypatch.setattr(os, "access", denied)
    found = look(tmp_path / "project", changed(content, features__store=str(shared)))["store"]
    assert found.level == level
    assert f"{shared} cannot be written to" in found.text
    assert ("a run that lacks rows stops" in found.text) == there


def test_a_full_disk(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LOW_DISK", 1 << 80)
    assert "features.store" in look(tmp_path, content)["store"].text


def test_a_new_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = TEMPLATE.read_text(encoding="utf-8")
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
    older = scaffold.project_dvc_yaml().replace(
        "evaluate.group, evaluate.labels, ", "evaluate.group, "
    )
    (tmp_path / "dvc.yaml").write_text(older)

    def only_problem() -> str:
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--json"])
        assert ended.value.code == 2
        findings = json.loads(capsys.readouterr().out)
        (text,) = [f["text"] for f in findings if f["level"] == "problem"]
        return str(text)

    assert "(evaluate: evaluate.labels): renew it with `fade new . --force`" in only_problem()
    (tmp_path / "dvc.yaml").write_text(scaffold.project_dvc_yaml())
    (tmp_path / "params.yaml").write_text(re.sub(r"\n  labels: .*", "", params))
    assert "params.yaml lacks what dvc.yaml names: add evaluate.labels (null)" in only_problem()
    (tmp_path / "params.yaml").write_text(params)
    # a clone's own dvc.yaml is another one, and its first run makes code.json
    monkeypatch.setattr("pipeline.project.code.ROOT", tmp_path)
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert "project" not in {f["topic"] for f in findings if f["level"] == "warning"}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_first_commit_takes_the_project_and_no_images(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    scaffold.create(tmp_path, TEMPLATE.read_text(encoding="utf-8"), demo=True, git=True)
    for name in ("parts/train/good/000.png", "prompts/own.json", "secret.env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    text = look(tmp_path, content)["project"].text
    command = text.partition("before `dvc exp run`, ")[2]
    assert command.startswith("git add ")
    named = command.replace("git commit", "git -c user.name=a -c user.email=a@b commit")
    subprocess.run(named, shell=True, cwd=tmp_path, check=True)
    listed = subprocess.check_output(["git", "ls-files"], cwd=tmp_path, text=True)
    assert listed.split() == [
        ".dvc/.gitignore", ".dvc/config", ".dvcignore", ".gitignore", "code.json", "demo/dvc.yaml",
        "dvc.yaml", "params.yaml", "prompts/README.md", "prompts/own.json",
    ]  # fmt: skip


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
