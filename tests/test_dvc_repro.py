"""The promises about what runs again, by DVC itself in a clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from fade.errors import StoreError
from pipeline.config.originals import TEMPLATE
from pipeline.inference.run import FinishedRun
from tests.interpreter import Interpreter
from tests.projects import GOLDEN, ROOT, STAGES, changed, golden_params

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

COPIED = (
    "fade", "cache", "pipeline", "stages", "prompts", "dvc.yaml", "params.yaml",
    ".dvc/config", ".dvcignore", ".gitignore",
)  # fmt: skip


class Clone:
    """A git clone of the project with small parameters, and the data beside it.

    Args:
        folder: of both.
        checkpoint: weights of the golden model.
        python: the program that runs DVC, and stages for it.
    """

    def __init__(self, folder: Path, checkpoint: Path, python: Path = Path(sys.executable)) -> None:
        self.folder, self.images, self.python = folder / "clone", folder / "images", python
        shutil.copytree(GOLDEN / "images", self.images)
        for name in COPIED:
            source, target = ROOT / name, self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        content = golden_params("fewshot1_both_seed0", checkpoint)
        content = changed(
            content,
            dataset__path=str(self.images),
            dataset__watch=str(self.images),
            features__segmentation_sizes=[96],
            vision__seeds=[0, 1],
            threshold__images=2,
            evaluate__size=64,
        )
        self.write(_merge(yaml.safe_load(TEMPLATE.read_text()), content))
        self.git("init", "-q")
        self.commit()

    def write(self, content: dict[str, Any]) -> None:
        text = yaml.safe_dump(content, sort_keys=False)
        (self.folder / "params.yaml").write_text(text, encoding="utf-8")

    def set(self, **leaves: Any) -> None:
        file = self.folder / "params.yaml"
        self.write(changed(yaml.safe_load(file.read_text()), **leaves))

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode()

    def experiment(self, name: str) -> str:
        """The commit of an experiment."""
        (line,) = (r for r in self.git("show-ref").splitlines() if r.endswith(f"/{name}"))
        return line.split()[0]

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "state")

    def dvc(self, *arguments: str) -> str:
        """Output of a DVC command; its failure fails the test."""
        done = subprocess.run(
            [self.python, "-m", "dvc", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
                "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
                "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def segments(self) -> int:
        """Published segments of image features."""
        return len(list((self.folder / ".fade" / "store").glob("spaces/*/index/*.json")))


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        base[key] = _merge(base[key], value) if both else value
    return base


def ran(output: str) -> tuple[str, ...]:
    """Stages that a `dvc repro` ran."""
    return tuple(re.findall(r"Running stage '(\w+)'", output))


def computed(output: str) -> int:
    """Images that the extract stage computed."""
    (count,) = re.findall(r", (\d+) to compute", output)
    return int(count)


def searched(output: str) -> int:
    """Images whose nearest neighbours were searched."""
    return sum(int(n) for n in re.findall(r"(\d+) images? searched now", output))


@pytest.fixture(scope="module")
def clone(
    tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path, interpreter: Interpreter
) -> Clone:
    found = Clone(tmp_path_factory.mktemp("dvc"), golden_checkpoint, interpreter.python)
    output = found.dvc("repro")
    assert ran(output) == ("code", *STAGES)
    assert computed(output) == 40  # 32 test images, 2 references for each seed, 4 to calibrate on
    found.commit()
    return found


def test_nothing_runs_when_nothing_changed(clone: Clone) -> None:
    """Not even where a file was written again, with its content."""
    file = clone.images / "weave/test/good/000.png"
    file.write_bytes(file.read_bytes())
    assert ran(clone.dvc("repro")) == ()


def test_a_fusion_weight_runs_evaluate_and_report(clone: Clone) -> None:
    FinishedRun(clone.folder)
    clone.set(fusion__vision_weight=0.4)
    with pytest.raises(StoreError, match=r"changed since the run \(fusion\.vision_weight\)"):
        FinishedRun(clone.folder)
    assert ran(clone.dvc("repro")) == ("evaluate", "report")
    FinishedRun(clone.folder)
    assert "fusion.vision_weight" in clone.dvc("params", "diff")
    metrics = clone.dvc("metrics", "diff", "--all")
    assert "full_pixel_auroc" in metrics
    assert "shots1.full_image_auroc" in metrics
    assert "index.html" in clone.dvc("plots", "show")
    page = (clone.folder / "dvc_plots" / "index.html").read_text()
    assert "<script src" not in page
    assert "http" not in re.sub(r"http://www\.w3\.org", "", page)


def test_a_text_classifier_runs_no_extraction_and_no_search(clone: Clone) -> None:
    clone.set(text__segmentation__classifier="softmax")
    output = clone.dvc("repro")
    assert ran(output) == ("text", "stream", "score_language", "evaluate", "report")
    assert searched(output) == 0


def test_a_shot_more_extracts_only_new_references(clone: Clone) -> None:
    clone.set(vision__shots=[1, 2])
    output = clone.dvc("repro")
    assert ran(output) == (
        "select", "extract", "bank", "stream", "score_vision", "evaluate", "report",
    )  # fmt: skip
    assert computed(output) == 4


def test_one_more_test_image_computes_one(clone: Clone) -> None:
    image = Image.open(clone.images / "weave/test/good/000.png").convert("RGB")
    image.rotate(90).save(clone.images / "weave/test/good/0055.png")
    output = clone.dvc("repro")
    assert "bank" not in ran(output)
    assert computed(output) == 1
    assert searched(output) == 1


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("fade/metrics.py", ("code", "evaluate", "report")),
        ("pipeline/report/report.html.j2", ("code", "report")),
    ],
)
def test_a_remark_in_the_code_runs_what_reaches_it(
    clone: Clone, file: str, again: tuple[str, ...]
) -> None:
    comment = "{# a remark #}" if file.endswith(".j2") else "# a remark"
    with (clone.folder / file).open("a", encoding="utf-8") as code:
        code.write(f"{comment}\n")
    assert ran(clone.dvc("repro")) == again
    assert "up to date" in clone.dvc("status", *STAGES)


def test_experiments_find_the_store(clone: Clone) -> None:
    """In the workspace, in a temporary one, and from the queue: nothing is extracted again.

    The first also tells what a quantile runs again.
    """
    clone.commit()
    before = clone.segments()
    output = clone.dvc("exp", "run", "-n", "here", "-S", "threshold.quantile=0.9")
    assert ran(output) == ("evaluate", "report")
    apart = ("--temp", "-n", "apart", "-S", "fusion.vision_weight=0.2", "score_vision")
    output = clone.dvc("exp", "run", *apart)
    assert computed(output) == 0
    assert searched(output) == 0
    # the queue's folder is made as the temporary one: its later stages would be those once more
    clone.dvc("exp", "run", "--queue", "-n", "later", "-S", "fusion.vision_weight=0.1", "extract")
    clone.dvc("exp", "run", "--run-all")
    assert clone.segments() == before
    shown = clone.dvc("exp", "show", "--csv", "--no-pager")
    for name in ("here", "apart", "later"):
        assert name in shown
    listed = clone.dvc("exp", "list", "--name-only", "--all-commits").split()
    for name in listed:
        files = clone.git("ls-tree", "-r", "--name-only", clone.experiment(name))
        assert not re.search(r"^(artefacts|results)/", files, re.MULTILINE)


def test_a_store_that_is_gone_comes_back(clone: Clone) -> None:
    shutil.rmtree(clone.folder / ".fade" / "store")
    clone.set(text__classification__classifier="max")
    with pytest.raises(AssertionError, match="run `fade run` again"):
        clone.dvc("repro")
    output = clone.dvc("repro")
    assert computed(output) == 45
    assert ran(output)[-1] == "report"
