"""Who may import whom: the table of docs/ARCHITECTURE.md, held against the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import fade
import pipeline
from pipeline.project.code import imported
from tests.imports import ROOT, closure, imports, modules

MAY_IMPORT = {
    "fade": {"fade"},
    "cache": {"cache", "fade.types", "fade.errors", "fade.files"},
    "pipeline": {"pipeline", "cache", "fade"},
    "stages": {"pipeline", "cache", "fade"},
}
ROOMS = (
    "process", "config", "artefacts", "compute", "dataset", "features", "scoring",
    "evaluation", "report", "stage", "inference", "project", "serve", "cli",
)  # fmt: skip
"""Of ``pipeline``: each may import those before it. ``demo`` stands apart and imports none."""
FOREIGN_TO_FADE = {"dvc", "dask", "zarr", "typer", "pandas", "pydantic", "distributed"}
WORKER_STAGES = ("score_language", "score_vision", "evaluate")
LIGHT_STAGES = ("manifest", "select", "bank", *WORKER_STAGES)
"""Those that need no model: importing torch would take longer than their work."""
ONLY_FOR_GPUS = {"pipeline.compute.launch", "fade.device", "fade.gpu"}
"""Count GPUs and search on them with torch, and only where there are some."""


@pytest.mark.parametrize("module", sorted(modules()))
def test_no_arrow_against_the_table(module: str) -> None:
    allowed = MAY_IMPORT[module.split(".")[0]]
    for name in imports(module):
        assert any(name == a or name.startswith(f"{a}.") for a in allowed), f"{module} -> {name}"


@pytest.mark.parametrize("module", sorted(m for m in modules() if m.startswith("pipeline.")))
def test_rooms_of_the_pipeline_import_those_before_them(module: str) -> None:
    room = module.split(".")[1]
    allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else (room,)
    for name in imports(module):
        if name.startswith("pipeline."):
            assert name.split(".")[1] in allowed, f"{module} -> {name}"


def test_no_circle() -> None:
    for module in modules():
        for name in imports(module):
            assert module not in closure(name), f"{module} <-> {name}"


@pytest.mark.parametrize("module", sorted(modules()))
def test_the_project_itself_takes_no_name_that_a_package_imports_late(module: str) -> None:
    """Hashes of the code would not follow it."""
    offered = {f"{p.__name__}.{name}" for p in (fade, pipeline) for name in p._HOMES}
    assert not offered & imported(modules()[module])


@pytest.mark.parametrize("module", sorted(m for m in modules() if m.startswith("fade.")))
def test_the_library_knows_nothing_of_the_pipeline(module: str) -> None:
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    names = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert not names & FOREIGN_TO_FADE


@pytest.mark.parametrize("stage", WORKER_STAGES)
def test_scoring_workers_know_neither_torch_nor_open_clip(stage: str) -> None:
    code = (
        "import sys, importlib, pkgutil\n"
        f"importlib.import_module('stages.{stage}')\n"
        "import zarr, faiss, cv2, pandas, dask\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'open_clip', 'torchvision', 'sklearn'}, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for module in closure(f"stages.{stage}"):
        assert not module.startswith("fade.encoder"), f"{stage} reaches the encoder"


@pytest.mark.parametrize("stage", LIGHT_STAGES)
def test_stages_without_a_model_reach_no_torch(stage: str) -> None:
    heavy = {"torch", "torchvision", "open_clip"}
    for module in closure(f"stages.{stage}") - ONLY_FOR_GPUS:
        tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
        guarded = [
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        ]
        for node in ast.walk(tree):
            if node in guarded:
                continue
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            assert not heavy & {name.split(".")[0] for name in names}, f"{stage} -> {module}"


def test_no_file_is_long() -> None:
    """But for the demo's drawings: who looks for something reads one file, not a room."""
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for package in ("fade", "cache", "pipeline", "stages")
        for path in (ROOT / package).rglob("*.py")
        if "demo" not in path.parts
    }
    assert not {path: count for path, count in lines.items() if count > 400}
    stages = {p: n for p, n in lines.items() if p.startswith("stages")}
    assert not {path: count for path, count in stages.items() if count > 150}


def test_people_are_told_to_run_what_every_kind_of_project_has() -> None:
    """A ``fade new`` project need not have DVC's command, and there it overlooks replaced code."""
    for name, path in modules().items():
        assert not re.search(r"run\s+`dvc repro", path.read_text(encoding="utf-8")), name


def test_the_walks_name_what_is_there() -> None:
    """Each name of the two walks is defined, or at least used, in the file beside it."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    walks = text.partition("## Two walks")[2].partition("\n## ")[0]
    steps = re.findall(r"`(\w+)`\s+\(`([\w/]+\.py)`\)", walks)
    assert len(steps) >= 10
    for name, file in steps:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text(encoding="utf-8")), (name, file)
