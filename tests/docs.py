"""Code blocks of the documents, and a shell that runs them as they are written, in their order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.projects import GOLDEN, ROOT

SHELLS = ("bash", "console", "sh", "shell", "zsh")
_FENCE = re.compile(
    r"(<!-- not run: (?P<reason>[^\n]*?) -->\n)?"
    r"^[ ]*```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^[ ]*```[ ]*$",
    re.S | re.M,
)
SMALL = {
    "dataset": {"limit": 2, "categories": None},
    "features": {"segmentation_sizes": [128]},
    "vision": {"shots": [0, 1], "seeds": [0]},
    "evaluate": {"size": 128},
    "threshold": {"images": 2},
}
"""Parameters of a demo that takes seconds."""


@dataclass(frozen=True)
class Block:
    """A block of commands.

    Attributes:
        file: that holds it, relative to the repository.
        line: of its first command.
        text: as it is written.
        reason: why it cannot run in a test; None if it can.
    """

    file: str
    line: int
    text: str
    reason: str | None


def documents() -> list[str]:
    """The files whose commands people type."""
    return [
        "README.md",
        "CONTRIBUTING.md",
        *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
    ]


def blocks(file: str) -> list[Block]:
    """The blocks of shell commands of a document, in order."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return [
        Block(file, text.count("\n", 0, found.start("text")) + 1, found["text"], found["reason"])
        for found in _FENCE.finditer(text)
        if found["kind"] in SHELLS
    ]


def environment(folder: Path, python: Path) -> dict[str, str]:
    """Where ``fade``, ``dvc`` and ``python`` are those of an interpreter and this code."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, module in (("fade", "pipeline.cli.main"), ("dvc", "dvc")):
        program = tools / name
        program.write_text(f'#!/bin/sh\nexec "{python}" -P -m {module} "$@"\n')
        program.chmod(0o755)
    path = os.pathsep.join([str(tools), str(python.parent), os.environ["PATH"]])
    return {
        **os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.com", "HOME": str(folder),
    }  # fmt: skip


def shell(
    script: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run commands in a folder; the first that fails ends them."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def make_parts(folder: Path) -> None:
    """``parts``, with the products bottle and cable, and ``new``, with images of them."""
    few = shutil.ignore_patterns("00[2-9]*")
    for name, source in (("bottle", "plate"), ("cable", "weave")):
        images, parts = GOLDEN / "images" / source, folder / "parts" / name
        for part in ("train/good", "test/good"):  # six good ones: `--limit 5` leaves one out
            shutil.copytree(images / part, parts / part)
        for part in ("test", "ground_truth"):
            shutil.copytree(images / part / "hole", parts / part / "hole", ignore=few)
    (folder / "new").mkdir()
    shutil.copy(
        GOLDEN / "images" / "plate" / "test" / "hole" / "000.png", folder / "new" / "007.png"
    )


def make_demo(folder: Path, environment: dict[str, str]) -> None:
    """What ``make demo`` leaves, of a smaller demo: a project in git whose pipeline has run."""
    made = shell("fade new . --preset demo --data parts", folder, environment)
    assert made.returncode == 0, made.stderr
    file = folder / "params.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    for section, leaves in SMALL.items():
        content[section].update(leaves)
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").write_text("")
    (folder / ".gitignore").open("a").write("/bin/\n/parts/\n/new/\n/before/\n/.cache/\n")
    run = shell("git add . && git commit -qm start && fade run", folder, environment)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
