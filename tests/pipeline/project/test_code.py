"""Which stages run again after which change of the code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.features.told import code_of
from pipeline.project.code import OTHERS, OWN_PACKAGES, closure, code_hashes, modules, refresh_code
from tests.projects import ROOT, STAGES


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages."""
    root = tmp_path_factory.mktemp("code")
    for package in OWN_PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("*.pyc"))
    return root


def test_every_stage_has_a_hash_of_its_own() -> None:
    hashes = code_hashes()
    assert set(hashes) == {*STAGES, *OTHERS}
    assert len(set(hashes.values())) == len(hashes)


def test_the_hash_of_a_copy_is_the_same(tree: Path) -> None:
    assert code_hashes(tree) == code_hashes()


ENCODING = {"extract", "text", "stream"}
SCORING = {"bank", "score_language", "score_vision", "evaluate"}


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("fade/metrics.py", {"evaluate", "report"}),
        ("fade/gem.py", ENCODING | {"report"}),
        ("cache/store.py", ENCODING | SCORING | {"report"}),
        ("fade/ensembles/descriptions_1.json", {"text", "stream", "score_language"}),
        ("pipeline/report/report.html.j2", {"report"}),
        ("pipeline/report/page/page.js", {"report"}),
        ("pipeline/demo/fade-demo.json", ENCODING),
        ("pipeline/demo/families.py", {"images"}),
        ("stages/select.py", {"select"}),
        ("pipeline/__init__.py", {*STAGES, *OTHERS}),
        ("pipeline/cli/main.py", set()),
        ("pipeline/project/doctor.py", set()),
    ],
)
def test_what_runs_after_a_change(tree: Path, file: str, again: set[str]) -> None:
    before = code_hashes(tree)
    changed = tree / file
    content = changed.read_bytes()
    try:
        changed.write_bytes(content + b"\n# a remark\n")
        after = code_hashes(tree)
    finally:
        changed.write_bytes(content)
    assert {stage for stage in before if before[stage] != after[stage]} == again


def test_caches_of_python_count_for_nothing(tree: Path) -> None:
    before = code_hashes(tree)
    cached = tree / "fade" / "ensembles" / "__pycache__"
    cached.mkdir()
    (cached / "a.pyc").write_text("x")
    assert code_hashes(tree) == before


def test_a_closure_holds_the_packages_around_its_modules() -> None:
    found = closure("stages.select", modules())
    assert {"stages", "stages.select", "pipeline", "pipeline.config", "fade.sampling"} <= found
    assert not {"fade.encoder", "pipeline.cli.main"} & found


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 99_999])
def test_damaged_hashes_are_made_again(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".fade").mkdir()
    for name in ("code.json", ".fade/code.json"):
        (tmp_path / name).write_text(content)
    assert code_of("text") is None
    assert refresh_code()
    assert json.loads((tmp_path / "code.json").read_text()) == code_hashes()
