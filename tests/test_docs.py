"""Every command in README and docs runs as it is written, in the order in which it is written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import blocks, documents, environment, make_demo, make_parts, shell
from tests.interpreter import Interpreter

INSPECTION = "inspection"
"""The project that README makes, in which docs/predict.md goes on."""
OWN_FOLDER = {"README.md": "", "docs/own-data.md": "own", "docs/predict.md": INSPECTION}
"""Where the blocks of a document run, below the demo's project; README first."""
NEW = re.compile(r"^fade new (\w+) .*$", re.MULTILINE)
SMALLER = "sed -i 's/segmentation_sizes:.*/segmentation_sizes: [128]/' {}/params.yaml"
"""After `fade new`: images as small as the demo's, which take a fifth of the time."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, interpreter: Interpreter) -> Iterator[Path]:
    """A finished small demo, with images of one's own beside it."""
    folder = tmp_path_factory.mktemp("docs") / "clone"
    folder.mkdir()
    make_parts(folder)
    make_demo(folder, environment(folder, interpreter.python))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_every_block_runs_or_says_why_not() -> None:
    found = [block for file in documents() for block in blocks(file)]
    assert len(found) > 10
    for block in found:
        assert block.reason or block.file in OWN_FOLDER, f"{block.file}:{block.line} is not run"
        assert block.reason is None or len(block.reason) > 10, f"{block.file}:{block.line}: why?"


@pytest.mark.parametrize("file", OWN_FOLDER)
def test_the_commands_of_a_document(file: str, demo: Path, interpreter: Interpreter) -> None:
    folder = demo / OWN_FOLDER[file]
    if not folder.exists():
        folder.mkdir()
        make_parts(folder)
    script = "\n".join(block.text for block in blocks(file) if block.reason is None)
    script = NEW.sub(lambda found: f"{found[0]}\n{SMALLER.format(found[1])}", script)
    ran = shell(script, folder, environment(demo, interpreter.python))
    assert ran.returncode == 0, f"{script}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    if file == "README.md":
        _check_readme(ran.stdout, demo)


def _check_readme(said: str, demo: Path) -> None:
    assert "Data and pipelines are up to date" in said
    (row,) = [line for line in said.splitlines() if line.startswith("| mean")][:1] or [""]
    assert any(digit in row for digit in "0123456789"), (
        said
    )  # numbers on both sides, no dashes alone
    assert (demo / INSPECTION / "results" / "report" / "index.html").is_file()
    assert (demo / INSPECTION / "decisions" / "predictions.csv").is_file()
    assert (demo / INSPECTION / "bottle.fade").is_file()
