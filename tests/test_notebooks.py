"""The notebooks of docs/notebooks, cell by cell, in a project whose run is finished."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.docs import environment
from tests.interpreter import Interpreter
from tests.projects import ROOT
from tests.test_promises import made, parameters

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SHOW = """
def show(value):
    draw = getattr(value, "_repr_html_", None)
    print(draw() if draw else repr(value))
"""


def cells(notebook: Path) -> list[str]:
    """The code of each cell."""
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def program(notebook: Path) -> str:
    """The cells one after the other; what a cell ends with is shown, as Jupyter does."""
    lines = [SHOW]
    for text in cells(notebook):
        *before, last = ast.parse(text).body
        if isinstance(last, ast.Expr):
            show = ast.parse(f"show({ast.unparse(last.value)})").body
            lines.append(ast.unparse(ast.Module([*before, *show], [])))
        else:
            lines.append(text)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path, interpreter: Interpreter
) -> Path:
    folder = tmp_path_factory.mktemp("notebooks") / "project"
    params = parameters(
        golden_checkpoint, "fewshot1_both_seed0", threshold__images=2, dataset__limit=3,
        features__segmentation_sizes=[96], text__segmentation__prompts=["winclip"], evaluate__size=64,
    )  # fmt: skip
    place = made(folder, params, "new", str(interpreter.python))
    code, said = place.fade("run")
    assert code == 0, said
    return folder


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(notebook: Path, project: Path, tmp_path: Path, interpreter: Interpreter) -> None:
    found = subprocess.run(
        [interpreter.python, "-c", program(notebook)], cwd=tmp_path, text=True,
        env={**environment(tmp_path, interpreter.python), "FADE_PROJECT": str(project)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
    shown = {
        "cluster": "tcp://127.0.0.1", "demo": 'src="data:image/', "own-images": 'src="data:image/',
        "paper-tables": r"\begin{tabular}",
    }  # fmt: skip
    assert shown[notebook.stem] in found.stdout


def test_there_is_one_for_each_tutorial() -> None:
    assert {notebook.stem for notebook in NOTEBOOKS} == {
        "cluster", "demo", "own-images", "paper-tables",
    }  # fmt: skip
    for page in ("cluster", "demo", "own-data", "reproduce"):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        assert "notebooks/" in text, page
