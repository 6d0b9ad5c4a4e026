"""What a person waits for: the command line's help, and a `dvc repro` with nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.machine import Machine, seconds
from benchmarks.table import Row

ROOT = Path(__file__).parent.parent


def _run(*command: str, folder: Path = ROOT) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _project(folder: Path) -> None:
    """A small project of random images that has run once."""
    rng = np.random.default_rng(0)
    for part, count in (("train/good", 4), ("test/good", 3), ("test/hole", 3)):
        (folder / "images" / "thing" / part).mkdir(parents=True)
        for i in range(count):
            noise = rng.integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(folder / "images" / "thing" / part / f"{i:03}.png")
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["dataset"] |= {"format": "mvtec", "path": "images", "watch": "images"}
    content["model"] |= {"pretrained": "seeded"}
    content["features"] |= {"classification_size": 240, "segmentation_sizes": [240]}
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    for package in ("fade", "cache", "pipeline", "stages", "prompts"):
        shutil.copytree(ROOT / package, folder / package)
    _run("dvc", "init", "--no-scm", folder=folder)
    _run("dvc", "repro", folder=folder)


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark; a quick run leaves the project out."""
    shown = seconds(lambda: _run("pipeline.cli", "--help"), 3)
    rows = [Row("fade --help", shown, None, "0.5 s", shown < 0.5)]
    if not quick:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _project(folder)
            output = _run("dvc", "repro", folder=folder)
            assert "Running stage" not in output, output
            idle = seconds(lambda: _run("dvc", "repro", folder=folder), 3)
        rows.append(Row("dvc repro with no change", idle, None, "5 s", idle < 5))
    return rows
