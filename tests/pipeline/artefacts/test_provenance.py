"""Results say what they were computed with, and their numbers do not depend on it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefacts.catalogue import EVALUATION, METRICS, REPORT, RUN
from pipeline.artefacts.provenance import (
    CHANGED,
    contents_by_category,
    data_fingerprint,
    flattened,
    made_with,
    revision,
    versions,
)
from tests.projects import changed, golden_params, run_stages


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    if not shutil.which("git"):
        pytest.skip("there is no git here")
    folder = tmp_path / "project"
    for name in ("results", "logs"):
        (folder / name).mkdir(parents=True)
    for name in ("code.py", "dvc.lock", "results/metrics.csv", "logs/run.log"):
        (folder / name).write_text("1")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_revision(repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert revision(repository) == made_with(repository)["project"] == commit
    (repository / "untracked").write_text("2")
    (repository / "dvc.lock").write_text("2")
    (repository / "results/metrics.csv").write_text("2")
    (repository / "logs/run.log").write_text("2")
    assert revision(repository) == commit, "what a run writes is no change"
    (repository / "code.py").write_text("2")
    assert revision(repository) == commit + CHANGED
    assert revision(tmp_path) is None
    assert revision(tmp_path / "nowhere") is None
    (repository / "part").mkdir()
    assert revision(repository / "part") == commit, "of a folder, not of all around it"


def test_without_git_or_a_commit(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "-q")
    assert revision(tmp_path / "new") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision(repository) is None
    assert made_with(repository)["project"] is None


def test_versions() -> None:
    found = versions()
    assert found["torch"]
    assert found["numpy"]
    assert found["python"].count(".") == 2


def test_in_the_results(golden_checkpoint: Path, tmp_path: Path) -> None:
    if not shutil.which("git"):
        pytest.skip("there is no git here")
    params: dict[str, Any] = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        dataset__limit=1,
        dataset__categories=["weave"],
        evaluate__size=64,
    )
    folder = run_stages(tmp_path / "run", params)
    assert json.loads((folder / EVALUATION.path).read_text())["made_with"]["project"] is None
    numbers = (folder / METRICS.path).read_bytes()
    git(folder, "init", "-q")
    git(folder, "add", "params.yaml")
    git(folder, "commit", "-q", "-m", "first")
    commit = git(folder, "rev-parse", "HEAD")
    again = changed(params, runtime={"device": "cpu", "batch_size": 3})
    run_stages(folder, again, "evaluate", "report")
    told = json.loads((folder / RUN.path).read_text())
    assert told["made_with"]["project"] == commit + CHANGED, "params.yaml was written anew"
    assert told["made_with"]["versions"] == versions()
    assert told["parameters"]["fusion"]["vision_weight"] == params["fusion"]["vision_weight"]
    assert not {"runtime", "cluster"} & set(told["parameters"])
    assert set(told["features"]) == {"clip-cls-96", "clip-patch-96", "gem-patch-96"}
    for feature in told["features"].values():
        assert len(feature["fingerprint"]) == 40
        assert feature["description"]["weights"]
    assert len(told["manifest"]) == 40
    assert {len(hash) for hash in told["test_data"].values()} == {40}
    page = (folder / REPORT.path / "index.html").read_text(encoding="utf-8")
    assert commit + CHANGED in page
    assert told["features"]["clip-patch-96"]["fingerprint"] in page
    assert (folder / METRICS.path).read_bytes() == numbers


def test_the_contents_of_categories() -> None:
    rows = [("a", "a/1", "x", None), ("a", "a/2", "y", "m"), ("b", "b/1", "x", None)]
    found = contents_by_category(rows)
    assert set(found) == {"a", "b"}
    assert contents_by_category(reversed(rows)) == found
    assert found["a"] != contents_by_category([rows[0], *rows[1:2] * 2])["a"]
    assert found["b"] != contents_by_category(rows[2:] * 3)["b"]  # equal ones do not cancel out
    many = contents_by_category((str(number), "a/1", "x", None) for number in range(40))
    one_each = contents_by_category((str(number), str(number), "x", None) for number in range(40))
    assert len(set(many.values())) == 1
    assert {len(one) for one in one_each.values()} == {40}  # zeros at the front, too
    odd = [("a", name, "x", None) for name in ("\udce4", "\udce5")]  # names that are no UTF-8
    assert contents_by_category(odd[:1]) != contents_by_category(odd[1:])
    for changed_row in (("a", "a/2", "z", "m"), ("a", "a/2", "y", "n"), ("a", "a/3", "y", "m")):
        other = contents_by_category([rows[0], changed_row, rows[2]])
        assert (other["a"] == found["a"], other["b"] == found["b"]) == (False, True)


def test_the_fingerprint_of_data() -> None:
    images = [("a/1.png", "x"), ("a/2.png", "y")]
    others = [
        images[:1], images[::-1], [("a/1.png", "x"), ("a/3.png", "y")],
        [("a/1.png", "x"), ("a/2.png", "z")], [("a/1.pngy a/2.png", "x")],
    ]  # fmt: skip
    found = {data_fingerprint(one) for one in (images, *others)}
    assert len(found) == 1 + len(others)


def test_what_was_computed_with_in_lines() -> None:
    told = {"versions": {"numpy": "2"}, "project": None, "code": "f0"}
    revisions = {"project's git revision": "none", "code's git revision": "f0"}
    assert flattened(told) == {"numpy": "2", **revisions}
    assert flattened({"versions": {}}) == {}
