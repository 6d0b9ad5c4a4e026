"""From the start of a process to its first decision, by a bundle with ONNX and by one with torch.

Bundles are made here, of one reference of noise; decisions mean nothing. Each run is a process of its
own, ours and torch's in turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.machine import Machine
from benchmarks.table import Row, in_turn
from pipeline.config.values import DEMO_MODEL
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.run import FinishedRun

ROOT = Path(__file__).parent.parent
STAGES = (
    "manifest", "select", "extract", "text", "bank", "score_language", "score_vision", "evaluate",
)  # fmt: skip


RUN = """
import importlib, sys
from pipeline.config.load import load_params
for stage in sys.argv[1:]:
    importlib.import_module(f"stages.{stage}").run(load_params())
"""
"""One process for all stages, so that the packages are imported once."""


def _images(folder: Path, size: int) -> Path:
    """A data set of noise; an image to decide about."""
    for name in ("train/good/0", "train/good/1", "train/good/2", "test/good/3", "test/bad/4"):
        path = folder / "part" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(int(name[-1])).integers(0, 256, (size, size, 3))
        Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def finished_run(folder: Path, name: str, weights: str, size: int) -> tuple[FinishedRun, Path]:
    """A finished run of a model at one size."""
    image = _images(folder / "images", size)
    use = {"prompts": [{"normal": ["good"], "abnormal": ["bad"]}], "use_classname": False}
    params: dict[str, Any] = {
        "dataset": {"format": "folder", "path": "images", "watch": "images"},
        "model": {"name": name, "pretrained": weights},
        "features": {"classification_size": size, "segmentation_sizes": [size]},
        "text": {
            "classification": {**use, "feature": "clip"}, "segmentation": {**use, "feature": "gem"},
        },
        "vision": {"feature": "clip", "shots": [1], "seeds": [0], "query_in_bank": False},
        "fusion": {"classification_mode": "both", "segmentation_mode": "both"},
        "evaluate": {"size": size},
        "cluster": {"kind": "synchronous"},
    }  # fmt: skip
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (folder / ".dvc").mkdir()
    subprocess.run(
        [sys.executable, "-c", RUN, *STAGES],
        cwd=folder, check=True, env=environment(), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return FinishedRun(folder), image


def environment() -> dict[str, str]:
    """Of a process that runs this code."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def decide(image: Path, *options: str, folder: Path = ROOT) -> str:
    """The decision about an image, by ``fade predict`` in a folder."""
    command = [
        sys.executable,
        "-m",
        "pipeline.cli.main",
        "predict",
        str(image),
        "--category",
        "part",
    ]
    done = subprocess.run(
        [*command, "--json", *options],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 10):  # 10: the image is anomalous
        raise RuntimeError(done.stderr)
    return str(json.loads(done.stdout)["decision"])


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    rows = []
    models = [(DEMO_MODEL, DEMO_MODEL, 128, (0.3, 0.3))]
    if not quick:
        models.append(("ViT-B-16-plus-240", "seeded", 240, (1.5, 0.8)))
    for name, weights, size, targets in models:
        with tempfile.TemporaryDirectory() as place:
            run, image = finished_run(Path(place), name, weights, size)
            plain, exact, short = (
                Path(place) / f"{kind}.fade" for kind in ("torch", "fp32", "int8")
            )
            write_bundle(run, plain, with_weights=True)
            write_bundle(run, exact, onnx="fp32")
            write_bundle(run, short, onnx="int8")
            bundles = {"torch": plain, "fp32": exact, "int8": short}
            sides = {
                kind: partial(decide, image, "--bundle", str(one)) for kind, one in bundles.items()
            }
            found = in_turn(sides, 3 if name == DEMO_MODEL else 2)
        theirs, decision = found["torch"]
        assert found["fp32"][1] == decision
        for kind, target in zip(("fp32", "int8"), targets, strict=True):
            ours, _ = found[kind]
            row = f"start to first decision, {name} at {size}, ONNX {kind} for torch"
            rows.append(Row(row, ours, theirs, f"{target} s", ours <= target))
    return rows
